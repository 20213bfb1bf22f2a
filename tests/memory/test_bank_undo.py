"""What is done to memories by hand can be taken back; what is hidden is gone at once and in the end for good."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.banks import open_bank, wait_for

from membank_llama.core.errors import BankStorageError, InvalidInputError, MemoryNotFoundError
from membank_llama.core.types import NewMemory
from membank_llama.memory import bank_undo
from membank_llama.memory.bank import MemBank
from membank_llama.memory.bank_undo import CHANGES
from membank_llama.memory.namespace_memories import NamespaceMemories


def texts(bank: MemBank) -> set[str]:
    page = NamespaceMemories(bank, "default").page()
    listed = {one["text"] for one in page["memories"]}
    assert listed == {memory.text for memory in bank.memories()}
    assert bank.count("default") == bank.count() == len(listed)
    return listed


def found(bank: MemBank, query: str) -> set[str]:
    return {result.text for result in bank.recall(query, 5)}


def holds(path: Path, text: str) -> bool:
    return any(text.encode() in file.read_bytes() for file in path.rglob("*") if file.is_file())


@pytest.fixture
def told(tmp_path: Path) -> Path:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest("The canoe is green.", role="user", created_at=1_700_000_000.0)
        bank.ingest("The kayak is blue.", pinned=True)
    return tmp_path / "bank"


def test_what_is_hidden_is_gone_and_can_be_brought_back(told: Path) -> None:
    with open_bank(told) as bank:
        before = bank.get(2)
        change = bank.hide([1, 2])
        assert texts(bank) == set() and found(bank, "Which colour is the canoe?") == set()
        assert bank.undo(change.id).ids == (1, 2)
        assert bank.get(2) == before
        assert "The canoe is green." in found(bank, "Which colour is the canoe?")
        assert bank.changes() == []


def test_what_is_hidden_goes_for_good_when_its_time_is_up(told: Path) -> None:
    with open_bank(told) as bank:
        change = bank.hide([1], 0.2)
        wait_for(lambda: not holds(told, "canoe is green"))
        with pytest.raises(InvalidInputError, match="no change"):
            bank.undo(change.id)
        assert texts(bank) == {"The kayak is blue."}


def test_closing_leaves_nothing_hidden_behind(told: Path) -> None:
    with open_bank(told) as bank:
        bank.hide([1], 1000)
    assert not holds(told, "canoe is green")
    with open_bank(told) as bank:
        assert bank.changes() == [] and texts(bank) == {"The kayak is blue."}


def test_what_a_killed_process_had_hidden_is_taken_up(told: Path) -> None:
    with open_bank(told) as bank:
        change = bank.hide([1], 1000)
        pinned = bank.hide([2], 1000)
        # as if it were killed: nothing is finished on the way out
        assert bank._timer is not None
        bank._timer.cancel()
        bank._timer = None
        records = bank.store.meta(CHANGES)
        records[0]["until"] = time.time() - 1
        bank.store.registry.set_meta(CHANGES, records)
    assert holds(told, "canoe is green")
    with open_bank(told) as bank:
        assert not holds(told, "canoe is green")
        assert [one.id for one in bank.changes()] == [pinned.id] != [change.id]
        bank.undo()
        assert texts(bank) == {"The kayak is blue."} and bank.get(2).pinned


def test_what_was_hidden_one_by_one_is_overwritten_at_once(told: Path) -> None:
    with open_bank(told) as bank:
        bank.ingest_many([f"Note {n}." for n in range(20)])
        for n in range(20):
            bank.hide([n + 1], 1000)
        overwritten: list[object] = []
        bank.store.on_forget.append(lambda *gone: overwritten.append(gone))
        assert bank.finish_hidden(all_of_it=True) == 20
        assert len(overwritten) == 1 and bank.changes() == []
        assert texts(bank) == {"Note 18.", "Note 19."}
        assert bank.finish_hidden(all_of_it=True) == 0


def test_what_is_told_again_meanwhile_stays(told: Path) -> None:
    with open_bank(told) as bank:
        bank.hide([1], 1000)
        bank.ingest("The canoe is green.")
        assert "The canoe is green." in texts(bank)
    with open_bank(told) as bank:
        assert "The canoe is green." in texts(bank)


def test_what_is_on_its_way_out_is_nothing_to_change(told: Path) -> None:
    """A correction would take the forgotten text over into its history, and a pin would bring it back."""
    with open_bank(told) as bank:
        bank.pin(2, False)
        unpinned = bank.changes()[0]
        change = bank.hide([1, 2], 1000)
        for act in (
            lambda: bank.get(1),
            lambda: bank.pin(1),
            lambda: bank.correct(1, "The canoe is red."),
            lambda: bank.history(1),
        ):
            with pytest.raises(MemoryNotFoundError, match="no memory 1 in"):
                act()
        with pytest.raises(InvalidInputError, match="no change"):
            bank.undo(unpinned.id)
        assert texts(bank) == set()
        assert bank.undo(change.id).ids == (1, 2)
    with open_bank(told) as bank:
        corrected = bank.correct(1, "The canoe is red.")
        correction = bank.changes()[0]
        bank.hide([corrected.memory_id], 1000)
        with pytest.raises(InvalidInputError, match="no change"):
            bank.undo(correction.id)
        assert texts(bank) == {"The kayak is blue."}
    assert not holds(told, "canoe is")


def test_what_has_gone_meanwhile_is_not_said_to_be_brought_back(told: Path) -> None:
    with open_bank(told) as bank:
        bank.pin(1)
        bank.hide([1], 1000)
        bank.forget(1)
        with pytest.raises(InvalidInputError, match="cannot be brought back"):
            bank.undo()
        assert bank.changes() == []


def test_what_could_not_be_overwritten_is_tried_again(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a backup reads the bank for long just then."""
    refused = []

    def refuse(bank: MemBank, **_: bool) -> int:
        refused.append(1)
        raise BankStorageError("another process reads it for long")

    monkeypatch.setattr(bank_undo, "AGAIN_SECONDS", 0.01)
    with open_bank(told) as bank:
        with monkeypatch.context() as refusing:
            refusing.setattr(MemBank, "finish_hidden", refuse)
            bank.hide([1], 0)
            wait_for(lambda: len(refused) > 1)
        wait_for(lambda: not holds(told, "canoe is green"))


def test_nothing_is_hidden_where_one_of_them_is_not_there(told: Path) -> None:
    with open_bank(told) as bank:
        with pytest.raises(MemoryNotFoundError):
            bank.hide([1, 77])
        assert len(texts(bank)) == 2 and bank.changes() == []
        for ids, seconds in (([], 10.0), ([1], -1.0), ([1], 1e9), ([1], float("nan"))):
            with pytest.raises(InvalidInputError):
                bank.hide(ids, seconds)


def test_a_correction_is_undone(told: Path) -> None:
    with open_bank(told) as bank:
        first = bank.correct(1, "The canoe is red.")
        second = bank.correct(first.memory_id, "The canoe is yellow.")
        assert [one["text"] for one in bank.history(second.memory_id)] == ["The canoe is green.", "The canoe is red."]
        (again,) = bank.undo().ids
        assert bank.get(again).text == "The canoe is red."
        assert [one["text"] for one in bank.history(again)] == ["The canoe is green."]


def test_an_undone_correction_is_as_it_was_told(told: Path) -> None:
    with open_bank(told) as bank:
        bank.ingest("Your canoe leaks.", role="assistant", created_at=1_700_000_100.0, metadata={"mood": "sure"})
        bank.correct(3, "The canoe does not leak.")
        (again,) = bank.undo().ids
        memory = bank.get(again)
        assert (memory.role, memory.created_at, memory.metadata) == ("assistant", 1_700_000_100.0, {"mood": "sure"})
        assert texts(bank) == {"The canoe is green.", "The kayak is blue.", "Your canoe leaks."}


def test_a_correction_to_what_was_known_leaves_that_when_undone(told: Path) -> None:
    with open_bank(told) as bank:
        bank.correct(1, "The kayak is blue.")
        assert texts(bank) == {"The kayak is blue."}
        bank.undo()
        assert texts(bank) == {"The canoe is green.", "The kayak is blue."}
        assert bank.history(2) == []


def test_of_corrections_at_the_same_time_one_is_taken(told: Path) -> None:
    def said(colour: str) -> int | None:
        try:
            return bank.correct(1, f"The canoe is {colour}.").memory_id
        except MemoryNotFoundError:
            return None

    with open_bank(told) as bank, ThreadPoolExecutor(6) as several:
        (taken,) = [one for one in several.map(said, ("red", "grey", "white", "pink", "brown", "gold")) if one]
        assert texts(bank) == {bank.get(taken).text, "The kayak is blue."}


def test_what_is_on_its_way_out_is_not_corrected(told: Path) -> None:
    with open_bank(told) as bank:
        bank.hide([1], 1000)
        with pytest.raises(MemoryNotFoundError):
            bank.correct(1, "The canoe is red.")
        bank.undo()
        assert texts(bank) == {"The canoe is green.", "The kayak is blue."}


def test_what_is_not_there_any_more_is_no_change_to_take_back(told: Path) -> None:
    with open_bank(told) as bank:
        bank.pin(1)
        first = bank.correct(1, "The canoe is red.")
        second = bank.correct(first.memory_id, "The canoe is yellow.")
        assert [one.ids for one in bank.changes()] == [(second.memory_id,)]
        hidden = bank.hide([second.memory_id], 1000)
        assert [one.id for one in bank.changes()] == [hidden.id]
        bank.undo()
        assert [one.kind for one in bank.changes()] == ["correct"]
        bank.pin(2, False)
        bank.forget(second.memory_id)
        assert [one.kind for one in bank.changes()] == ["unpin"]
        bank.undo()
        assert bank.get(2).pinned
        with pytest.raises(InvalidInputError, match="nothing that could be undone"):
            bank.undo()


def test_the_change_of_a_correction_is_its_own(told: Path) -> None:
    with open_bank(told) as bank:
        # somebody else does something before the answer is made
        mine = NamespaceMemories(bank, "default", uses=lambda _: bank.pin(2, False) or ())
        corrected = mine.correct(1, "The canoe is red.")
        assert [one.kind for one in bank.changes()] == ["unpin", "correct"]
        assert corrected["change"] == bank.changes()[1].id


def test_pins_are_undone_and_changes_are_of_their_namespace(told: Path) -> None:
    with open_bank(told) as bank:
        bank.ingest_many([NewMemory("Elsewhere.", namespace="work")])
        bank.pin(1)
        bank.pin(3)
        bank.pin(3)
        assert [one.kind for one in bank.changes("work")] == ["pin"]
        bank.undo(namespace="default")
        assert not bank.get(1).pinned and bank.get(3).pinned
        with pytest.raises(InvalidInputError, match="nothing that could be undone"):
            bank.undo(namespace="default")


def test_changes_do_not_grow_without_end(told: Path) -> None:
    with open_bank(told) as bank:
        for turn in range(200):
            bank.pin(1, turn % 2 == 0)
        assert 10 < len(bank.changes()) < 100


def test_damaged_records_of_changes_are_left_out(told: Path) -> None:
    with open_bank(told) as bank:
        bank.store.registry.set_meta(CHANGES, [{"id": 1}, "x", None])
        assert bank.changes() == []
        bank.pin(1)
        assert [one.kind for one in bank.changes()] == ["pin"]
