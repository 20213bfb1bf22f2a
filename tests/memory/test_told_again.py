"""What is told again is of its new time and speaker, and what is corrected keeps its history."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.banks import open_bank

from membank_llama import MemBank, NewMemory
from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.deferred import DeferredAdapter
from membank_llama.core.errors import EmptyTextError, InvalidInputError, MemoryNotFoundError, ModelError

DAY = 86_400.0
NOW = time.time()
BLACK, MILK = "I drink my coffee black.", "I drink my coffee with oat milk now."


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        yield opened


def told(bank: MemBank, text: str, days_ago: float, role: str = "user") -> int:
    return bank.ingest(text, role=role, created_at=NOW - days_ago * DAY).memory_id


# -- told again


def test_it_takes_the_new_time_and_keeps_the_first(bank: MemBank) -> None:
    first = told(bank, BLACK, 90)
    told(bank, MILK, 60)
    assert told(bank, BLACK, 2) == first
    memory = bank.get(first)
    assert memory.created_at == pytest.approx(NOW - 2 * DAY)
    assert memory.first_told_at == pytest.approx(NOW - 90 * DAY)
    (latest, *_) = bank.recall("How do I drink my coffee?", 1)
    assert latest.text == BLACK


def test_the_newest_stands_last_in_the_block_and_says_so(bank: MemBank) -> None:
    for text, days in ((BLACK, 90), (MILK, 60), (BLACK, 2)):
        told(bank, text, days)
    lines = bank.integrate("How do I drink my coffee?", 3).augmented_prompt.splitlines()
    shown = [line for line in lines if line.startswith("- ")]
    assert [line.partition(": ")[2] for line in shown] == [MILK, BLACK]
    assert "no longer so" in shown[0] and "so now" in shown[1]
    assert f"So now: {BLACK}" in lines


def test_told_at_an_earlier_time_it_stays_of_the_newest(bank: MemBank) -> None:
    memory_id = told(bank, BLACK, 2)
    told(bank, BLACK, 90)
    assert bank.get(memory_id).created_at == pytest.approx(NOW - 2 * DAY)


def test_what_the_model_said_becomes_the_persons_and_never_the_other_way_round(bank: MemBank) -> None:
    guess, fact = "The dog is called Balthasar.", "The cat is called Minka."
    told(bank, guess, 3, role="assistant")
    told(bank, guess, 2)
    told(bank, fact, 3)
    told(bank, fact, 1, role="assistant")
    of = {memory.text: memory for memory in bank.memories()}
    assert (of[guess].role, of[fact].role) == ("user", "user")
    assert of[fact].created_at == pytest.approx(NOW - 3 * DAY)
    assert bank.recall("What is the dog called?", 1)[0].relevant


def test_a_search_before_and_after_a_restart_sees_the_same(bank: MemBank, tmp_path: Path) -> None:
    told(bank, BLACK, 90, role="assistant")
    bank.recall("coffee", 1)
    told(bank, BLACK, 2)
    seen = bank.snapshot()
    bank.close()
    with open_bank(tmp_path / "bank") as opened:
        anew = opened.snapshot()
        for name in ("created", "told", "acts", "session"):
            assert getattr(seen, name).tolist() == getattr(anew, name).tolist()
        names = [{number: name for name, number in one.speakers.items()} for one in (seen, anew)]
        assert [names[0][n] for n in seen.speaker.tolist()] == [names[1][n] for n in anew.speaker.tolist()] == ["user"]


def test_forgetting_what_is_old_goes_by_the_newest_telling(bank: MemBank) -> None:
    kept = told(bank, BLACK, 90)
    gone = told(bank, "I had lentil soup.", 80)
    told(bank, BLACK, 2)
    assert bank.select(before=NOW - 30 * DAY) == [gone]
    assert [one.text for one in bank.recall("coffee soup", 5, since=NOW - 5 * DAY)] == [BLACK]
    assert kept in {one.memory_id for one in bank.recall("coffee", 5, until=NOW - 50 * DAY)}


def test_only_what_is_there_is_told_again(bank: MemBank) -> None:
    memory_id = told(bank, BLACK, 5)
    bank.tell_again([NewMemory(BLACK, created_at=NOW), NewMemory("Never told.", created_at=NOW)])
    assert bank.get(memory_id).created_at == pytest.approx(NOW)
    assert bank.count() == 1


# -- corrected


def test_a_correction_takes_its_place_and_keeps_what_it_said(bank: MemBank) -> None:
    old = bank.ingest("My dentist is Dr Hale.", {"n": 1}, conversation="c", pinned=True, created_at=NOW - 9 * DAY)
    new = bank.correct(old.memory_id, "My dentist is Dr Moreno.")
    memory = bank.get(new.memory_id)
    assert (memory.conversation, memory.pinned, memory.metadata["n"]) == ("c", True, 1)
    assert memory.created_at > NOW - DAY
    assert [one["text"] for one in bank.history(new.memory_id)] == ["My dentist is Dr Hale."]
    assert [one.text for one in bank.recall("Who is my dentist, Dr Hale?", 5)] == ["My dentist is Dr Moreno."]
    again = bank.correct(new.memory_id, "My dentist is Dr Lund.")
    assert [one["text"] for one in bank.history(again.memory_id)] == [
        "My dentist is Dr Hale.", "My dentist is Dr Moreno.",
    ]  # fmt: skip
    assert bank.verify().ok


def test_what_the_model_said_is_the_persons_once_she_corrected_it(bank: MemBank) -> None:
    said = bank.ingest("Your dog is called Rex.", role="assistant")
    memory = bank.get(bank.correct(said.memory_id, "My dog is called Balthasar.").memory_id)
    assert memory.role == "user"


def test_a_correction_that_was_told_already_takes_the_history_over(bank: MemBank) -> None:
    right = told(bank, "My dentist is Dr Moreno.", 3)
    wrong = told(bank, "My dentist is Dr Hale.", 1)
    assert bank.correct(wrong, "My dentist is Dr Moreno.").memory_id == right
    assert [one["text"] for one in bank.history(right)] == ["My dentist is Dr Hale."]
    assert bank.count() == 1


def test_a_correction_that_cannot_be_changes_nothing(bank: MemBank) -> None:
    memory_id = told(bank, BLACK, 5)
    with pytest.raises(MemoryNotFoundError):
        bank.correct(memory_id + 1, MILK)
    with pytest.raises(InvalidInputError, match="says that already"):
        bank.correct(memory_id, f" {BLACK} ")
    with pytest.raises(EmptyTextError):
        bank.correct(memory_id, "  ")
    assert [memory.text for memory in bank.memories()] == [BLACK]


def test_nothing_of_it_is_left_when_it_is_forgotten(bank: MemBank, tmp_path: Path) -> None:
    memory_id = told(bank, "My therapist is Dr Xylofrabble.", 5)
    new = bank.correct(memory_id, "My therapist is Dr Quindle.")
    bank.forget(new.memory_id)
    bank.close()
    for path in (tmp_path / "bank").rglob("*"):
        assert not path.is_file() or b"xylofrabble" not in path.read_bytes().lower(), path


# -- replies that repeat


def test_replies_that_only_repeat_are_found_and_others_are_not(bank: MemBank) -> None:
    turns = [
        ("user", "I bought a sailboat, she is called Nordlys."),
        ("assistant", "Nordlys is a fine name. Sailing in winter asks for warm clothes, gloves and a good anchor."),
        ("user", "What is my sailboat called?"),
        ("assistant", "Your sailboat is called Nordlys."),
        ("user", "What is my cat called?"),
        ("assistant", "Your cat is called Minka."),
    ]
    ids = [
        bank.ingest(text, role=role, conversation="c", created_at=NOW + n).memory_id
        for n, (role, text) in enumerate(turns)
    ]
    assert [memory.id for memory in bank.repeats([ids[0]])] == [ids[3]]
    assert bank.repeats([ids[4]]) == []
    # and while the server of the model that encodes does not run
    card = bank.model

    def refuses() -> ModelAdapter:
        raise ModelError("nothing answers there")

    waiting = DeferredAdapter(card.id, card.name, card.source, card.dim, refuses)
    bank.close()
    with MemBank(waiting, bank.path, auto_validate_adapter=False) as again:
        assert [memory.id for memory in again.repeats([ids[0]])] == [ids[3]]
