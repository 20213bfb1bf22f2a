"""What was told counts; what was asked and answered does not take its place, however often."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.banks import open_bank
from support.token_adapter import open_token_bank

from membank_llama import MemBank, NewMemory, RecallResult
from membank_llama.memory.bank import BATCH_SIZE

QUESTION = "What is my boat called?"
FACT = "I bought a boat, she is called Nordlys."
START = time.time() - 10 * 86_400


def talk(*turns: tuple[str, str], conversation: str = "a", after: float = 0.0) -> list[NewMemory]:
    """Turns of one conversation, a minute apart."""
    return [
        NewMemory(text, role=role, conversation=conversation, created_at=START + after + 60.0 * place)
        for place, (role, text) in enumerate(turns)
    ]


def relevant(bank: MemBank, question: str, most: int = 6) -> list[str]:
    return [result.text for result in bank.recall(question, most) if result.relevant]


def by_text(bank: MemBank, question: str, most: int = 12) -> dict[str, RecallResult]:
    return {result.text: result for result in bank.recall(question, most)}


@pytest.fixture(params=["vectors", "tokens"])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> MemBank:
    opened: MemBank = (open_bank if request.param == "vectors" else open_token_bank)(tmp_path / "bank")
    request.addfinalizer(opened.close)
    return opened


def test_a_question_is_no_fact(bank: MemBank) -> None:
    bank.ingest_many([*talk(("user", FACT)), *talk(("user", QUESTION), conversation="b", after=86_400)])
    found = by_text(bank, QUESTION)
    assert found[FACT].relevant and found[FACT].rank < found[QUESTION].rank
    assert not found[QUESTION].relevant and "a question is no fact" in found[QUESTION].reason


def test_what_the_model_said_is_no_evidence_about_the_person(bank: MemBank) -> None:
    invented = "Your boat is called Titanic."
    bank.ingest_many(talk(("user", QUESTION), ("assistant", invented)))
    found = by_text(bank, QUESTION)
    assert not found[invented].relevant and "what the model said is no evidence" in found[invented].reason
    assert relevant(bank, QUESTION) == []


def test_what_the_model_was_asked_for_can_be_asked_for_again(bank: MemBank) -> None:
    asked, recipe = "How is pancake batter made?", "Pancake batter is made of flour, milk and eggs."
    bank.ingest_many(talk(("user", asked), ("assistant", recipe)))
    assert recipe in relevant(bank, "What did you say pancake batter is made of?")
    assert by_text(bank, "How is pancake batter made?")[recipe].reason.startswith(("relevant", "not relevant: +"))


@pytest.mark.parametrize("between", [10, 100])
def test_none_is_lost_behind_questions_small_talk_and_evasions(bank: MemBank, between: int) -> None:
    bank.ingest_many(talk(("user", FACT), ("assistant", "Nice, a boat called Nordlys!")))
    said = [
        talk(
            ("user", f"So, time {turn}: what is my boat called?"),
            ("assistant", f"Your boat is called Boat {turn}."),
            conversation=f"c{turn}",
            after=3600.0 * (turn + 1),
        )
        for turn in range(between)
    ]
    turns = [turn for one in said for turn in one]
    bank.ingest_many(turns, batch_size=BATCH_SIZE)
    assert relevant(bank, QUESTION)[:1] == [FACT]
    assert all(result.provenance.name == "PERSON" for result in bank.recall(QUESTION, 6) if result.relevant)


def test_none_is_lost_among_more_than_are_all_scored(tmp_path: Path) -> None:
    with open_token_bank(tmp_path) as bank:
        bank.ingest_many([NewMemory(FACT, created_at=START)])
        bank.ingest_many(
            NewMemory(f"What is my boat called, {n}, the boat?", created_at=START + n, conversation=f"c{n}")
            for n in range(700)
        )
        bank.flush()
        assert relevant(bank, QUESTION)[:1] == [FACT]


def test_a_reply_speaks_for_the_turn_that_it_answered(tmp_path: Path) -> None:
    told = "She is called Nordlys."
    with open_token_bank(tmp_path) as bank:
        turns = (("user", told), ("assistant", "The boat is called Nordlys, a fine name for my boat."))
        bank.ingest_many(talk(*turns))
        found = by_text(bank, "What is my boat called?")
    assert found[told].relevant


def test_people_who_talk_with_each_other_are_no_models(bank: MemBank) -> None:
    bank.ingest_many(talk(("Ana", "What is the boat called?"), ("Ben", "The boat is called Nordlys.")))
    found = by_text(bank, "What is the boat called?")
    assert found["The boat is called Nordlys."].relevant
    assert "no fact" not in found["What is the boat called?"].reason


def test_what_was_derived_from_a_reply_is_worth_no_more(bank: MemBank) -> None:
    reply = bank.ingest("Your boat is called Titanic.", role="assistant")
    told = bank.ingest("I have a boat.")
    summary = bank.ingest("The boat is called Titanic.", derived_from=[told.memory_id, reply.memory_id])
    assert bank.get(summary.memory_id).metadata["derived_from"] == [told.memory_id, reply.memory_id]
    assert not by_text(bank, QUESTION)["The boat is called Titanic."].relevant
