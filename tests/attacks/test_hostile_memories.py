"""Hostile memories against real vocabularies: the tokenized block holds none of the model's control tokens.

Takes every GGUF below ``MEMBANK_ATTACK_MODELS`` (llama.cpp's ``ggml-vocab-*.gguf``, models of any kind) and those that
the other tests use.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import llama_cpp
import pytest
from support.hostile_texts import hostile
from support.places import MODELS, ROOT

from membank_llama.adapters.llama_cpp import file_vocabulary
from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.memory.prompt_block import BLOCK_CLOSE, Excerpt, Neutraliser, build_block
from membank_llama.server.proxy.tokenizers import EstimatedTokenizer

pytestmark = pytest.mark.attack

FOLDERS = [Path(folder) for folder in os.environ.get("MEMBANK_ATTACK_MODELS", "").split(os.pathsep) if folder]
FILES = sorted({path for folder in (MODELS, ROOT / "models", *FOLDERS) for path in folder.glob("*.gguf")})
POWER = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
TEXTS = 1000


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_no_control_token_gets_through(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a file of a vocabulary alone has no tensors, which a model's header must have
    monkeypatch.setattr(file_vocabulary, "check_loadable", lambda *_, **__: None)
    exact = FileVocabulary(path)
    try:
        vocab = llama_cpp.llama_model_get_vocab(exact._model.model)
        power = {
            token: llama_cpp.llama_vocab_get_text(vocab, token).decode("utf-8", "replace")
            for token in range(llama_cpp.llama_vocab_n_tokens(vocab))
            if llama_cpp.llama_vocab_get_attr(vocab, token) & POWER or llama_cpp.llama_vocab_is_eog(vocab, token)
        }
        tokens = [text for text in power.values() if text.strip()] or ["<s>"]
        chance = random.Random(7)
        estimated = EstimatedTokenizer(4096)
        blocks = 0
        for _ in range(TEXTS):
            said = [Excerpt(k, hostile(chance, tokens), "user", 1.7e9 + k) for k in range(chance.choice([1, 2, 3]))]
            for counter in (exact, estimated):
                block = build_block(said, 400, counter.count, Neutraliser(counter.controls))
                if not block.text or not counter.is_clean(block.text):
                    continue
                blocks += 1
                found = power.keys() & set(exact._vocabulary.tokens(block.text, special=True))
                assert [power[token] for token in found] == [], block.text
                assert block.text.count(BLOCK_CLOSE) == 1
        assert blocks > TEXTS
    finally:
        exact.close()
