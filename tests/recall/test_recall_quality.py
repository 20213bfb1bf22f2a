"""Everyday banks: the right memory comes first, and the gate tells a question from small talk.

A few dozen invented statements and questions, on real models: an embedding model, and the hidden states of a story
model of 260,000 parameters, which tell little apart, so that words have to carry the ranking.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.memory.bank import MemBank
from membank_llama.recall.engine import RecallResult

PAIRS = (
    ("My dog is called Bruno and he is afraid of thunder.", "What is the name of my dog?"),
    ("I work as a nurse at the children's hospital.", "What do I do for a living?"),
    ("My sister Elena moved to Lisbon in March.", "Where does my sister live?"),
    ("I am allergic to peanuts.", "Can I eat a Snickers bar?"),
    ("The wifi password at the cabin is maple-4471.", "What's the password for the wifi at the cabin?"),
    ("My car is a green 2009 Skoda Octavia.", "Which car do I drive?"),
    ("We are planning a trip to Iceland next summer.", "Where are we going on holiday?"),
    ("I finished the marathon in four hours and twelve minutes.", "How fast did I run the marathon?"),
    ("My favourite dessert is lemon tart.", "What dessert should I order?"),
    ("The dentist appointment is on Thursday at ten.", "When do I have to see the dentist?"),
    ("Our server runs Debian 12 with PostgreSQL 15.", "Which database version is on our server?"),
    ("My grandmother taught me to play the accordion.", "Which instrument can I play?"),
    ("I can't stand horror films.", "Would I enjoy watching a scary movie tonight?"),
    ("My daughter Mia starts school in September.", "How old is Mia, and when does she begin school?"),
    ("The invoice number for the roof repair is 88213.", "What was the invoice number of the roof repair?"),
    ("I take my coffee black without sugar.", "How do I like my coffee?"),
    ("Our wedding anniversary is on the 14th of June.", "When did we get married?"),
    ("I have been learning Portuguese for two years.", "Which language am I studying?"),
    ("The key to the shed is under the blue flowerpot.", "Where did I put the shed key?"),
    ("My boss is called Ingrid and she likes short emails.", "Who is my manager?"),
)

SMALL_TALK = (
    "hi",
    "Hello there!",
    "thanks, that's great",
    "Tell me a joke.",
    "How are you today?",
    "ok",
    "yes please",
    "Can you help me?",
    "Good night!",
    "sounds good, let's do that",
    "why?",
    "That's interesting, tell me more.",
)

UNRELATED = (
    "What is the capital of France?",
    "Write a haiku about autumn.",
    "How do I reverse a list in Python?",
    "Translate 'good morning' into Japanese.",
    "Explain how a transistor works.",
    "Who won the world cup in 1998?",
    "What is 17 times 23?",
    "Summarise the plot of Hamlet.",
)

SIZES = (1, 3, len(PAIRS))


def fill(path: Path, adapter: LlamaCppAdapter) -> MemBank:
    """A bank with one namespace for each statement and size: the statement and those after it."""
    bank = MemBank(adapter, path)
    for size in SIZES:
        for n in range(len(PAIRS)):
            texts = [PAIRS[(n + k) % len(PAIRS)][0] for k in range(size)]
            for text in texts:
                bank.ingest(text, namespace=f"{size}-{n}")
            if size == len(PAIRS):
                break
    return bank


@pytest.fixture(scope="module")
def strong(tmp_path_factory: pytest.TempPathFactory, minilm_gguf: Path) -> Iterator[MemBank]:
    with LlamaCppAdapter(minilm_gguf, n_threads=1) as adapter, fill(tmp_path_factory.mktemp("s"), adapter) as bank:
        yield bank


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory, stories_gguf: Path) -> Iterator[MemBank]:
    with LlamaCppAdapter(stories_gguf, n_threads=1) as adapter, fill(tmp_path_factory.mktemp("w"), adapter) as bank:
        yield bank


def ask(bank: MemBank, question: str, size: int, number: int) -> list[RecallResult]:
    """Ask the namespace that begins with a statement; of the largest there is but one."""
    return bank.recall(question, 6, namespace=f"{size}-{0 if size == len(PAIRS) else number % len(PAIRS)}")


def right(bank: MemBank, size: int) -> tuple[int, int]:
    """For how many questions their statement comes first, and for how many it would be injected."""
    first = injected = 0
    for number, (statement, question) in enumerate(PAIRS):
        results = ask(bank, question, size, number)
        first += results[0].text == statement
        injected += any(result.relevant and result.text == statement for result in results)
    return first, injected


def wrongly(bank: MemBank, questions: tuple[str, ...], size: int) -> list[tuple[str, str, str]]:
    """What would be injected where nothing should be."""
    asked = enumerate(questions)
    results = ((question, ask(bank, question, size, number)) for number, question in asked)
    return [(question, r.text, r.reason) for question, found in results for r in found if r.relevant]


@pytest.mark.parametrize("size", SIZES)
def test_an_embedding_model_finds_what_was_told(strong: MemBank, size: int) -> None:
    first, injected = right(strong, size)
    assert first == len(PAIRS)
    assert injected >= 16


@pytest.mark.parametrize("size", SIZES)
def test_words_carry_a_model_that_tells_little_apart(weak: MemBank, size: int) -> None:
    first, injected = right(weak, size)
    # twelve of the questions share a word with their statement
    assert first >= 12
    assert injected >= 10


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("encoder", ["strong", "weak"])
def test_small_talk_and_other_matters_inject_nothing(encoder: str, size: int, request: pytest.FixtureRequest) -> None:
    bank = request.getfixturevalue(encoder)
    assert wrongly(bank, SMALL_TALK, size) == []
    assert wrongly(bank, UNRELATED, size) == []


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("encoder", ["strong", "weak"])
def test_other_statements_do_not_answer(encoder: str, size: int, request: pytest.FixtureRequest) -> None:
    bank = request.getfixturevalue(encoder)
    asked = [(question, ask(bank, question, size, number + 1)) for number, (_, question) in enumerate(PAIRS)]
    wrong = [(question, r.text, r.reason) for question, found in asked for r in found if r.relevant]
    # "Who is my manager?" and a memory of where one works are near each other
    assert len(wrong) <= (2 if encoder == "strong" else 0), wrong


IN_OTHER_WORDS = (
    ("I work as a piano tuner.", "What is my job?"),
    ("I run every Tuesday before breakfast.", "On which day do I go jogging?"),
    ("My daughter plays the cello.", "Which instrument does my girl learn?"),
    ("We're getting married in Cork next June.", "Where will the wedding be held?"),
    ("My landlord is Mr. Okafor.", "Who do I pay the rent to?"),
    ("I support St. Pauli.", "Which football club am I a fan of?"),
)
BESIDE = (
    "The museum has a new wing for photographs.", "The ferry was cancelled because of the wind.",
    "I burned the rice last night.", "The bus drivers are on strike tomorrow.", "The printer is out of toner.",
    "I bought blue paint for the shed.", "The train to Lyon was forty minutes late.", "The soup was too salty.",
)  # fmt: skip


def test_what_was_told_in_other_words_is_injected(tmp_path: Path, minilm_gguf: Path) -> None:
    with LlamaCppAdapter(minilm_gguf, n_threads=1) as adapter, MemBank(adapter, tmp_path) as bank:
        bank.ingest_many([*(fact for fact, _ in IN_OTHER_WORDS), *BESIDE])
        found = {question: bank.recall(question, 6) for _, question in IN_OTHER_WORDS}
        given = [
            result.text
            for question in (*UNRELATED, *SMALL_TALK)
            for result in bank.recall(question, 6)
            if result.relevant
        ]
    told = [fact for fact, question in IN_OTHER_WORDS if fact in (r.text for r in found[question] if r.relevant)]
    assert len(told) >= 3
    assert given == []


def test_the_same_small_talk_is_no_answer_to_itself(strong: MemBank) -> None:
    for text in ("Hello there!", "thanks, that's great"):
        strong.ingest(text, namespace="talk")
        results = strong.recall(text, namespace="talk")
        assert results[0].text == text
        assert not any(result.relevant for result in results)


def test_a_number_is_found_whatever_the_activations_say(weak: MemBank) -> None:
    best = ask(weak, "88213?", len(PAIRS), 0)[0]
    assert "88213" in best.text
    assert best.relevant


def test_a_name_that_every_memory_holds_is_little_evidence(tmp_path: Path, minilm_gguf: Path) -> None:
    topics = ("tea", "rain", "chess", "bread", "trains", "violins", "snow", "maps", "soup", "foxes")
    texts = [f"Caroline: I read something about {topic} on day {n}." for n, topic in enumerate(topics * 30)]
    with LlamaCppAdapter(minilm_gguf, n_threads=1) as adapter, MemBank(adapter, tmp_path) as bank:
        bank.ingest_many(texts)
        asked = bank.recall("What did Caroline cook for the wedding?", 6)
        assert all("Caroline" in result.text for result in asked)
        assert not any(result.relevant for result in asked)
        assert bank.recall("What does Caroline say about foxes?", 6)[0].relevant
