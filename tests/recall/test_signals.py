"""Each signal changes a ranking for its own reason, and nothing where it is switched off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from support.banks import texts
from support.token_adapter import TokenMockAdapter, token_state

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.adapters.token_states import TokenStates
from membank_llama.core.errors import InvalidInputError, InvalidQueryError
from membank_llama.core.types import NewMemory, Vector
from membank_llama.memory.bank import MemBank
from membank_llama.recall.query import RecallResult
from membank_llama.recall.signals import SIGNALS, Weights, default_weights

HOUR = 3600.0
DAY = 24 * HOUR
NOON = datetime(2023, 1, 10, 12, tzinfo=timezone.utc).timestamp()
"""When everything is asked, unless a case says otherwise; memories are a day old."""

TOLD = NOON - DAY
SYNONYMS = {"automobile": "car", "vehicle": "car", "functions": "works"}
ALL = 50


class Thesaurus(MockAdapter):
    """Mock vectors that know a few synonyms, so that meaning can be shared without a word in common."""

    def encode(self, text: str) -> Vector:
        for word, other in SYNONYMS.items():
            text = text.replace(word, other)
        return super().encode(text)


class TokenThesaurus(TokenMockAdapter):
    """Its vectors tell nothing apart; its tokens know the synonyms."""

    def encode(self, text: str) -> Vector:
        return np.eye(1, self.hidden_dim, dtype=np.float32)[0]

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenStates]:
        found = super().encode_tokens(texts)
        return [
            replace(one, states=np.stack([token_state(SYNONYMS.get(w, w or ".")) for w in one.words])) for one in found
        ]


def open_bank(path: Path) -> MemBank:
    return MemBank(Thesaurus(256), path)


def told(text: str, talk: str | None = None, after: float = 0.0, **more: object) -> NewMemory:
    return NewMemory(text, conversation=talk, created_at=TOLD + after, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Case:
    """A question that one memory answers better than its rival, for the sake of one signal alone.

    The rival comes later, so that it wins where nothing else speaks. `marked` is the text that the signal shows on;
    with `words_only` the bank is searched without an encoder, with `tokens` by one that gives tokens.
    """

    question: str
    right: str
    rival: str
    memories: tuple[NewMemory, ...]
    words_only: bool = True
    tokens: bool = False
    marked: str = ""
    lowers: bool = False
    first: bool = True


FILLERS = ("Rain again.", "Soup tonight?", "Look, snow!", "Nearly noon.", "Such noise.")

CASES = {
    "dense": Case(
        "automobile?", "The car stands in the yard.", "The lamp hangs in the yard.",
        (told("The car stands in the yard."), told("The lamp hangs in the yard.")), words_only=False,
    ),
    # both mean the same, and of the car both sessions speak, but only one beside it
    "nearby_dense": Case(
        "automobile?", "It works again.", "It functions again.",
        (
            told("How is the car?", "a"), told("It works again.", "a"),
            *(told(text, "b") for text in ("How is the vehicle?", *FILLERS)), told("It functions again.", "b"),
        ),
        words_only=False, first=False,
    ),
    "words": Case(
        "Which violin lesson is it?", "The violin lesson is on Monday.", "Another lesson is on Friday.",
        (told("The violin lesson is on Monday."), told("Another lesson is on Friday.")),
    ),
    # both say who sold something; only the words before the right one say that it was the violin
    "nearby_words": Case(
        "When did Marta sell the violin?", "Marta sold it in spring.", "Marta sold it in autumn.",
        (
            told("About the violin.", "a"), told("Marta sold it in spring.", "a"),
            told("Marta sold it in autumn.", "b"),
        ),
    ),
    "tokens": Case(
        "automobile?", "The car stands in the yard.", "The lamp hangs in the yard.",
        (told("The car stands in the yard."), told("The lamp hangs in the yard.")), tokens=True,
    ),
    "nearby_tokens": Case(
        "automobile?", "It works again.", "It functions again.",
        (told("How is the car?", "a"), told("It works again.", "a"), told("It functions again.", "b")),
        tokens=True, first=False,
    ),
    # too far from each other to be neighbours, yet of one session
    "session": Case(
        "Who was the teacher of the violin lesson?", "A teacher came by.", "The teacher is away.",
        (
            told("The violin lesson was fun.", "a"), *(told(text, "a") for text in FILLERS),
            told("A teacher came by.", "a"), told("The teacher is away.", "b"),
        ),
        first=False,
    ),
    "time": Case(
        "What did we bake last May?", "We bake rye bread.", "We bake oat bread.",
        (told("We bake rye bread.", after=-240 * DAY), told("We bake oat bread.")),
    ),
    "speaker": Case(
        "What does Ana bake?", "I bake rye bread.", "I bake oat bread.",
        (told("I bake rye bread.", role="Ana"), told("I bake oat bread.", role="Ben")),
    ),
    "asks": Case(
        "When do they bake?", "They bake on Sunday.", "Do they bake on Monday?",
        (told("They bake on Sunday.", role="Ana"), told("Do they bake on Monday?", role="Ana")),
        marked="Do they bake on Monday?", lowers=True,
    ),
    # stored first, but of a later time
    "recency": Case(
        "Who bakes?", "We bake rye bread.", "We bake oat bread.",
        (told("We bake rye bread."), told("We bake oat bread.", after=-90 * DAY)),
    ),
    "pinned": Case(
        "Who bakes?", "We bake rye bread.", "We bake oat bread.",
        (told("We bake rye bread.", pinned=True), told("We bake oat bread.")),
    ),
}  # fmt: skip


def asked(tmp_path: Path, case: Case, weights: Weights | None) -> dict[str, RecallResult]:
    """What a case's bank answers, by text, best first."""
    path = tmp_path / "bank"
    encoder: MockAdapter = TokenThesaurus(256) if case.tokens else Thesaurus(256)
    if not path.exists():
        with MemBank(encoder, path) as bank:
            bank.ingest_many(case.memories)
    with MemBank(None if case.words_only and not case.tokens else encoder, path) as bank:
        return {result.text: result for result in bank.recall(case.question, ALL, now=NOON, weights=weights)}


def test_every_signal_has_its_case() -> None:
    assert list(CASES) == list(SIGNALS) == list(vars(Weights()))


@pytest.mark.parametrize("name", CASES)
def test_a_signal_changes_the_ranking_for_its_own_reason(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    found = asked(tmp_path, case, None)
    order = list(found)
    assert order.index(case.right) < order.index(case.rival)
    assert not case.first or order[0] == case.right
    part = found[case.marked or case.right].signals[name]
    assert part < 0 if case.lowers else part > 0

    without = asked(tmp_path, case, Weights.of({name: 0.0}, tokens=case.tokens))
    order = list(without)
    assert order.index(case.rival) < order.index(case.right)
    assert not any(name in result.signals for result in without.values())


@pytest.mark.parametrize("name", CASES)
def test_a_signal_alone_does_it_too(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    only = Weights.of(dict.fromkeys(SIGNALS, 0.0) | {name: vars(default_weights(case.tokens))[name]})
    found = asked(tmp_path, case, only)
    assert list(found).index(case.right) < list(found).index(case.rival)
    assert all(set(result.signals) <= {name} for result in found.values())


@pytest.mark.parametrize("name", CASES)
def test_a_score_is_the_sum_of_its_signals(tmp_path: Path, name: str) -> None:
    found = list(asked(tmp_path, CASES[name], None).values())
    for result in found:
        assert result.fused_score == pytest.approx(sum(result.signals.values()), abs=1e-4)
    fused = [result.fused_score for result in found]
    assert fused == sorted(fused, reverse=True)


def test_a_part_grows_with_its_weight(tmp_path: Path) -> None:
    case = CASES["words"]
    single, double = (asked(tmp_path, case, Weights.of({"words": value}))[case.right] for value in (1.0, 2.0))
    assert double.signals["words"] == pytest.approx(2 * single.signals["words"])
    assert single.signals["words"] == pytest.approx(single.lexical_score)


def test_with_everything_switched_off_the_newest_comes_first(tmp_path: Path) -> None:
    found = asked(tmp_path, CASES["words"], Weights.of(dict.fromkeys(SIGNALS, 0.0)))
    assert list(found) == [CASES["words"].rival, CASES["words"].right]
    assert all(result.fused_score == 0 and not result.signals for result in found.values())


# -- weights


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None])
def test_a_weight_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(InvalidInputError, match=r"weight of time is .*; give a number, 0 to switch it off"):
        Weights.of({"time": value})


def test_an_unknown_signal_is_refused_and_those_there_are_named() -> None:
    with pytest.raises(InvalidInputError, match=r"no signal 'tiem'; there are dense, nearby_dense, .*, pinned"):
        Weights.of({"tiem": 1.0})


def test_given_values_stand_in_the_default_set() -> None:
    assert Weights.of({}) == Weights()
    assert vars(Weights.of({"time": 3.0})) == vars(Weights()) | {"time": 3.0}


# -- time


@pytest.mark.parametrize(
    ("month", "question"),
    [(5, "What did we bake last May?"), (8, "What did we bake in August?"), (12, "What did we bake last month?")],
)
def test_a_time_in_the_question_counts_from_now(tmp_path: Path, month: int, question: str) -> None:
    kinds = {5: "rye", 8: "oat", 12: "white"}
    with open_bank(tmp_path) as bank:
        for number, kind in kinds.items():
            when = datetime(2022, number, 10, tzinfo=timezone.utc).timestamp()
            bank.ingest(f"We bake {kind} bread.", created_at=when)
        best = bank.recall(question, 1, now=NOON)[0]
        assert best.text == f"We bake {kinds[month]} bread."
        assert best.signals["time"] == pytest.approx(Weights().time)
        # asked two years later, that May is another one
        later = bank.recall(question, 3, now=NOON + 730 * DAY)
        assert all(result.signals.get("time", 0) < 0.1 for result in later)


@pytest.mark.parametrize("now", [float("nan"), "yesterday"])
def test_an_impossible_now_is_refused(tmp_path: Path, now: float) -> None:
    with open_bank(tmp_path) as bank, pytest.raises(InvalidQueryError, match="now is"):
        bank.recall("What did we bake last May?", now=now)


# -- neighbours

LEADS = "About the violin."
ANSWERS = "Marta sold it in spring."
LENT = ("nearby_words", "nearby_dense")


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        yield opened


def lent(bank: MemBank, **options: object) -> bool:
    """Whether the answer is worth more for the memory that stood before it."""
    found = bank.recall("When did Marta sell the violin?", ALL, now=NOON, **options)  # type: ignore[arg-type]
    (answer,) = (result for result in found if result.text == ANSWERS)
    return any(abs(answer.signals.get(name, 0)) > 0.05 for name in LENT)


@pytest.mark.parametrize(
    ("leads", "answers", "near"),
    [
        (told(LEADS, "a"), told(ANSWERS, "a"), True),
        (told(LEADS, "a"), told(ANSWERS, "a", 5 * HOUR), True),
        (told(LEADS, "a"), told(ANSWERS, "a", 7 * HOUR), False),
        (told(LEADS, "a"), told(ANSWERS, "b"), False),
        (told(LEADS), told(ANSWERS), False),
        (told(LEADS, "a"), told(ANSWERS), False),
        (told(LEADS, "a", namespace="work"), told(ANSWERS, "a"), False),
        (told(LEADS, source="notes.md"), told(ANSWERS, source="notes.md"), True),
        (told(LEADS, source="notes.md"), told(ANSWERS, source="more.md"), False),
        (told(LEADS, "a", expires_at=TOLD + 1), told(ANSWERS, "a"), False),
    ],
    ids=[
        "same talk", "short pause", "long pause", "other talk", "no talk", "one without a talk", "other namespace",
        "same source", "other source", "expired",
    ],
)  # fmt: skip
def test_what_neighbours_lend(bank: MemBank, leads: NewMemory, answers: NewMemory, near: bool) -> None:
    bank.ingest_many([leads, answers])
    assert lent(bank) is near


def test_what_is_left_out_lends_nothing(bank: MemBank) -> None:
    first = bank.ingest_many([told(LEADS, "a"), told(ANSWERS, "a", HOUR)])[0].memory_id
    assert lent(bank)
    assert not lent(bank, exclude=[first])
    assert not lent(bank, since=TOLD + 1)
    bank.forget(first)
    assert not lent(bank)


def test_a_pinned_neighbour_does_not_expire(bank: MemBank) -> None:
    bank.ingest_many([told(LEADS, "a", expires_at=TOLD + 1, pinned=True), told(ANSWERS, "a")])
    assert lent(bank)


# -- the same said twice, and what differs

KETTLE = "The blue kettle whistles in our small kitchen every morning."


def test_what_says_the_same_is_told_once_and_listed(bank: MemBank) -> None:
    repeats = [KETTLE, f"Oh, {KETTLE}", KETTLE.upper()]
    stored = bank.ingest_many([*repeats, KETTLE.replace("whistles", "never whistles"), "The kettle is hot."])
    ids = [result.memory_id for result in stored]
    found = bank.recall("Which kettle whistles in the kitchen every morning?", ALL)
    assert len(found) == 3
    assert {result.memory_id: set(result.duplicates) for result in found if result.duplicates} == {
        found[0].memory_id: set(ids[:3]) - {found[0].memory_id}
    }
    assert [result.rank for result in found] == [0, 1, 2]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The train to Ghent leaves at 7 in the morning.", "The train to Ghent leaves at 8 in the morning."),
        ("I do eat meat at home on Sundays.", "I do not eat meat at home on Sundays."),
        ("Room 12 is ours.", "Room 21 is ours."),
    ],
)
def test_not_and_numbers_keep_memories_apart(bank: MemBank, one: str, other: str) -> None:
    bank.ingest_many([one, other])
    found = bank.recall(one, ALL)
    assert sorted(texts(found)) == sorted([one, other])
    assert not any(result.duplicates for result in found)


def test_what_is_collapsed_leaves_room_for_others(bank: MemBank) -> None:
    bank.ingest_many([KETTLE, f"Well, {KETTLE}", f"Oh, {KETTLE}", "A kettle should be descaled."])
    found = bank.recall("The kettle in the kitchen", 2)
    assert texts(found)[1] == "A kettle should be descaled."


def test_diversity_passes_over_what_repeats(bank: MemBank) -> None:
    blue, green = (f"My tea kettle is {colour} and sings in the kitchen all day long." for colour in ("blue", "green"))
    honey = "My cup of tea is on the kettle."
    bank.ingest_many([blue, green, honey, "It snowed in Oslo on Friday."])
    question = "My tea kettle in the kitchen?"
    assert set(texts(bank.recall(question, 2))) == {blue, green}
    varied = bank.recall(question, 2, diversity=0.5)
    assert varied[0].text == bank.recall(question, 1)[0].text
    assert varied[1].text == honey
    assert [result.rank for result in varied] == [0, 1]


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan"), "much"])
def test_an_impossible_diversity_is_refused(bank: MemBank, diversity: float) -> None:
    with pytest.raises(InvalidQueryError, match="give a number from 0"):
        bank.recall("kettle", diversity=diversity)


def test_without_an_encoder_diversity_changes_nothing(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(["The kettle is blue.", "The kettle is hot.", "A blue lamp."])
    with MemBank(None, tmp_path) as bank:
        assert texts(bank.recall("blue kettle", diversity=1.0)) == texts(bank.recall("blue kettle"))


def test_parts_are_numbers_for_json(bank: MemBank) -> None:
    bank.ingest(KETTLE)
    result = bank.recall("kettle")[0]
    assert all(type(part) is float and np.isfinite(part) for part in result.signals.values())
    assert type(result.fused_score) is float
