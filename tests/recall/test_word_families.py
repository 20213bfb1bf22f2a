"""Words whose forms no stemmer brings together, by themselves and through a bank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.banks import open_bank

from membank_llama.memory.bank import MemBank
from membank_llama.recall.query_terms import EMPHASIS, FAMILIES, UNIT, forms_of, looked_up, rarities


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("bought", "buy"), ("buy", "bought"), ("buys", "bought"), ("buying", "bought"), ("making", "made"),
        ("running", "ran"), ("kids", "children"), ("went", ""), ("wives", "wife"), ("photos", "picture"),
        ("seven", "7"), ("7", "seven"), ("lamp", ""), ("ring", "rang"), ("sing", "sang"), ("ing", ""), ("s", ""),
    ],
)  # fmt: skip
def test_forms(word: str, other: str) -> None:
    assert (other in forms_of(word)) if other else forms_of(word) == ()


def test_a_family_is_one_from_every_member() -> None:
    for word, others in FAMILIES.items():
        assert word not in others
        assert all(word in FAMILIES[other] for other in others), word


def test_a_question_looks_for_every_form_of_a_word_once() -> None:
    (term,) = looked_up("Who bought what?")
    assert term.word == "bought"
    assert term.forms == ("bought", "buy")
    assert looked_up("And who is that?") == []


@pytest.mark.parametrize(
    ("text", "stressed"),
    [
        ("Does Ana knit?", {"ana"}),
        ("Ana knits?", set()),
        ("does the knitter use 4mm wool?", {"4mm"}),
        ("Is it so? Knit on.", set()),
        ("well, Ana and Ben knit", {"ana", "ben"}),
    ],
)
def test_names_and_numbers_weigh_more(text: str, stressed: set[str]) -> None:
    found = {term.word: term.emphasis for term in looked_up(text)}
    assert found == {word: EMPHASIS if word in stressed else 1.0 for word in found}
    assert stressed <= set(found)


def test_a_word_weighs_its_rarity_squared(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many([*(f"a note on {n} lamps" for n in range(48)), "the violin case", "the violin bow"])
        found = bank.recall("a violin?", 2)
    (rarity,) = rarities(np.array([2]), 50)
    assert [result.lexical_score for result in found] == pytest.approx([rarity**2 / UNIT] * 2)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[MemBank]:
    """Searched by words alone, so that only a shared word can find anything."""
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many(
            ["We buy our bread at the corner.", "The children like the swing.", "Ana wrote two letters.", "It rained."]
        )
    with MemBank(None, tmp_path / "bank") as bank:
        yield bank


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Who bought something?", ["We buy our bread at the corner."]),
        ("buying", ["We buy our bread at the corner."]),
        ("Do my kids like anything?", ["The children like the swing."]),
        ("What did she write?", ["Ana wrote two letters."]),
        ("Were there 2?", ["Ana wrote two letters."]),
        ("Was it sold?", []),
    ],
)
def test_a_bank_finds_a_word_in_its_other_forms(told: MemBank, question: str, found: list[str]) -> None:
    assert [result.text for result in told.recall(question)] == found
