"""What kind of message asks, and which part of a long one is the question."""

from __future__ import annotations

import pytest

from membank_llama.recall.query_terms import terms
from membank_llama.recall.question_kind import LONG_WORDS, focus, kind_of

OWN = (
    "What is my job?", "Who am I?", "Do I still smoke?", "How old am I?", "Which city do we live in now?",
    "Would a steak be a good dinner for me?", "What do you know about me?", "Tell me what you remember about me.",
    "Remind me when my flight leaves", "Can you tell me when my train goes?", "Wie heißt meine Schwester?",
    "Où habitent mes parents ?", "¿Cómo se llama mi perro?", "我的猫叫什么？", "Ok, what's the name of our cat?",
)  # fmt: skip
OTHERS = (
    "What is the capital of Peru?", "Who wrote Hamlet?", "Tell me a joke.", "tell me more", "Which planet is largest?",
    "What did Caroline do in May?", "Where is The Mine?", "Give me three synonyms for happy.", "Name three rivers.",
)  # fmt: skip
TASKS = (
    "Write a haiku about autumn.", "How do I boil an egg?", "Can you write a poem for my boss?", "Translate this.",
    "Explain recursion in one sentence.", "My code throws a KeyError, any idea?", "Should I go to the doctor?",
    "Fix this sentence: he go home.", "Why does my bread come out so dense?",
)  # fmt: skip
TELLS = ("I slept badly.", "thanks, that's great", "The tap drips again.", "See you tomorrow.")


@pytest.mark.parametrize("text", OWN)
def test_about_oneself(text: str) -> None:
    kind = kind_of(text)
    assert kind.asks and kind.about_oneself and not kind.task


@pytest.mark.parametrize("text", OTHERS)
def test_about_something_else(text: str) -> None:
    assert not kind_of(text).about_oneself


@pytest.mark.parametrize("text", TASKS)
def test_a_task(text: str) -> None:
    assert kind_of(text).task


@pytest.mark.parametrize("text", TELLS)
def test_what_only_tells(text: str) -> None:
    kind = kind_of(text)
    assert not kind.asks and not kind.about_oneself and not kind.task


QUESTION = "What is the alarm code of the summer house?"
TALK = (
    "Good morning! I slept badly because of the storm. Today I have to mow the lawn and drive to town. Then I meet "
    "Paul for lunch at the new place by the river. In the afternoon the painters come to look at the ceiling."
)
LOG = "\n".join(
    f"2026-03-0{n % 9 + 1} 12:0{n % 6} INFO worker-{n} request path=/v2/items/{n}?page={n} status=200 took={n * 3}ms"
    for n in range(15)
)
CODE = (
    "def total(rows):\n    kept = [row for row in rows if row.price > 0]\n    return sum(r.price for r in kept)\n" * 6
)


@pytest.mark.parametrize("around", [TALK, LOG, CODE], ids=["talk", "log", "code"])
@pytest.mark.parametrize("first", [True, False])
def test_the_question_is_found_in_a_long_message(around: str, first: bool) -> None:
    message = f"{QUESTION}\n\n{around}" if first else f"{around}\n\nBy the way: {QUESTION}"
    found = focus(message)
    assert QUESTION in found and len(found) < len(QUESTION) + 20


def test_a_short_message_is_all_of_it_and_a_long_one_without_a_question_its_ends() -> None:
    assert focus(QUESTION) == QUESTION and focus(TALK[:60]) == TALK[:60]
    told = " ".join(
        f"This is sentence number {word} of many." for word in ("one", "two", "three", "four", "five", "six")
    )
    assert len(told.split()) > LONG_WORDS - 1
    found = focus(told + " " + told)
    assert "number one" in found and "number six" in found and "number four" not in found
    assert focus(CODE.replace("def", "x")) is not None
    assert focus("word " * 100).strip()


def test_names_that_are_words() -> None:
    assert "will" in terms("What is Will's job?") and "will" not in terms("What will happen?")
    assert "may" in terms("Who is May?") and "may" not in terms("May I come in?")
    assert "mine" in terms("Where is The Mine?") and "the" not in terms("Where is The Mine?")
    assert "i" not in terms("Am I late?")
