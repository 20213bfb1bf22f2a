"""A bank that finds its axes: nothing encoded again, nothing lost, whenever it is interrupted."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from support.banks import FACTS, numbered, open_bank, open_store, python, texts, unit_vectors, wait_for

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core import background
from membank_llama.core.errors import BankCorruptError, BankReadOnlyError
from membank_llama.core.types import NewMemory
from membank_llama.hgns.axes import FEWEST
from membank_llama.memory.bank import MemBank
from membank_llama.store import index_plan
from membank_llama.store.maintenance import calibrate


class Counting(MockAdapter):
    encoded = 0

    def encode_batch(self, texts):  # type: ignore[no-untyped-def]
        self.encoded += len(texts)
        return super().encode_batch(texts)


def test_a_bank_that_grows_finds_its_axes(tmp_path: Path) -> None:
    adapter = Counting(hidden_dim=64)
    with MemBank(adapter, tmp_path) as bank:
        bank.ingest_many(numbered(FEWEST - 8))
        assert bank.stats()["axes"] is None
        before = {memory.id: bank.store.pointer_ids([memory.slot])[memory.slot] for memory in bank.memories()}
        encoded = adapter.encoded
        bank.ingest_many(FACTS)
        bank.ingest_many(numbered(2, start=5000))
        wait_for(lambda: bank.stats()["axes"] is not None)
        wait_for(lambda: not bank.store.worker.pending())
        assert adapter.encoded - encoded <= len(FACTS) + 2 + 48, "the new texts, and the gate's sentences once"
        assert bank.stats()["axes"]["calibrated_at"] in range(FEWEST - 2, FEWEST + 1)
        assert not bank.stats()["axes"]["corrects"]
        after = {memory.id: bank.store.pointer_ids([memory.slot])[memory.slot] for memory in bank.memories()}
        assert all(after[memory_id][0] == names[0] for memory_id, names in before.items()), "level 0 is what it was"
        assert all(after[memory_id][2] != names[2] for memory_id, names in before.items())
        assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
        assert bank.verify().ok, bank.verify().problems
    with open_bank(tmp_path) as bank:
        assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
        bank.forget(range(1, 40))
        bank.gc()
        assert bank.stats()["axes"]["calibrated_at"] in range(FEWEST - 2, FEWEST + 1)
        assert bank.verify().ok
        assert sorted(path.name for path in tmp_path.glob("activations-*")) == [bank.store.activations]


def test_and_finds_them_anew_at_eight_times_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "FEWEST", 32)
    monkeypatch.setattr(calibrate, "SETTLED", 1000)
    with open_bank(tmp_path) as bank:
        bank.ingest_many(numbered(32))
        steps: list[tuple[str, int, int]] = []
        bank.flush(progress=lambda *step: steps.append(step))
        assert ("calibrating", 32, 32) in steps
        assert bank.stats()["axes"]["calibrated_at"] == 32
        bank.ingest_many(numbered(200, start=100))
        assert bank.store.worker.pending() == ()
        first = bank.store.hierarchy.tag
        bank.ingest_many(numbered(24, start=400))
        bank.flush()
        assert bank.stats()["axes"]["calibrated_at"] == 256
        bank.ingest_many(numbered(1100, start=3000))
        assert bank.store.hierarchy.tag != first
        calibrate.recalibrate(bank.store)
        assert bank.stats()["axes"]["calibrated_at"] == 1000, "the sample is bounded"
        tag = bank.store.hierarchy.tag
        bank.ingest_many(numbered(100, start=2000))
        assert bank.store.hierarchy.tag == tag
        assert bank.verify().ok


KILLED = """
import sys, time
from support.banks import numbered, open_bank
from membank_llama.store.maintenance import rewrite
where = sys.argv[2]
def stop(*_, **__):
    print("here", flush=True)
    time.sleep(60)
bank = open_bank(sys.argv[1])
if where == "midway":
    original = rewrite.Rewrite.put
    def put(self, *given):
        original(self, *given)
        stop()
    rewrite.Rewrite.put = put
elif where == "before the switch":
    rewrite.Rewrite._switch = stop
else:
    from membank_llama.store import store
    store.Store.reload = stop
bank.ingest_many(numbered(256))
bank.flush()
"""


@pytest.mark.parametrize("where", ["midway", "before the switch", "after the switch"])
def test_killed_while_calibrating_the_bank_is_whole(tmp_path: Path, where: str) -> None:
    with python(KILLED, tmp_path / "bank", where) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "here\n"
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
    with open_bank(tmp_path / "bank") as bank:
        assert bank.stats()["memories"] == FEWEST
        assert (bank.stats()["axes"] is not None) == (where == "after the switch")
        assert bank.verify().ok, bank.verify().problems
        bank.ingest_many([*numbered(10, start=900), *FACTS])
        bank.flush()
        assert bank.stats()["axes"] is not None
        assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
        assert bank.verify().ok, bank.verify().problems
        assert len(list((tmp_path / "bank").glob("activations-*"))) == 1


def test_readers_follow(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank, open_bank(tmp_path, read_only=True) as reader:
        bank.ingest_many(FACTS)
        assert texts(reader.recall("sister", 1)) == [FACTS[0]]
        bank.ingest_many(numbered(300))
        bank.flush()
        assert bank.stats()["axes"] is not None
        assert texts(reader.recall("sister", 1)) == [FACTS[0]]
        assert reader.store.hierarchy.tag == bank.store.hierarchy.tag
        assert reader.verify().ok
        assert not calibrate.is_due(reader.store)
        with pytest.raises(BankReadOnlyError):
            calibrate.recalibrate(reader.store)


@pytest.mark.parametrize("damage", ["cut", "zeros", "gone"])
def test_damaged_axes_are_calculated_again(tmp_path: Path, damage: str) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many([*FACTS, *numbered(300)])
        bank.flush()
        with bank.store.registry.transaction() as db:
            db.execute(f"UPDATE axes SET data = {'substr(data, 1, 999)' if damage == 'cut' else 'zeroblob(9)'}")
            if damage == "gone":
                db.execute("DELETE FROM axes")
    with pytest.raises(BankCorruptError, match="membank reencode"):
        open_bank(tmp_path)
    with open_bank(tmp_path, repair=True) as bank:
        bank.reencode()
        assert bank.stats()["axes"] is not None
        assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
        assert bank.verify().ok, bank.verify().problems
    with open_bank(tmp_path) as bank:
        assert bank.stats()["memories"] == 300 + len(FACTS)


def test_a_bank_of_another_codec_keeps_it(tmp_path: Path) -> None:
    with open_bank(tmp_path, codec="digits") as bank:
        bank.ingest_many(numbered(300))
        assert bank.stats()["axes"] is None
        assert not calibrate.recalibrate(bank.store)
        assert bank.stats()["codec"]["codec"] == "digits"


def test_vectors_that_all_point_one_way_are_told_apart(tmp_path: Path) -> None:
    """As hidden states do: each is mostly a direction that all share."""

    class Leaning(MockAdapter):
        def _lean(self, rows):  # type: ignore[no-untyped-def]
            rows = rows.copy()
            rows[:, 5] += 4 + rows[:, 9]
            return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

        def encode(self, text):  # type: ignore[no-untyped-def]
            return self._lean(super().encode(text)[np.newaxis])[0]

        def encode_batch(self, texts):  # type: ignore[no-untyped-def]
            return self._lean(super().encode_batch(texts))

    with MemBank(Leaning(hidden_dim=64), tmp_path) as bank:
        bank.ingest_many([*FACTS, *numbered(300)])
        bank.flush()
        assert bank.stats()["axes"]["corrects"]
        best, second = bank.recall("My sister Ana lives in Porto now", 2)
        assert best.text == FACTS[0]
        assert best.final_score > second.final_score + 0.2
        assert best.score_l2 == pytest.approx(best.final_score, abs=0.15)


def test_the_index_of_leading_axes_finds_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_plan, "LARGE", ((1000, 4),))
    vectors = unit_vectors(1500, 64) * np.arange(1, 65) ** -0.7
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    store = open_store(tmp_path)
    store.add([NewMemory(f"text {n}") for n in range(900)], vectors[:900])
    calibrate.recalibrate(store, correct=False)
    whole = store.indexes.get("default").dim
    assert 16 < whole < 64
    store.add([NewMemory(f"text {n}") for n in range(900, 1500)], vectors[900:])
    store.indexes.drain()
    index = store.indexes.get("default")
    assert (index.dim, index.links, index.tail_count) == (16, index_plan.FEWER_LINKS, 0), "it has outgrown its axes"
    found, snapshot = 0, store.snapshots.get("default")
    for query in vectors[::15]:
        true = set((np.argsort(-(vectors @ query))[:5] + 1).tolist())
        found += len(true & set(store.nearest("default", snapshot, query, 32).tolist()))
    assert found >= 0.98 * 5 * 100
    store.close()
    store = open_store(tmp_path)
    assert store.indexes.get("default").dim == 16
    snapshot = store.snapshots.get("default")
    assert store.nearest("default", snapshot, vectors[70], 1).tolist() == [71]
    store.close()


def test_what_is_told_and_forgotten_meanwhile_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots are freed and taken again while they are being copied."""
    monkeypatch.setattr(calibrate, "BATCH", 16)
    monkeypatch.setattr(background, "BREATH", 0.005)
    rng = random.Random(3)
    with open_bank(tmp_path) as bank:
        # more than the fewest: what is forgotten first must not make them too few
        bank.ingest_many(numbered(FEWEST + 8))
        ids, n = list(range(1, FEWEST + 9)), 0
        while bank.store.worker.pending():
            n += 1
            # locks are not handed over in turn
            time.sleep(0.005)
            if n % 2:
                bank.forget(ids.pop(rng.randrange(len(ids))))
            else:
                ids.append(bank.ingest(f"told meanwhile {n}").memory_id)
        assert n > 2
        assert bank.stats()["axes"] is not None
        assert bank.verify().ok, bank.verify().problems
        for memory in bank.memories():
            held = bank.store.hierarchy.decode(bank.store.codes(np.array([memory.slot]), 0), 0)[0]
            assert held @ MockAdapter(hidden_dim=64).encode(memory.text) > 0.999, memory.text
            assert bank.recall(memory.text, 1)[0].text == memory.text


def damage(bank: MemBank, memory_id: int, value: int) -> None:
    """Overwrite an activation behind the bank's back."""
    slot = bank.get(memory_id).slot
    with (bank.path / bank.store.activations).open("r+b") as file:
        file.seek(bank.store.buffer.offset(slot))
        file.write(bytes([value]) * bank.store.hierarchy.slot_bytes)


@pytest.mark.parametrize("value", [0xFF, 0x00, 0x7F], ids=["not a number", "zeros", "huge"])
def test_a_damaged_activation_stops_no_ingest_and_stays_known(
    tmp_path: Path, value: int, caplog: pytest.LogCaptureFixture
) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(numbered(FEWEST - 3))
        damage(bank, 17, value)
        for text in FACTS:
            assert bank.ingest(text).is_new
        bank.flush()
        assert bank.stats()["axes"] is not None, "found from all the others"
        assert [problem[:8] for problem in bank.verify().problems] == ["slot 16,"], bank.verify().problems
        assert "level 0" in bank.verify().problems[0], "a copy of damage is not taken for sound"
        assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
        bank.forget(1)
        bank.gc()
        assert len(bank.verify().problems) == 1, "nor after packing"
        bank.reencode()
        assert bank.verify().ok, bank.verify().problems
    assert "failed" not in caplog.text
