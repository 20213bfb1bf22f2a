"""Tokens of the models that answer: exact where their file is at hand, estimated upwards where it is not."""

from __future__ import annotations

import time
from pathlib import Path

import llama_cpp
import pytest

from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.adapters.llama_cpp.vocabulary import Vocabulary
from membank_llama.core.errors import ModelFileError
from membank_llama.server.proxy.tokenizers import EstimatedTokenizer, Tokenizers

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
