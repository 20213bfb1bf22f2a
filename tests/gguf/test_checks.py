"""Files on which llama.cpp ends the process are refused before it sees them; any other is tried in a child first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.hostile_files import CHANGES, ENDED_LLAMA_CPP, RAW
from support.hostile_gguf import UINT32, Parts, changed

from membank_llama.adapters.llama_cpp import trial_load
from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.adapters.llama_cpp.loaded_model import LoadedModel
from membank_llama.core.errors import ModelFileError
from membank_llama.core.paths import default_cache
from membank_llama.gguf.checks import check_loadable


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMBANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trial_load, "_known", {})


@pytest.mark.parametrize("name", ENDED_LLAMA_CPP)
def test_what_ended_llama_cpp_is_told(tmp_path: Path, recall_tiny: Path, name: str) -> None:
    path = changed(recall_tiny, tmp_path / "m.gguf", CHANGES[name])
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        check_loadable(path)
    for opening in (LoadedModel, FileVocabulary):
        with pytest.raises(ModelFileError):
            opening(path)


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_file_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(RAW[name])
    with pytest.raises(ModelFileError):
        check_loadable(path)


def test_tokens_may_be_empty(tmp_path: Path, recall_tiny: Path) -> None:
    def emptied(parts: Parts) -> None:
        parts.array("tokenizer.ggml.tokens")[-3:] = [b"", b"", b"\0"]

    path = changed(recall_tiny, tmp_path / "m.gguf", emptied)
    check_loadable(path)
    assert LoadedModel(path).tokenize("hello", specials=False, add=False)


def test_sound_files_pass(recall_tiny: Path, tiny_gguf: Path, shared_models: Path) -> None:
    for path in (recall_tiny, tiny_gguf, *shared_models.glob("*.gguf")):
        check_loadable(path)


def test_a_file_is_tried_once(tmp_path: Path, recall_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Path] = []
    real = trial_load._tried
    monkeypatch.setattr(trial_load, "_tried", lambda path, only: (tried.append(path), real(path, only))[1])
    trial_load.prove(recall_tiny)
    trial_load.prove(recall_tiny, vocabulary_only=True)
    assert tried == [recall_tiny.resolve()]
    # and at the next start
    monkeypatch.setattr(trial_load, "_known", {})
    trial_load.prove(recall_tiny)
    assert len(tried) == 1
    assert (default_cache() / "models-tried.json").stat().st_mode & 0o077 == 0
    other = changed(recall_tiny, tmp_path / "m.gguf", lambda parts: parts.set("general.name", "another"))
    trial_load.prove(other, vocabulary_only=True)
    trial_load.prove(other)
    assert tried[1:] == [other, other]


def test_what_the_checks_do_not_know_ends_the_child_alone(
    tmp_path: Path, recall_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = changed(recall_tiny, tmp_path / "m.gguf", CHANGES["tokens all the same"])
    # as if nobody knew: the worker has the same checks, so llama.cpp is asked there by itself
    monkeypatch.setattr(trial_load, "check_loadable", lambda _: None)
    monkeypatch.setattr(trial_load, "_WORKER", "support.ending_worker:answer")
    for _ in range(2):
        with pytest.raises(ModelFileError, match="ends or never comes to an end"):
            trial_load.prove(path)
    assert "ends llama.cpp" in json.loads((default_cache() / "models-tried.json").read_text()).values()


def test_an_error_of_the_child_is_told_and_not_kept(tmp_path: Path, recall_tiny: Path) -> None:
    path = changed(recall_tiny, tmp_path / "m.gguf", lambda parts: parts.set("llama.embedding_length", 64, UINT32))
    with pytest.raises(ModelFileError, match="could not load"):
        trial_load.prove(path)
    assert not (default_cache() / "models-tried.json").exists()
