"""Every pre-tokenizer that llama.cpp knows: 120,000 characters of one kind end none of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hostile_gguf import STRING, changed
from support.tokenizer_survey import survives

KNOWN = """
    a.x-4.0 afmoe bailingmoe bloom chatglm-bpe codeshell command-r dbrx deepseek-coder deepseek-llm deepseek-r1-qwen
    deepseek-v3 default exaone exaone-moe exaone4 falcon falcon-h1 falcon3 gemma4 glm4 gpt-2 gpt-4o gpt3-finnish
    granite-docling granite-embed-multi-97m grok-2 hunyuan hunyuan-dense jais jais-2 jina-v2-code joyai-llm kanana2
    kimi-k2 lfm2 llama-bpe llama3 llama4 megrez mellum midm-2.0 minerva-7b minimax-m2 modern-bert mpt olmo pixtral
    poro-chat qwen2 qwen35 refact roberta-bpe sarvam-moe seed-coder smaug-bpe smollm solar-open stablelm2 starcoder
    superbpe tekken tiny_aya trillion viking youtu
"""


@pytest.mark.attack
@pytest.mark.parametrize("pre", KNOWN.split())
def test_one_kind_of_character(tmp_path: Path, recall_tiny: Path, pre: str) -> None:
    changed_file = changed(recall_tiny, tmp_path / "m.gguf", lambda p: p.set("tokenizer.ggml.pre", pre, STRING))
    survives(changed_file, 120_000)
