"""Namespaces of one bank: none waits for another, none counts in another, and nobody waits for upkeep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.banks import FACTS, numbered, open_bank, open_store, texts, unit_vectors, wait_for

from membank_llama.core.types import NewMemory
from membank_llama.hgns.axes import FEWEST
from membank_llama.memory.bank import MemBank
from membank_llama.recall import relevance_gate
from membank_llama.recall.candidates import WHOLE_BELOW
from membank_llama.recall.engine import RecallEngine
from membank_llama.store import index_set
from membank_llama.store.index_set import IndexSet
from membank_llama.store.maintenance import calibrate
from membank_llama.store.maintenance.rewrite import Rewrite

LARGE = WHOLE_BELOW + 200
"""So many memories that a search asks the index."""


class Gate:
    """Holds up whoever passes, until it is opened."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A bank with two large namespaces and no saved graph."""
    with open_bank(tmp_path) as bank:
        bank.ingest_many([*numbered(LARGE, "mine"), *numbered(LARGE, "theirs", LARGE)], batch_size=512)
        bank.flush()
    for path in (tmp_path / "index").iterdir():
        path.unlink()
    return tmp_path


def test_reading_one_index_holds_nobody_up(two: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    original = IndexSet._loading

    def loading(self: IndexSet, namespace: str) -> Any:
        if namespace == "theirs":
            gate.pass_through()
        return original(self, namespace)

    monkeypatch.setattr(IndexSet, "_loading", loading)
    # with something that is told about long work, as a server opens it
    with open_bank(two, progress=lambda *_: None) as bank:
        asked = "note 712: the walnut beside the lamp"
        assert bank.recall(asked, 1, namespace="theirs")[0].text.startswith("note 7"), "whoever asks is answered"
        assert gate.reached.wait(10), "its index is being read"
        assert bank.store.indexes.loaded("theirs") is None
        assert bank.recall("note 12: the violin beside the lamp", 1, namespace="mine")
        bank.ingest("a new one", namespace="mine")
        bank.ingest("a new one", namespace="theirs")
        assert bank.recall("a new one", 1, namespace="theirs")[0].text == "a new one"
        gate.open()
        wait_for(lambda: bank.store.indexes.loaded("theirs"))
        index = bank.store.indexes.loaded("theirs")
        assert index is not None and len(index) == LARGE + 1, "what came while it was read is in it"


def test_what_is_removed_while_an_index_is_read_is_not_in_it(
    two: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_set, "FETCH_CHUNK", 100)
    original = IndexSet._appending

    def appending(self: IndexSet, *given: Any) -> Any:
        for step in original(self, *given):
            yield step
            gate.pass_through()

    monkeypatch.setattr(IndexSet, "_appending", appending)
    with open_bank(two) as bank:
        bank.recall("note", 1, namespace="mine")
        assert gate.reached.wait(10)
        gone = [memory.id for memory in bank.memories("mine")][:50]
        bank.forget(gone)
        gate.open()
        wait_for(lambda: bank.store.indexes.loaded("mine"))
        index = bank.store.indexes.get("mine")
        assert len(index) == LARGE - 50
        assert not set(gone) & set(index.search(np.ones(index.dim, np.float32), LARGE)[0].tolist())


def test_measuring_the_gate_holds_nobody_up(two: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    original = RecallEngine._reached
    measured_by: set[str] = set()

    def reached(self: RecallEngine, place: int, namespace: str) -> float:
        measured_by.add(threading.current_thread().name)
        gate.pass_through()
        return original(self, place, namespace)

    with open_bank(two) as bank, bank.store.registry.transaction() as db:
        db.execute("DELETE FROM meta WHERE key LIKE 'gate %'")
    monkeypatch.setattr(RecallEngine, "_reached", reached)
    with open_bank(two) as bank:
        (first,) = bank.recall("note 12: the violin beside the lamp", 1, namespace="mine")
        assert f"of {relevance_gate.PROVISIONAL:.1f}" in first.reason
        assert gate.reached.wait(10)
        gate.open()
        wait_for(lambda: not bank.store.worker.pending())
        (second,) = bank.recall("note 12: the violin beside the lamp", 1, namespace="mine")
        assert f"of {relevance_gate.PROVISIONAL:.1f}" not in second.reason
        assert measured_by == {"membank-index"}
    measured_by.clear()
    with open_bank(two) as bank:
        (third,) = bank.recall("note 12: the violin beside the lamp", 1, namespace="mine")
        assert third.reason == second.reason, "what was measured is kept with the bank"
        assert not measured_by


def test_a_threshold_measured_without_a_model_is_not_taken_for_one_with(two: Path) -> None:
    with MemBank(None, two) as bank:
        bank.recall("note 12", namespace="mine")
        bank.flush()
        plain = bank.recall("note 12", 1, namespace="mine")[0].reason
    with open_bank(two) as bank:
        bank.recall("note 12", namespace="mine")
        bank.flush()
        assert bank.recall("note 12", 1, namespace="mine")[0].reason.split("of ")[-1] != plain.split("of ")[-1]


def test_finding_the_axes_holds_no_ingest_up(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Rewrite.put

    def put(self: Rewrite, *given: Any) -> None:
        gate.pass_through()
        original(self, *given)

    monkeypatch.setattr(Rewrite, "put", put)
    with open_bank(tmp_path) as bank:
        bank.ingest_many(numbered(FEWEST))
        assert gate.reached.wait(10)
        (added,) = bank.ingest_many(FACTS[:1])
        bank.ingest_many(FACTS[1:])
        bank.forget(2)
        assert bank.stats()["axes"] is None
        gate.open()
        wait_for(lambda: bank.stats()["axes"] is not None)
        assert bank.stats()["memories"] == FEWEST + len(FACTS) - 1
        assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
        assert bank.verify().ok, bank.verify().problems
        assert bank.get(added.memory_id).text == FACTS[0]


def test_a_bank_that_was_closed_too_soon_finds_its_axes_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(calibrate, "is_due", lambda store: False)
        with open_bank(tmp_path) as bank:
            bank.ingest_many(numbered(FEWEST))
    with open_bank(tmp_path) as bank:
        wait_for(lambda: bank.stats()["axes"] is not None)


# -- one counts nothing in another


def test_a_neighbours_words_are_not_counted(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many([NewMemory(fact, namespace="mine") for fact in FACTS])
        before = bank.recall("Where does my sister Ana live?", 3, namespace="mine")
        assert before[0].relevant
        bank.ingest_many(
            [NewMemory(f"sister Ana lives at number {n}", namespace="theirs") for n in range(1001)], batch_size=512
        )
        bank.flush()
        after = bank.recall("Where does my sister Ana live?", 3, namespace="mine")
        assert [(r.text, r.relevant, r.lexical_score) for r in after] == [
            (r.text, r.relevant, r.lexical_score) for r in before
        ]


def test_a_namespace_is_read_without_a_look_at_its_neighbours(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.add([*numbered(50, "mine"), *numbered(50, "theirs", 50)], unit_vectors(100))
    questions = {
        "arrivals": lambda: store.registry.arrivals("mine", 0, 10),
        "live": lambda: store.registry.live("mine"),
        "count": lambda: store.registry.count_vectors("mine"),
        "lifetimes": lambda: store.registry.lifetimes_of("mine", 0.0, 1e12),
        "words": lambda: store.registry.words.postings("mine", [("river",), ("lamp", "lamps")], 100, 0),
        "iterate": lambda: next(iter(store.registry.iterate("mine"))),
    }
    asked: list[str] = []
    store.registry.db.conn.set_trace_callback(asked.append)
    for name, ask in questions.items():
        asked.clear()
        ask()
        store.registry.db.conn.set_trace_callback(None)
        plans = [row[3] for sql in asked if "SELECT" in sql for row in store.registry.rows(f"EXPLAIN QUERY PLAN {sql}")]
        store.registry.db.conn.set_trace_callback(asked.append)
        scans = [plan for plan in plans if plan.startswith(("SCAN m", "SCAN p", "SCAN memories", "SCAN passages"))]
        assert not scans, (name, plans)
    store.close()


def test_a_reader_sees_that_a_word_is_rare_again(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank, open_bank(tmp_path, read_only=True) as reader:
        bank.ingest_many([f"the violin has {n} strings" for n in range(1100)], batch_size=512)
        assert reader.recall("violin", 1)[0].lexical_score == 0, "too common to tell anything"
        bank.forget(range(1, 1050))
        assert reader.recall("violin", 1)[0].lexical_score > 0
