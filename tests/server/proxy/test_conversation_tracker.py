"""Turns are written down with what was said, in one step, and looked up by an index."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.banks import open_bank

from membank_llama.core.errors import BankStorageError
from membank_llama.memory.bank import MemBank
from membank_llama.server.proxy import ingest_worker
from membank_llama.server.proxy.conversation_tracker import ConversationTracker
from membank_llama.server.proxy.ingest_worker import IngestWorker, NewTurns
from membank_llama.store.turns import KnownTurn

SAID = [{"role": "user", "content": "My sister Ana lives in Porto."}]


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        yield opened


def learned(bank: MemBank, known: ConversationTracker, *messages: list[dict[str, Any]]) -> IngestWorker:
    """What was said in these requests, taken in together."""
    taking = IngestWorker(bank, known, is_busy=lambda: False)
    try:
        for said in messages:
            found = known.recognise("default", said)
            taking.learn(NewTurns("default", found.conversation, found.fresh))
        taking.flush()
    finally:
        taking.close()
    return taking


def test_turns_and_texts_are_one_step(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ConversationTracker(bank.store.registry)

    def fails(turns: Any) -> None:
        list(turns)
        raise BankStorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(known, "keep", fails)
        assert learned(bank, known, SAID).failed == 1
    assert list(bank.memories()) == []
    assert bank.store.registry.scalar("SELECT count(*) FROM turns") == 0
    assert bank.verify().ok
    # new again, and taken in the next time
    assert known.recognise("default", SAID).fresh
    assert learned(bank, known, SAID).stored == 1
    assert [memory.text for memory in bank.memories()] == [SAID[0]["content"]]


def test_what_fails_after_them_takes_them_along(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ConversationTracker(bank.store.registry)
    kept: list[bool] = []

    def keeps_and_fails(turns: Any, db: Any) -> None:
        ConversationTracker.keep(known, turns, db)
        kept.append(True)
        raise BankStorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(known, "keep", keeps_and_fails)
        learned(bank, known, SAID)
    assert kept
    assert bank.store.registry.scalar("SELECT count(*) FROM turns") == 0
    assert list(bank.memories()) == []


def test_a_bad_lesson_takes_no_other_with_it(bank: MemBank) -> None:
    known = ConversationTracker(bank.store.registry)
    long = [{"role": "user", "content": "The ship sailed on. " * 3000}]
    learned(bank, known, SAID, [{"role": "user", "content": "Another one."}], long)
    assert bank.store.registry.scalar("SELECT count(*) FROM turns") == 3
    again = ConversationTracker(bank.store.registry)
    assert [again.recognise("default", said).fresh for said in (SAID, long)] == [(), ()]


def test_what_waits_has_a_bound(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ConversationTracker(bank.store.registry)
    busy = True
    monkeypatch.setattr(ingest_worker, "PATIENCE_SECONDS", 60.0)
    taking = IngestWorker(bank, known, is_busy=lambda: busy)
    monkeypatch.setattr(ingest_worker, "MOST_WAITING_CHARACTERS", 2500)
    try:
        taken = []
        for number in range(20):
            found = known.recognise("default", [{"role": "user", "content": f"{number} " + "word " * 40}])
            taken.append(taking.learn(NewTurns("default", found.conversation, found.fresh)))
        assert taken[:5] == [True] * 5 and taken[-10:] == [False] * 10
        busy = False
        taking.flush()
        assert taking.stored == taken.count(True)
        assert taking.failed == taken.count(False)
        # what was turned away is new when it comes again
        found = known.recognise("default", [{"role": "user", "content": "19 " + "word " * 40}])
        assert taking.learn(NewTurns("default", found.conversation, found.fresh))
    finally:
        busy = False
        taking.close()
    assert bank.store.registry.count() == taken.count(True) + 1


def test_beside_is_written_with_the_last_batch_alone(bank: MemBank) -> None:
    seen: list[int] = []
    bank.ingest_many(
        [f"note {n}" for n in range(8)], batch_size=4, beside=lambda _: seen.append(bank.store.registry.count())
    )
    assert seen == [8]
    with pytest.raises(BankStorageError):
        bank.ingest_many([f"more {n}" for n in range(8)], batch_size=4, beside=_full)
    assert bank.store.registry.count() == 12


def _full(_: object) -> None:
    raise BankStorageError("the disk is full")


def test_lookups_scan_no_table(bank: MemBank) -> None:
    ConversationTracker(bank.store.registry)
    for sql in (
        "SELECT max(depth) FROM turns WHERE conversation = 'x'",
        "DELETE FROM turns WHERE seen < 5",
        "SELECT conversation FROM turns WHERE key IN (x'00', x'01')",
    ):
        plan = " ".join(row[3] for row in bank.store.registry.rows(f"EXPLAIN QUERY PLAN {sql}"))
        assert "SEARCH" in plan and "SCAN" not in plan, plan


class LookedUp(OrderedDict[Any, Any]):
    """Nobody goes through all of it."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError

    items = values = keys = __iter__  # type: ignore[assignment]


def test_many_turns_make_a_first_message_no_slower(bank: MemBank) -> None:
    known = ConversationTracker(bank.store.registry)

    def steps() -> int:
        """Of SQLite's virtual machine, for looking 50 conversations up."""
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        with bank.store.registry._using() as db:
            db.conn.set_progress_handler(step, 1)
            try:
                for number in range(50):
                    known._is_over(KnownTurn(f"conversation {number}", 1, time.time()))
            finally:
                db.conn.set_progress_handler(None, 0)
        return count

    before = steps()
    known.keep((f"conversation {n}", n.to_bytes(16, "big"), n % 7) for n in range(60_000))
    known.note("conversation 3", [(n.to_bytes(16, "big"), 1) for n in range(60_000)])
    known._recent = LookedUp(known._recent)
    assert 50 < steps() < 2 * before
