"""What cannot be stored is kept: a bad turn holds no other back, a full disk makes the others wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.banks import open_bank, python

from membank_llama.core.errors import BankStorageError
from membank_llama.memory.bank import MemBank
from membank_llama.memory.conversation_keys import ConversationTurn
from membank_llama.memory.turn_writer import NewTurns, TurnWriter


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        yield opened


def said(text: str) -> NewTurns:
    return NewTurns("default", "c", (ConversationTurn("user", text),))


def texts(bank: MemBank) -> list[str]:
    return [memory.text for memory in bank.memories()]


def held(bank: MemBank, monkeypatch: pytest.MonkeyPatch, refuse: Any) -> tuple[threading.Event, list[int]]:
    """Storing waits for the event; `refuse` of the texts gives the error to raise. Also how much each try held."""
    go, tries, store = threading.Event(), [], bank.ingest_many

    def ingest_many(items: Any, **options: Any) -> Any:
        go.wait(30)
        tries.append(len(items))
        error = refuse([item.text for item in items])
        if error is not None:
            raise error
        return store(items, **options)

    monkeypatch.setattr(bank, "ingest_many", ingest_many)
    return go, tries


def test_what_came_meanwhile_is_stored_together(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    go, tries = held(bank, monkeypatch, lambda texts: None)
    writer = TurnWriter(bank, "chat", thread="t")
    for number in range(10):
        writer.add(said(f"Fact {number}."))
    go.set()
    assert writer.flush() and writer.waiting == 0
    writer.close()
    assert len(tries) <= 2 and sum(tries) == 10
    assert texts(bank) == [f"Fact {number}." for number in range(10)]
    times = [memory.created_at for memory in bank.memories()]
    assert times == sorted(times) and len(set(times)) == 10


def test_a_bad_turn_holds_no_other_back(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    go, _ = held(bank, monkeypatch, lambda texts: RuntimeError("no") if "bad" in texts else None)
    writer = TurnWriter(bank, "chat", thread="t", most_tries=3)
    for text in ("one", "bad", "two", "three"):
        writer.add(said(text))
    go.set()
    assert not writer.flush()
    assert (writer.unsaved, writer.failure) == (1, "no")
    assert texts(bank) == ["one", "two", "three"]
    while not writer.flush():
        pass
    writer.close()
    assert (writer.failed, writer.stored, writer.failure) == (1, 3, None)


def test_a_full_disk_is_not_tried_for_each(
    bank: MemBank, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = [True]
    go, tries = held(bank, monkeypatch, lambda texts: BankStorageError("the disk is full") if full[0] else None)
    writer = TurnWriter(bank, "chat", thread="t")
    with caplog.at_level(logging.ERROR):
        writer.add(said("Fact 0."))
        go.set()
        writer.flush()
        tries.clear()
        for number in range(1, 5):
            writer.add(said(f"Fact {number}."))
            writer.flush()
    # with each turn, and when all is to be stored: together, then the first alone
    assert len(tries) <= 4 * 2 * 2
    assert writer.unsaved == 5 and 5 <= caplog.text.count("tried again") <= 10
    full[0] = False
    assert writer.flush()
    writer.close()
    assert texts(bank) == [f"Fact {number}." for number in range(5)]


def test_one_namespace_is_waited_for_and_no_other(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    go, _ = held(bank, monkeypatch, lambda texts: None)
    writer = TurnWriter(bank, "chat", thread="t")
    assert writer.settle("default", 0)
    writer.add(said("Fact 0."))
    assert not writer.settle("default", 0.01)
    assert writer.settle("another", 0)
    go.set()
    assert writer.settle("default", 30) and texts(bank) == ["Fact 0."]
    go.clear()
    writer.add(NewTurns("another", "c", (ConversationTurn("user", "Elsewhere."),)))
    assert writer.settle("default", 0)
    go.set()
    writer.close()


def test_who_waits_does_not_wait_for_what_comes_later(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = [threading.Event() for _ in range(2)]
    begun, store = threading.Event(), bank.ingest_many

    def ingest_many(items: Any, **options: Any) -> Any:
        begun.set()
        gates[items[0].text == "Later."].wait(30)
        return store(items, **options)

    monkeypatch.setattr(bank, "ingest_many", ingest_many)
    writer = TurnWriter(bank, "chat", thread="t")
    writer.add(said("First."))
    assert begun.wait(30)
    settled: list[bool] = []
    waits = threading.Thread(target=lambda: settled.append(writer.settle("default", 30)))
    waits.start()
    while not writer._awaited:
        pass
    writer.add(said("Later."))
    gates[0].set()
    waits.join(30)
    assert settled == [True] and texts(bank) == ["First."] and writer.waiting == 1
    gates[1].set()
    writer.close()


def test_what_could_not_be_stored_holds_nobody_up(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    go, _ = held(bank, monkeypatch, lambda texts: BankStorageError("the disk is full"))
    go.set()
    writer = TurnWriter(bank, "chat", thread="t", retry_seconds=1000, most_tries=1)
    writer.add(said("Fact 0."))
    assert writer.settle("default", 30)
    writer.close()


def test_the_interpreter_waits_for_what_was_said(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from support.banks import open_bank
        from membank_llama.memory.conversation_keys import ConversationTurn
        from membank_llama.memory.turn_writer import NewTurns, TurnWriter
        bank = open_bank(Path(sys.argv[1]))
        writer = TurnWriter(bank, "chat", thread="t")
        for number in range(200):
            writer.add(NewTurns("default", "c", (ConversationTurn("user", f"Fact {number}."),)))
    """
    process = python(code, tmp_path / "bank")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    with open_bank(tmp_path / "bank") as bank:
        assert len(texts(bank)) == 200


# -- what is worth keeping


def kept(bank: MemBank, *turns: tuple[str, str], partial: bool = False) -> list[str]:
    """What is stored of these turns of one conversation."""
    writer = TurnWriter(bank, "chat", thread="t")
    writer.add(NewTurns("default", "c", tuple(ConversationTurn(role, text) for role, text in turns), partial))
    writer.close()
    return texts(bank)


def test_evasions_and_orders_to_forget_are_no_memories(bank: MemBank) -> None:
    turns = (
        ("user", "My boat is called Nordlys."),
        ("assistant", "How can I help you today?"),
        ("user", "What is my cat called?"),
        ("assistant", "I'm sorry, but I don't know what your cat is called."),
        ("user", "Please forget my address."),
        ("assistant", "Your address in Elm Street is forgotten."),
        ("user", "When does the ferry leave?"),
        ("assistant", "The ferry to Bergen leaves at nine."),
    )
    assert kept(bank, *turns) == [
        "My boat is called Nordlys.", "What is my cat called?", "When does the ferry leave?",
        "The ferry to Bergen leaves at nine.",
    ]  # fmt: skip


def test_a_fragment_of_a_reply_is_no_memory(bank: MemBank) -> None:
    said = (("user", "Tell me of Bergen."), ("assistant", "Bergen is a town on the"))
    assert kept(bank, *said, partial=True) == ["Tell me of Bergen."]


def test_what_came_before_is_told_again_where_it_is_still_there(bank: MemBank) -> None:
    there = bank.ingest("My desk is in room 12.", created_at=1.6e9).memory_id
    again = tuple(ConversationTurn("user", text) for text in ("My desk is in room 12.", "Forgotten meanwhile."))
    writer = TurnWriter(bank, "chat", thread="t")
    writer.add(NewTurns("default", "c", (), again=again))
    writer.close()
    assert texts(bank) == ["My desk is in room 12."]
    assert bank.get(there).created_at > 1.7e9
