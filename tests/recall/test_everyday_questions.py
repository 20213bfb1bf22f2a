"""What a person asks of her own life reaches the prompt, with real models and in the words she happens to use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import ROOT

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank

TOP = 6
DAY = 86400.0
FOLDER = ROOT / "benchmarks" / "everyday"


def lines(name: str) -> list[str]:
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()


PAIRS = [tuple(line.split(" | ")) for line in lines("facts")][::2]
NOTES, UNRELATED = lines("notes")[::4], lines("unrelated")


def injected(bank: MemBank, question: str, namespace: str = "default") -> list[str]:
    """What the prompt would be given."""
    return [result.text for result in bank.recall(question, TOP, namespace=namespace) if result.relevant]


def told(bank: MemBank, *texts: str, namespace: str) -> None:
    """Each in a talk of its own, weeks ago."""
    bank.ingest_many(
        [
            NewMemory(text, namespace=namespace, conversation=f"{namespace}-{place}", created_at=1.7e9 - place * DAY)
            for place, text in enumerate(texts)
        ]
    )


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory, minilm_gguf: Path) -> Iterator[MemBank]:
    yield from filled(tmp_path_factory.mktemp("minilm"), minilm_gguf)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory, smollm2_gguf: Path) -> Iterator[MemBank]:
    yield from filled(tmp_path_factory.mktemp("smollm2"), smollm2_gguf)


def filled(folder: Path, model: Path) -> Iterator[MemBank]:
    with LlamaCppAdapter(model, n_threads=1) as adapter, MemBank(adapter, folder / "bank") as bank:
        bank.ingest_many([*(fact for fact, _ in PAIRS), *NOTES])
        yield bank


def share(bank: MemBank) -> float:
    return sum(fact in injected(bank, question) for fact, question in PAIRS) / len(PAIRS)


def test_an_embedding_model_finds_what_was_told_in_other_words(minilm: MemBank) -> None:
    assert share(minilm) >= 0.84
    assert [question for question in UNRELATED if injected(minilm, question)] == []


def test_a_chat_models_own_states_find_it_too(smollm2: MemBank) -> None:
    assert smollm2.model.id.endswith("-L6-content")
    assert share(smollm2) >= 0.65
    wrong = [question for question in UNRELATED if injected(smollm2, question)]
    assert len(wrong) <= 0.05 * len(UNRELATED), wrong


LOG = "\n".join(
    f"2026-03-0{n % 9 + 1} 12:0{n % 6} INFO worker-{n} request path=/v2/items/{n} status=200 took={n * 3}ms"
    for n in range(15)
)
TALK = (
    "Good morning! I slept badly because of the storm. Today I have to mow the lawn and drive to town. Then I meet "
    "Paul for lunch at the new place by the river. In the afternoon the painters look at the ceiling in the hall."
)
CODE = "for row in rows:\n    if row.price > limit:\n        total += row.price * rate\n" * 6


@pytest.mark.parametrize("around", [LOG, TALK, CODE], ids=["log", "small talk", "code"])
@pytest.mark.parametrize("first", [True, False])
def test_a_question_beside_other_things_finds_what_it_finds_alone(minilm: MemBank, around: str, first: bool) -> None:
    namespace = "beside"
    told(minilm, "The door code of the boathouse is 5581.", "My son Jorin can't stand rhubarb.", namespace=namespace)
    for question, answer in (
        ("What is the door code of the boathouse?", "5581"),
        ("What does Jorin dislike?", "Jorin"),
    ):
        message = f"{question}\n\n{around}" if first else f"{around}\n\n{question}"
        assert any(answer in text for text in injected(minilm, message, namespace)), message[:80]


@pytest.mark.parametrize("question", ["What's my name?", "Who am I?", "What do you know about me?", "Do I have a pet?"])
def test_who_introduced_herself_is_known(minilm: MemBank, question: str) -> None:
    facts = ("Hi, I'm Ottilie, good to meet you.", "I live in Bruges with two cats.", "I'm a bookbinder.")
    told(minilm, *facts, *NOTES[:15], namespace="introduced")
    found = injected(minilm, question, "introduced")
    assert set(found) & set(facts), found
    if "name" in question or "Who" in question:
        assert facts[0] in found


@pytest.mark.parametrize(
    ("facts", "question", "answer"),
    [
        (("Will repairs clocks in Derby.", "Rob paints boats in Hull."), "What does Will do for a living?", "clocks"),
        (("May owns the ladder.", "Tim owns the drill."), "What can I borrow from May?", "ladder"),
        (("The Mine opens at six.", "The Anchor opens at four."), "When does The Mine open?", "six"),
        (("My uncle Art keeps geese.", "My uncle Max keeps ducks."), "Which animals does Art have?", "geese"),
    ],
)
def test_names_that_are_words_are_names(minilm: MemBank, facts: tuple[str, ...], question: str, answer: str) -> None:
    namespace = f"names {facts[0]}"
    told(minilm, *facts, *NOTES[:10], namespace=namespace)
    found = injected(minilm, question, namespace)
    assert found and any(answer in text for text in found), found


def test_a_question_that_was_asked_before_does_not_stand_in_its_answers_way(minilm: MemBank) -> None:
    told(minilm, "What is my shoe size?", "My feet are a 43.", *NOTES[:10], namespace="again")
    assert "My feet are a 43." in injected(minilm, "What is my shoe size?", "again")


def test_a_stranger_is_not_answered_with_somebody_elses_life(minilm: MemBank) -> None:
    told(minilm, "Marta sold her violin in spring.", "Piotr moved to Lublin.", *NOTES[:10], namespace="strangers")
    assert "Marta sold her violin in spring." in injected(minilm, "What did Marta sell?", "strangers")
    assert injected(minilm, "Where does Consuela go on holiday?", "strangers") == []
