"""Packing, expiry, moving to another model: interrupted anywhere, the bank is as it was."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.banks import FACTS, files_with, numbered, open_bank, texts

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import BankReadOnlyError, ModelMismatchError
from membank_llama.core.types import NewMemory, Vector
from membank_llama.memory.bank import MemBank


class Failing(MockAdapter):
    """Stops after so many batches, as a process that is interrupted would."""

    def __init__(self, hidden_dim: int, batches: int) -> None:
        super().__init__(hidden_dim)
        self.left = batches
        self.encoded = 0

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.encoded += len(texts)
        return super().encode_batch(texts)


def activations(path: Path) -> list[str]:
    return sorted(p.name for p in path.glob("activations-*"))


def test_what_was_forgotten_is_in_no_file_after_gc(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        secret = bank.ingest("The zanzibarquux is buried at 48.8584 degrees", {"where": "underneathwillow"})
        vector = bank.store.buffer.read(bank.get(secret.memory_id).slot).tobytes()
        bank.rebuild_indexes()
        assert files_with(tmp_path, b"zanzibarquux")
        coarse = bank.store.hierarchy.index_rows(
            bank.store.codes(np.array([bank.get(secret.memory_id).slot]), 2), bank.store.hierarchy.dim
        ).tobytes()
        assert len(files_with(tmp_path, vector[:200])) == 1, "the activation file"
        assert len(files_with(tmp_path, coarse)) == 1, "the index"
        assert bank.forget(secret.memory_id) == 1
        assert bank.recall("zanzibarquux")[0].memory_id != secret.memory_id
        report = bank.gc()
        assert report["freed_slots"] == 1
        for needle in (b"zanzibarquux", b"underneathwillow", b"48.8584", vector[:200], coarse):
            assert files_with(tmp_path, needle) == []
        assert bank.verify().ok
        assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
    for needle in (b"zanzibarquux", b"underneathwillow", vector[:200], coarse):
        assert files_with(tmp_path, needle) == []


def test_a_forgotten_text_that_shared_its_activation_leaves_too(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest("sister Ana lives in Porto")
        bank.ingest("Porto sister Ana lives in xylographic", namespace="other")
        twin = bank.ingest("lives sister Ana, in: Porto!", {"tag": "quuxmark"})
        assert bank.get(twin.memory_id).slot == bank.get(1).slot
        bank.forget([twin.memory_id, 2])
        bank.gc()
        for needle in (b"quuxmark", b"xylograph", b"in: Porto!"):
            assert files_with(tmp_path, needle) == []
        assert bank.verify().ok


def test_gc_packs_and_keeps_everything(tmp_path: Path) -> None:
    with open_bank(tmp_path, codec="digits") as bank:
        bank.ingest_many(numbered(1200))
        size = bank.stats()["bytes"]["activations"]
        bank.forget(range(1, 1001))
        before = {memory.id: memory.text for memory in bank.memories()}
        report = bank.gc()
        assert report["expired"] == 0
        assert report["freed_slots"] == 1000
        assert report["freed_bytes"] > 0
        assert bank.stats()["bytes"]["activations"] < size / 3
        assert bank.stats()["slots"] == {"total": 200, "free": 0}
        assert activations(tmp_path) == ["activations-2.bin"]
        assert {memory.id: memory.text for memory in bank.memories()} == before
        assert bank.verify().ok
        assert texts(bank.recall("note 1100", 1)) == [before[1101]]
        assert bank.gc()["freed_slots"] == 0
        assert activations(tmp_path) == ["activations-2.bin"]


def test_gc_keeps_the_index(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(numbered(200))
        bank.rebuild_indexes()
        bank.forget([5])
        bank.gc()
        assert bank.stats()["indexes"]["default"] == {"graph": 199, "tail": 0, "removed": 0}
    with caplog.at_level(logging.WARNING, "membank_llama"), open_bank(tmp_path) as bank:
        assert texts(bank.recall("note 77", 1)) == [bank.get(78).text]
        assert bank.store.indexes.get("default").graph_count == 199
    assert caplog.records == []


def test_expired_memories_are_invisible_and_collected_unless_pinned(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        gone = bank.ingest("the train leaves at nine", expires_at=1.0).memory_id
        kept = bank.ingest("the train needs a reservation", expires_at=1.0, pinned=True).memory_id
        late = bank.ingest("the train is blue", expires_at=4e9).memory_id
        assert {result.memory_id for result in bank.recall("train")} == {kept, late}
        assert bank.gc()["expired"] == 1
        assert {memory.id for memory in bank.memories()} == {kept, late}
        bank.pin(kept, False)
        assert bank.gc()["expired"] == 1
        assert gone not in {memory.id for memory in bank.memories()}
        assert bank.verify().ok


def test_told_again_after_it_expired_it_is_back(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        first = bank.ingest("the train leaves at nine", expires_at=1.0)
        assert bank.recall("train") == []
        assert bank.ingest("the train leaves at nine").memory_id == first.memory_id
        assert texts(bank.recall("train")) == ["the train leaves at nine"]


def test_moved_to_another_model(tmp_path: Path) -> None:
    with open_bank(tmp_path, 64) as bank:
        bank.ingest_many(FACTS)
        bank.ingest("elsewhere", namespace="work")
        bank.rebuild_indexes()
        steps: list[tuple[str, int, int]] = []
        assert bank.reencode(MockAdapter(hidden_dim=96), lambda *step: steps.append(step)) == 7
        assert steps[-1] == ("re-encoding", 7, 7)
        assert bank.model.dim == 96
        assert texts(bank.recall("sister", 1)) == [FACTS[0]]
        assert bank.ingest("and one more").dims == 96
        assert bank.verify().ok
    assert activations(tmp_path) == ["activations-2.bin"]
    with pytest.raises(ModelMismatchError):
        open_bank(tmp_path, 64)
    with open_bank(tmp_path, 96) as bank:
        assert texts(bank.recall("sister", 1)) == [FACTS[0]]
        assert bank.verify().ok


def test_an_interrupted_move_leaves_the_bank_and_goes_on(tmp_path: Path) -> None:
    with open_bank(tmp_path, 64) as bank:
        bank.ingest_many(numbered(200))
    new = Failing(96, batches=3)
    with MemBank(new, tmp_path, repair=True) as bank, pytest.raises(KeyboardInterrupt):
        bank.reencode()
    with open_bank(tmp_path, 64) as bank:
        assert bank.verify().ok
        assert texts(bank.recall("note 77", 1)) == [bank.get(78).text]
        bank.ingest("told in between")
        bank.forget([1, 2, 150])
    assert len(activations(tmp_path)) == 2
    new.left = 1000
    with MemBank(new, tmp_path, repair=True) as bank:
        assert bank.reencode() == 200 - 96 + 1 - 1
        assert bank.verify().ok, bank.verify().problems
        assert new.encoded == 96 + 104
        assert texts(bank.recall("told in between", 1)) == ["told in between"]
        assert bank.stats()["slots"] == {"total": 200, "free": 2}
        assert not bank.store.buffer.read(0).any(), "what was forgotten meanwhile is overwritten"
        bank.ingest_many(numbered(3, start=500))
        assert bank.stats()["slots"] == {"total": 201, "free": 0}
        assert bank.verify().ok
    assert len(activations(tmp_path)) == 1


def test_a_move_begun_to_one_model_is_not_continued_with_another(tmp_path: Path) -> None:
    with open_bank(tmp_path, 64) as bank:
        bank.ingest_many(numbered(100))
    with MemBank(Failing(96, batches=2), tmp_path, repair=True) as bank, pytest.raises(KeyboardInterrupt):
        bank.reencode()
    with MemBank(MockAdapter(hidden_dim=80), tmp_path, repair=True) as bank:
        assert bank.reencode() == 100
        assert bank.verify().ok
        assert texts(bank.recall("note 77", 1)) == [bank.get(78).text]


def test_gc_after_an_interrupted_move(tmp_path: Path) -> None:
    with open_bank(tmp_path, 64) as bank:
        bank.ingest_many(numbered(100))
    with MemBank(Failing(96, batches=2), tmp_path, repair=True) as bank, pytest.raises(KeyboardInterrupt):
        bank.reencode()
    with open_bank(tmp_path, 64) as bank:
        bank.forget([1])
        bank.gc()
        assert bank.verify().ok
        assert bank.reencode(MockAdapter(hidden_dim=96)) == 99
        assert bank.verify().ok


def test_what_is_told_while_moving_moves_too(tmp_path: Path) -> None:
    class Telling(MockAdapter):
        told = False

        def encode_batch(self, texts: Sequence[str]) -> Vector:
            if not self.told:
                self.told = True
                bank.store.add([NewMemory("late news")], MockAdapter(hidden_dim=64).encode("late news")[None])
                bank.forget(3)
            return super().encode_batch(texts)

    with open_bank(tmp_path, 64) as bank:
        bank.ingest_many(numbered(40))
        assert bank.reencode(Telling(96)) == 41
        assert bank.verify().ok, bank.verify().problems
        assert texts(bank.recall("late news", 1)) == ["late news"]


def test_recalling_and_telling_while_packing(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many([*numbered(600), *FACTS])
        done = threading.Event()
        failures: list[BaseException] = []

        def recall() -> None:
            try:
                while not done.is_set():
                    assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
            except BaseException as exc:
                failures.append(exc)

        def tell() -> None:
            try:
                for n in range(40):
                    bank.ingest(f"news {n}")
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=recall), threading.Thread(target=recall), threading.Thread(target=tell)]
        for thread in threads:
            thread.start()
        for n in range(6):
            bank.forget(range(50 * n + 1, 50 * n + 40))
            bank.gc()
        threads[2].join()
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert bank.stats()["memories"] == 600 - 6 * 39 + len(FACTS) + 40
        assert bank.verify().ok, bank.verify().problems


def test_a_reader_follows_packing_and_moving(tmp_path: Path) -> None:
    with open_bank(tmp_path, 64) as bank, open_bank(tmp_path, 64, read_only=True) as reader:
        bank.ingest_many([*numbered(50), *FACTS])
        assert texts(reader.recall("sister", 1)) == [FACTS[0]]
        bank.forget(range(1, 40))
        bank.gc()
        assert texts(reader.recall("sister", 1)) == [FACTS[0]]
        assert reader.verify().ok
        bank.reencode(MockAdapter(hidden_dim=64))
        assert texts(reader.recall("sister", 1)) == [FACTS[0]]


def test_a_reader_is_told_when_the_bank_has_moved_to_another_model(tmp_path: Path) -> None:
    with open_bank(tmp_path, 64) as bank, open_bank(tmp_path, 64, read_only=True) as reader:
        bank.ingest_many(FACTS)
        assert texts(reader.recall("sister", 1)) == [FACTS[0]]
        bank.reencode(MockAdapter(hidden_dim=96))
        with pytest.raises(ModelMismatchError, match="mock-1-96"):
            reader.recall("sister")


def test_verify_reports_each_kind_of_damage(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        assert bank.verify() == type(bank.verify())(checked=len(FACTS), problems=())
        store = bank.store
        offset = store.buffer.offset(2)
        with (tmp_path / "activations-1.bin").open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))
        with store.registry.transaction() as db:
            db.execute("UPDATE pointers SET ref_count = 4 WHERE slot = 1")
            db.execute("UPDATE pointers SET level1 = x'00' WHERE slot = 3")
            db.execute("UPDATE memories SET slot = 99 WHERE id = 6")
        problems = bank.verify().problems
        assert not bank.verify().ok
        for expected in ("slot 2, level 0: bytes do not match", "slot 1: 4 references", "slot 3, level 1", "memory 6"):
            assert any(expected in problem for problem in problems), problems
        assert not any("slot 2, level 1" in problem for problem in problems)
        # the texts are all there and everything else is made anew from them
        assert bank.reencode() == len(FACTS)
        assert bank.verify().ok, bank.verify().problems


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM postings WHERE memory_id = 1", "INSERT INTO postings VALUES (1, 1)", "DELETE FROM postings"],
)
def test_verify_compares_what_is_filed_with_the_memories(tmp_path: Path, damage: str) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        with bank.store.registry.transaction() as db:
            db.execute(damage)
        assert any(problem.startswith("words:") for problem in bank.verify().problems)
        bank.rebuild_indexes()
        assert bank.verify().ok


def test_a_reader_only_looks(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
    with open_bank(tmp_path, read_only=True) as reader:
        assert reader.verify().ok
        for write in (
            reader.gc,
            reader.reencode,
            reader.rebuild_indexes,
            lambda: reader.forget(1),
            lambda: reader.pin(1),
        ):
            with pytest.raises(BankReadOnlyError, match="read_only=True"):
                write()
