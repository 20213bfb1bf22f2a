"""Errors of others become ours, a switch of files under a reader is none, and what fails lets go of its files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from support.banks import FACTS, numbered, open_bank, texts

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import BankFormatError, BankStorageError, EncodingError, InvalidInputError, ModelError
from membank_llama.core.types import NewMemory, Vector
from membank_llama.gguf.ollama_manifest import Layer
from membank_llama.memory.bank import MemBank
from membank_llama.server.asgi import WireError
from membank_llama.server.engine.generation.generation_context import GenerationContext
from membank_llama.server.engine.library.model_store import ModelStore
from membank_llama.store import bank_records, codec_record, store
from membank_llama.store.bank_files import activation_name
from membank_llama.store.maintenance import calibrate


def open_files(name: str) -> list[str]:
    """Files of this process whose path holds a name."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(descriptor.readlink()))
        except OSError:
            continue
    return [path for path in found if name in path]


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")


# -- adapters


class Ragged(ModelAdapter):
    """An encoder of one's own, with mistakes."""

    def __init__(self, vector: Callable[[str], object]) -> None:
        self._vector = vector

    @property
    def hidden_dim(self) -> int:
        return 8

    def model_id(self) -> str:
        return "ragged-1"

    def encode(self, text: str) -> Vector:
        return self._vector(text)  # type: ignore[return-value]


MISTAKES: dict[str, Callable[[str], object]] = {
    "as long as the text": lambda text: np.ones(len(text), np.float32),
    "a list of lists": lambda text: [[1.0], [1.0, 2.0]],
    "nothing": lambda text: None,
    "a word": lambda text: "vector",
    "a number": lambda text: 1.0,
    "too many dimensions": lambda text: np.ones((1, 8), np.float32),
    "doubles": lambda text: np.ones(8),
    "no numbers": lambda text: np.full(8, np.nan, np.float32),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_vectors_of_an_adapter_of_ones_own(tmp_path: Path, mistake: str) -> None:
    adapter = Ragged(MISTAKES[mistake])
    with pytest.raises(EncodingError):
        MemBank(adapter, tmp_path / "validated")
    with MemBank(adapter, tmp_path / "bank", auto_validate_adapter=False) as bank:
        for use in (lambda: bank.ingest("one"), lambda: bank.ingest_many(["one", "three"]), lambda: bank.recall("one")):
            with pytest.raises(EncodingError):
                use()
        assert list(bank.memories()) == []


@pytest.mark.parametrize("when", [10**400, float("inf"), float("nan"), "x"])
def test_times_that_no_number_holds(tmp_path: Path, when: float) -> None:
    with open_bank(tmp_path) as bank:
        for item in (NewMemory("x", created_at=when), NewMemory("x", expires_at=when)):
            with pytest.raises(InvalidInputError, match="finite number"):
                bank.ingest_many([item])


# -- the system


def test_a_directory_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_bank(tmp_path / "bank").close()
    (tmp_path / "bank" / "index").rmdir()
    (tmp_path / "bank" / "index").write_text("a file")
    with pytest.raises(BankFormatError, match="index is no plain directory"):
        open_bank(tmp_path / "bank")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(BankStorageError, match="name a directory"):
        MemBank(MockAdapter())


def test_a_model_store_on_a_disk_that_refuses(tmp_path: Path) -> None:
    models = ModelStore(tmp_path)
    layer = models.put("model", b"weights")
    models.write("mine", [layer], models.put("config", b"{}"))
    manifest = models.manifest("mine")
    # a folder in the place of a file: no system lets it be written over or deleted as one
    (manifest.parent / "other").mkdir()
    with pytest.raises(WireError, match="could not be stored") as caught:
        models.write("mine:other", [layer], layer)
    assert caught.value.status == 507
    with pytest.raises(WireError, match="could not be deleted"):
        models.remove(manifest.parent / "other")
    (tmp_path / "blobs").rename(tmp_path / "kept")
    (tmp_path / "blobs").write_text("a file")
    with pytest.raises(WireError):
        models.put("model", b"other")
    assert not list(tmp_path.rglob(".new-*")), "nothing that was begun is left"
    assert isinstance(layer, Layer)


# -- a switch of files under a reader


@pytest.mark.parametrize("moment", ["before the encoding is read", "after the encoding is read", "the name is read"])
@pytest.mark.parametrize("switch", ["pack", "calibrate", "reencode"])
def test_a_reader_that_meets_a_switch_opens_what_is_there_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, switch: str
) -> None:
    with open_bank(tmp_path) as writer:
        writer.ingest_many([*FACTS, *numbered(400)])
        writer.forget(5)
        switches = {
            "pack": writer.gc,
            "calibrate": lambda: calibrate.recalibrate(writer.store, correct=True),
            "reencode": writer.reencode,
        }
        left = [2]

        def now() -> None:
            if left[0]:
                left[0] -= 1
                writer.forget(10 + left[0])
                with monkeypatch.context() as patch:
                    patch.setattr(store, "read_encoding", codec_record.read_encoding)
                    patch.setattr(store, "read_activations", bank_records.read_activations)
                    switches[switch]()

        def read_encoding(registry: object, *args: object, **options: object) -> object:
            if registry is writer.store.registry:
                return codec_record.read_encoding(registry, *args, **options)  # type: ignore[arg-type]
            if moment.startswith("before"):
                now()
            found = codec_record.read_encoding(registry, *args, **options)  # type: ignore[arg-type]
            if moment.startswith("after"):
                now()
            return found

        def read_activations(registry: object, **_: object) -> str:
            found = activation_name(registry.get_meta("activations"))  # type: ignore[attr-defined]
            if registry is not writer.store.registry and moment == "the name is read":
                now()
            return found

        monkeypatch.setattr(store, "read_encoding", read_encoding)
        monkeypatch.setattr(store, "read_activations", read_activations)
        with open_bank(tmp_path, read_only=True) as reader:
            assert left[0] < 2, "it met a switch"
            assert texts(reader.recall("Where does my sister Ana live?", 1)) == [FACTS[0]]
            assert reader.verify().ok
            for look in (lambda: reader.verify().ok, lambda: reader.recall("sister")):
                left[0] = 1
                now()
                assert look()
            assert texts(reader.recall("Where does my sister Ana live?", 1)) == [FACTS[0]]


def test_a_reencoding_is_not_given_up_for_new_axes(tmp_path: Path) -> None:
    class Slow(MockAdapter):
        """Others come in between its batches."""

        def encode_batch(self, texts: Sequence[str]) -> Vector:
            if len(texts) > 1:
                assert not calibrate.recalibrate(bank.store)
            return super().encode_batch(texts)

    with open_bank(tmp_path) as bank:
        bank.ingest_many([*FACTS, *numbered(300)])
        bank.flush()
        assert bank.reencode(Slow(64)) == len(FACTS) + 300
        assert bank.verify().ok


# -- what fails lets go


@needs_proc
@pytest.mark.parametrize("error", [RuntimeError("llama_decode failed"), KeyboardInterrupt(), EncodingError("no")])
def test_a_reencoding_that_breaks_off_lets_go_of_its_file(tmp_path: Path, error: BaseException) -> None:
    class Failing(MockAdapter):
        def encode(self, text: str) -> Vector:
            if text == FACTS[3]:
                raise error
            return super().encode(text)

    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        for _ in range(3):
            with pytest.raises(type(error)):
                bank.reencode(Failing(96))
        assert open_files("activations-2") == []
        assert bank.verify().ok
        assert bank.reencode() == len(FACTS)
        assert bank.verify().ok


@pytest.mark.parametrize("fails", ["_look", "_open", "_kv_cache"])
def test_a_model_that_cannot_be_set_up_is_freed(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    freed: list[str] = []
    for name in ("llama_free", "llama_model_free"):
        free = getattr(llama_cpp, name)
        monkeypatch.setattr(llama_cpp, name, lambda handle, free=free, name=name: (freed.append(name), free(handle)))

    def fail(*_: object) -> None:
        raise ModelError("there is no memory")

    monkeypatch.setattr(GenerationContext, fails, fail)
    with pytest.raises(ModelError, match="no memory"):
        GenerationContext(tiny_gguf, n_ctx=64, n_threads=1, n_gpu_layers=0)
    # the context is made in `_open`, ahead of what is kept of it
    assert freed == (["llama_free", "llama_model_free"] if fails == "_kv_cache" else ["llama_model_free"])
