"""Questions as full-text queries: content words only, and never as syntax."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.banks import FACTS, open_bank

from membank_llama.recall.query_terms import MAX_TERMS, looked_up, rarities, terms


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Where does my sister live?", ["sister", "live"]),
        ("What's the wifi-password?", ["wifi", "password"]),
        ("ANA Ana ana", ["ana"]),
        ("is it 7 or x?", ["7"]),
        ("Straße 12b", ["strasse", "12b"]),
        ("日本 の 話", ["日本", "話"]),
        ("Where is the CAFÉ of Müller?", ["cafe", "muller"]),
        ("Un thé, ＮＨ２０３", ["un", "the", "nh203"]),
        ("मेरी बहन", ["मेरी", "बहन"]),
        ("how are you", []),
        ("How are you today?", []),
        ("Good night! Thanks, that's great.", []),
        ("🦊🌲", []),
        ("snake_case", ["snake", "case"]),
    ],
)
def test_content_words(text: str, words: list[str]) -> None:
    assert terms(text) == words


def test_names_and_numbers_are_stressed_in_whatever_letters() -> None:
    found = {
        term.word: term.emphasis > 1 for term in looked_up("Wo ist über Mu\u0308ller das Fach ４４７１, أين القط?")
    }
    assert found["muller"] and found["fach"] and found["4471"]
    # scripts without capitals have no names by them
    assert not found["uber"] and not found["القط"]


def test_no_more_than_so_many() -> None:
    assert len(terms(" ".join(f"word{n}" for n in range(1000)))) == MAX_TERMS


def test_rare_words_weigh_more_and_every_word_weighs() -> None:
    never, once, some, all_of_them = rarities(np.array([0, 1, 10, 1000]), 1000)
    assert never > once > some > all_of_them > 0
    # in a bank of three, "in all three" does not make a word common
    once, all_of_them = rarities(np.array([1, 3]), 3) ** 2
    assert all_of_them > 0.7 * once
    once, all_of_them = rarities(np.array([1, 3000]), 3000) ** 2
    assert all_of_them < 0.1 * once


@pytest.mark.parametrize(
    "query",
    ['"unbalanced', "AND OR NOT", "text:porto", "porto*", "NEAR(ana porto)", "ana^2 -porto", "(", "^", "{a b}: x"],
)
def test_nothing_in_a_question_is_syntax(tmp_path: Path, query: str) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        assert bank.recall(query)


def test_rare_words_decide_where_common_ones_are_too_many(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many([f"common words fill sentence {n}" for n in range(2100)], batch_size=500)
        wanted = bank.ingest("common words and a marmalade")
        assert bank.recall("common words marmalade", 1)[0].memory_id == wanted.memory_id
