"""The one writer of a bank: all or nothing, shared activations, slots used again, what a kill leaves."""

from __future__ import annotations

import os
import random
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.banks import DIM, card, numbered, open_bank, open_store, python, unit_vectors, wait_for

from membank_llama.core.errors import (
    BankCorruptError,
    BankFormatError,
    BankLockedError,
    BankReadOnlyError,
    EncodingError,
    ModelError,
    ModelMismatchError,
)
from membank_llama.core.types import LEVELS, NewMemory
from membank_llama.store.maintenance import compact
from membank_llama.store.memory_writer import ModelCard, Places
from membank_llama.store.pointers import POINTER_BYTES, PointerRecord, model_tag
from membank_llama.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "bank")
    yield opened
    opened.close()


def slots(store: Store) -> dict[int, int]:
    """slot → references, as counted."""
    return dict(store.registry.rows("SELECT slot, ref_count FROM pointers ORDER BY slot"))


def test_memories_and_activations_are_stored_together(store: Store) -> None:
    vectors = unit_vectors(5)
    placed = store.add(numbered(5), vectors)
    assert [entry.is_new for entry in placed] == [True] * 5
    assert [entry.memory_id for entry in placed] == [1, 2, 3, 4, 5]
    where = np.array([entry.slot for entry in placed])
    assert (store.hierarchy.decode(store.codes(where, 0), 0) == vectors).all()
    for level in LEVELS:
        assert (store.scores(vectors[2], where, level).argmax()) == 2
    assert compact.verify(store).ok


def test_pointers_lead_to_their_bytes(store: Store) -> None:
    store.add(numbered(3), unit_vectors(3))
    records = store.registry.rows("SELECT level0, level1, level2 FROM pointers")
    assert {len(record) for row in records for record in row} == {POINTER_BYTES}
    for slot, pointers in store.pointers([0, 1, 2]).items():
        for level, pointer in zip(LEVELS, pointers, strict=True):
            data = store.deref(pointer)
            assert pointer.matches(data)
            assert (data == store.codes(np.array([slot]), level)[0]).all()
            assert (pointer.level, pointer.dims, pointer.model) == (level, DIM, model_tag(card().id))
        assert store.pointer_ids([slot])[slot] == tuple(pointer.ptr_id for pointer in pointers)
    assert isinstance(pointers[0], PointerRecord)


def test_a_text_is_stored_once_in_a_namespace(store: Store) -> None:
    vectors = unit_vectors(1)
    (first,) = store.add([NewMemory("same")], vectors)
    again = store.add([NewMemory("same"), NewMemory("other"), NewMemory("other")], unit_vectors(3))
    assert [entry.is_new for entry in again] == [False, True, False]
    assert again[0].memory_id == first.memory_id
    assert again[1].memory_id == again[2].memory_id
    (elsewhere,) = store.add([NewMemory("same", namespace="work")], vectors)
    assert elsewhere.is_new
    assert elsewhere.memory_id != first.memory_id
    assert store.registry.count() == 3
    assert compact.verify(store).ok


def test_equal_activations_share_a_slot_until_the_last_is_gone(store: Store) -> None:
    vectors = np.repeat(unit_vectors(1), 3, axis=0)
    placed = store.add([NewMemory("a"), NewMemory("b"), NewMemory("a", namespace="work")], vectors)
    assert {entry.slot for entry in placed} == {0}
    assert slots(store) == {0: 3}
    store.remove([placed[0].memory_id])
    store.remove([placed[1].memory_id, placed[1].memory_id, 77])
    assert slots(store) == {0: 1}
    assert store.buffer.read(0).any()
    assert compact.verify(store).ok
    store.remove([placed[2].memory_id])
    assert slots(store) == {0: 0}
    assert not store.buffer.read(0).any(), "overwritten with zeros"
    assert compact.verify(store).ok


def test_freed_slots_are_used_again(store: Store) -> None:
    store.add(numbered(6), unit_vectors(6))
    store.remove([2, 4])
    assert Places(store.registry.db, 10).free == [3, 1]
    vectors = unit_vectors(9)[6:]
    placed = store.add(numbered(3, start=6), vectors)
    assert [entry.slot for entry in placed] == [1, 3, 6]
    assert [entry.memory_id for entry in placed] == [7, 8, 9]
    assert store.buffer.n_slots == 7
    assert (store.hierarchy.decode(store.codes(np.array([1, 3, 6]), 0), 0) == vectors).all()
    assert compact.verify(store).ok


def test_a_bad_vector_stores_nothing(store: Store) -> None:
    bad = unit_vectors(3)
    bad[1] = 0
    with pytest.raises(EncodingError):
        store.add(numbered(3), bad)
    with pytest.raises(EncodingError):
        store.add(numbered(3), unit_vectors(3, DIM + 1))
    assert store.registry.count() == 0
    assert slots(store) == {}
    assert compact.verify(store).ok


def test_vectors_of_another_model_are_refused(store: Store) -> None:
    with pytest.raises(ModelMismatchError, match="to mock"):
        store.add(numbered(1), unit_vectors(1), model_id="other")
    assert store.registry.count() == 0


def test_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "bank"
    store = open_store(path)
    store.add(numbered(5), unit_vectors(5))
    store.indexes.rebuild()
    modes = {p.relative_to(path): stat.S_IMODE(p.stat().st_mode) for p in path.rglob("*")}
    store.close()
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert {mode for name, mode in modes.items() if name != Path("index")} == {0o600}
        assert modes[Path("index")] == 0o700
    assert {"bank.sqlite", "bank.sqlite-wal", "activations-1.bin", "writer.lock"} <= {str(name) for name in modes}


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    tmp_path.chmod(0o755)
    open_store(tmp_path).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755 or os.name != "posix"
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_one_writer_and_any_number_of_readers(store: Store) -> None:
    with pytest.raises(BankLockedError, match=f"process {os.getpid()}"):
        open_store(store.path)
    store.add(numbered(2), unit_vectors(2))
    readers = [open_store(store.path, read_only=True) for _ in range(2)]
    for reader in readers:
        assert reader.registry.count() == 2
        for write in (lambda r=reader: r.add(numbered(1), unit_vectors(1)), lambda r=reader: r.remove([1])):
            with pytest.raises(BankReadOnlyError, match="read_only=True"):
                write()
        reader.close()
    assert store.registry.count() == 2


def test_a_failed_open_gives_the_lock_back(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.add(numbered(1), unit_vectors(1))
    store.close()
    with pytest.raises(ModelMismatchError):
        open_store(tmp_path, DIM * 2)
    open_store(tmp_path).close()


def test_another_model_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path, ModelCard("sha-1", "Small Model", DIM))
    store.add(numbered(1), unit_vectors(1))
    store.close()
    with pytest.raises(ModelMismatchError) as caught:
        Store(tmp_path, ModelCard("sha-2", "Large Model", 2 * DIM))
    for part in ("Small Model", "sha-1", "Large Model", "sha-2", "membank reencode"):
        assert part in str(caught.value)
    store = Store(tmp_path, None)
    assert store.model == ModelCard("sha-1", "Small Model", DIM)
    store.close()


def test_a_new_bank_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="new bank"):
        Store(tmp_path / "bank", None)
    with pytest.raises(BankFormatError, match="no memories yet"):
        Store(tmp_path / "bank", None, read_only=True)


def test_the_codec_is_recorded(tmp_path: Path) -> None:
    open_store(tmp_path, codec="selection").close()
    store = open_store(tmp_path, codec="digits")
    assert store.hierarchy.codec_name == "selection"
    store.add(numbered(4), unit_vectors(4))
    assert compact.verify(store).ok
    store.close()


@pytest.mark.parametrize("damage", ["delete", "truncate", "header"])
@pytest.mark.parametrize("read_only", [False, True])
def test_lost_activations_are_noticed_on_open(tmp_path: Path, damage: str, read_only: bool) -> None:
    store = open_store(tmp_path)
    store.add(numbered(20), unit_vectors(20))
    store.close()
    path = tmp_path / "activations-1.bin"
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.write_bytes(b"garbage!" + path.read_bytes()[8:])
    with pytest.raises(BankCorruptError, match=r"texts are safe.*membank reencode"):
        open_store(tmp_path, read_only=read_only)
    store = open_store(tmp_path, repair=True)
    assert store.registry.count() == 20
    assert (tmp_path / "activations-1.damaged").exists() == (damage != "delete")
    store.close()


def test_repairing_twice_keeps_the_damaged_file(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.add(numbered(20), unit_vectors(20))
    store.close()
    path = tmp_path / "activations-1.bin"
    held = path.read_bytes()[:-10]
    path.write_bytes(held)
    for _ in range(2):
        open_store(tmp_path, repair=True).close()
    assert (tmp_path / "activations-1.damaged").read_bytes() == held


def test_a_file_left_by_an_interrupted_switch_is_removed(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    for number in (0, 2):
        (tmp_path / f"activations-{number}.bin").write_bytes(b"old memories")
    (tmp_path / "activations-1.damaged").write_bytes(b"kept")
    open_store(tmp_path, read_only=True).close()
    assert len(list(tmp_path.glob("activations-*"))) == 4
    store = open_store(tmp_path)
    assert sorted(p.name for p in tmp_path.glob("activations-*")) == ["activations-1.bin", "activations-1.damaged"]
    # packing that was interrupted begins anew, re-encoding goes on
    for kind, kept in (("encode", True), ("pack", False)):
        (tmp_path / "activations-2.bin").write_bytes(b"half of the memories")
        store.registry.set_meta("rewrite", {"kind": kind, "activations": "activations-2.bin"})
        store.close()
        store = open_store(tmp_path)
        assert (tmp_path / "activations-2.bin").exists() is kept
    store.close()


def test_bytes_on_disk(store: Store) -> None:
    store.add(numbered(10), unit_vectors(10))
    store.indexes.rebuild()
    sizes = store.nbytes()
    assert sizes["activations"] == store.buffer.offset(10)
    assert sizes["database"] > 10_000
    assert sizes["index"] > 10 * 4 * DIM


INGEST = """
    import sys
    from pathlib import Path
    from support.banks import numbered, open_bank
    start = int(sys.argv[2])
    with open_bank(Path(sys.argv[1])) as bank:
        print("open", flush=True)
        for first in range(start, start + 100_000, 16):
            results = bank.ingest_many(numbered(16, start=first), batch_size=8)
            if first % 5 == 0:
                bank.forget(results[0].memory_id)
                print("gone", first, flush=True)
            if first % 7 == 0:
                bank.gc()
            print("kept", first, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_writer_loses_nothing_it_had_committed(tmp_path: Path) -> None:
    path, choose = tmp_path / "bank", random.Random(5)
    kept: set[int] = set()
    gone: set[int] = set()
    start = 0
    for _ in range(6):
        with python(INGEST, path, start) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            time.sleep(0.02 + 0.25 * choose.random())
            os.kill(writer.pid, signal.SIGKILL)
            lines, _ = writer.communicate()
        for word, number in (line.split() for line in lines.splitlines() if line.count(" ") == 1):
            if word == "gone":
                gone.add(int(number))
            else:
                kept |= set(range(int(number), int(number) + 16))
        start = max(kept, default=0) + 1000
        with open_bank(path) as bank:
            report = bank.verify()
            assert report.ok, report.problems
            numbers = {int(memory.text.split(":")[0].removeprefix("note ")) for memory in bank.memories()}
            assert kept - gone <= numbers
            assert not gone & numbers
            bank.ingest(f"still writable after {start}")
            bank.forget(max(memory.id for memory in bank.memories()))
    assert len(kept) > 100


def test_threads_read_beside_the_writing_one(store: Store) -> None:
    vectors = unit_vectors(640)
    store.add(numbered(64), vectors[:64])
    done = threading.Event()
    failures: list[BaseException] = []
    reads = [0]

    def read() -> None:
        try:
            while not done.is_set():
                live = store.registry.live("default")
                where = np.array([slot for _, slot in live])
                assert len(store.scores(vectors[0], where, 1)) == len(live)
                ids, _ = store.indexes.get("default").search(vectors[0], 3)
                assert ids[0] == 1
                reads[0] += 1
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 1.5
    for first in range(64, 640, 16):
        store.add(numbered(16, start=first), vectors[first : first + 16])
        store.remove([first - 1])
        time.sleep(max(0, (end - time.monotonic()) / 100))
    wait_for(lambda: reads[0] > 10 or failures)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert reads[0] > 10
    assert compact.verify(store).ok
