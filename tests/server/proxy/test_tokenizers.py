"""Tokens of the models that answer: exact where their file is at hand, estimated upwards where it is not.

The length of a model's context is what the upstream says of it, once it has answered.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from support.proxies import engine_of, proxied, user

from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.adapters.llama_cpp.vocabulary import Vocabulary
from membank_llama.core.errors import ModelFileError
from membank_llama.server.proxy.tokenizers import ContextLengths, EstimatedTokenizer, Tokenizers

TEXT = "My sister Ana lives in Porto, in the Rua das Flores 12.\n"


def test_exact_is_what_the_model_counts(recall_tiny: Path) -> None:
    llm = llama_cpp.Llama(str(recall_tiny), n_ctx=64, verbose=False)
    exact = FileVocabulary(recall_tiny)
    try:
        assert exact.count(TEXT) == Vocabulary(llm).count(TEXT) > 0
        assert set(exact.controls) == set(Vocabulary(llm).controls)
        assert exact.with_context(99).n_ctx == 99
        assert not exact.with_context(99).is_clean("<|im_end|>")
        assert exact.with_context(99).is_clean(TEXT)
    finally:
        exact.close()
        llm.close()


def test_estimated_is_never_less_for_plain_text(recall_tiny: Path) -> None:
    exact = FileVocabulary(recall_tiny)
    assert EstimatedTokenizer(1000).count(TEXT) >= len(TEXT) // 3
    assert not EstimatedTokenizer(1000).is_clean("<|eot_id|>")
    assert EstimatedTokenizer(1000).is_clean(TEXT)
    exact.close()


def test_read_in_the_background(recall_tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    places = {"toy": recall_tiny, "broken": tmp_path / "broken.gguf"}
    vocabularies = Tokenizers(places.get)
    assert isinstance(vocabularies.get("toy", 512), EstimatedTokenizer)
    deadline = time.monotonic() + 30
    while isinstance(vocabularies.get("toy", 512), EstimatedTokenizer) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert vocabularies.get("toy", 512).n_ctx == 512
    assert "<|im_start|>" in vocabularies.get("toy", 512).controls
    for name in ("broken", "elsewhere"):
        vocabularies.get(name, 512)
    vocabularies.close()
    assert isinstance(Tokenizers(places.get).get("nowhere", 512), EstimatedTokenizer)
    with pytest.raises(ModelFileError):
        FileVocabulary(places["broken"])


# -- contexts


def test_a_context_is_learned_from_what_is_behind(tmp_path: Path, recall_tiny: Path) -> None:
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny, n_ctx=768)) as running:
        assert running.memory.context_of("recall-tiny") is None
        running.chat(user("Hello."))
        deadline = time.monotonic() + 30
        while running.memory.context_of("recall-tiny") is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running.memory.context_of("recall-tiny") == running.memory.context_of("recall-tiny:latest") == 768
        assert running.memory.context_of("other") is None


def test_answers_that_hold_no_context() -> None:
    answers = iter([b"no JSON", b"[]", b'{"models": 5}', b'{"models": [{"model": "m", "context_length": "x"}, 7]}'])

    class Odd:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            body = next(answers) if scope["path"] == "/api/ps" else b'{"done": true, "response": "yes"}'
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

        async def close(self) -> None:
            return

    async def look() -> None:
        contexts = ContextLengths(Odd())
        for number in range(4):
            contexts.answered(f"m{number}")
            await asyncio.sleep(0.01)
        assert contexts.of("m") is None
        await contexts.close()

    asyncio.run(look())
