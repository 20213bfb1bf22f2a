"""The gate opens for what belongs to a question and stays shut for the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.banks import FACTS, open_bank

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.memory.bank import MemBank
from membank_llama.recall.relevance_gate import (
    ALONE,
    COHORT,
    FLOOR,
    FULL_WORDS,
    RISE,
    RelevanceGate,
    evidence,
    judged,
    needed,
)

ENCODER = MockAdapter(hidden_dim=256)
GATE = RelevanceGate(ENCODER.encode_batch(COHORT))
ENOUGH = 8.0


def spreads(question: str, memory: str) -> float:
    query = ENCODER.encode(question)
    return float(GATE.spreads(query, np.array([query @ ENCODER.encode(memory)], np.float32))[0])


def test_scores_are_counted_in_spreads_of_unrelated_text() -> None:
    related = spreads("Where is the violin of Marta?", "Marta sold the violin in spring.")
    unrelated = spreads("Where is the violin of Marta?", "Rye flour needs a longer rest.")
    assert related > unrelated + 2
    query = ENCODER.encode("Where is the violin of Marta?")
    own = GATE.spreads(query, ENCODER.encode_batch(COHORT) @ query)
    assert abs(float(own.mean())) < 1e-4
    assert abs(float(own.std()) - 1) < 1e-3


@pytest.mark.parametrize(
    ("dense", "words", "relevant"),
    [
        (ENOUGH + 0.1, 0.0, True),
        (0.0, ENOUGH / FULL_WORDS + 0.01, True),
        (ENOUGH / 2 + 0.1, ENOUGH / FULL_WORDS / 2, True),
        (ENOUGH / 2, 0.0, False),
        (0.0, ENOUGH / FULL_WORDS / 2, False),
        (-50.0, ENOUGH / FULL_WORDS + 0.01, True),
        (0.0, 0.0, False),
    ],
)
def test_either_or_both_open_it(dense: float, words: float, relevant: bool) -> None:
    spreads, shares = np.array([dense], np.float32), np.array([words], np.float32)
    (verdict,) = judged(spreads, shares, ENOUGH)
    assert verdict.relevant is relevant
    assert f"evidence {evidence(dense, words):.1f} of {ENOUGH:.1f}" in verdict.reason
    assert verdict.reason.startswith("relevant" if relevant else "not relevant")
    assert f"{words:.0%}" in verdict.reason
    assert not judged(spreads, shares, ENOUGH, content=False)[0].relevant


def test_meaning_alone_opens_it_whatever_the_bank_asks_for() -> None:
    spreads, shares = np.array([ALONE - 0.1, ALONE], np.float32), np.zeros(2, np.float32)
    below, above = judged(spreads, shares, 14.0)
    assert not below.relevant and above.relevant
    assert above.reason.endswith("evidence 7.5 of 14.0; 7.5 spreads are enough")
    assert not judged(spreads, shares, 14.0, content=False)[1].relevant


def test_what_unrelated_questions_reach_raises_the_bar() -> None:
    assert needed([]) == needed([0.0] * 24) == FLOOR
    assert needed([5.0] * 24) == pytest.approx(FLOOR + RISE * 5.0)
    # one sentence that happens to share its only word with a memory is no reason to shut the gate
    assert needed([1.0] * 23 + [15.0]) == needed([1.0] * 24)


def test_the_bar_is_measured_on_the_bank_and_rises_with_it(tmp_path: Path) -> None:
    with open_bank(tmp_path, dim=256) as bank:

        def bar() -> float:
            return float(bank.recall("Where does my sister live?")[0].reason.rpartition(" of ")[2])

        bank.ingest(FACTS[0])
        small = bar()
        assert small < FLOOR + 2
        bank.ingest_many(list(COHORT))
        # each sentence, asked as a question, now finds itself
        assert bar() > small + 5


def test_without_an_encoder_words_decide(tmp_path: Path) -> None:
    gate = RelevanceGate(None)
    assert gate.spreads(None, np.ones(3, np.float32)).tolist() == [0, 0, 0]
    assert gate.question(0) is None
    assert gate.without(0).question(0) is None
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
    with MemBank(None, tmp_path) as bank:
        assert bank.recall("Where does my sister Ana live?")[0].relevant
        assert not bank.recall("Where does my aunt Clementine live in winter?")[0].relevant


def test_a_sentence_of_the_cohort_is_judged_by_the_others() -> None:
    question = GATE.question(3)
    assert question is not None
    itself = np.array([1.0], np.float32)
    assert GATE.without(3).spreads(question, itself)[0] > 1.5 * GATE.spreads(question, itself)[0]


def test_without_a_cohort_cosines_spread_as_between_random_vectors() -> None:
    rows = np.random.default_rng(1).standard_normal((4000, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    spreads = RelevanceGate(None).spreads(rows[0], rows[1:] @ rows[0])
    assert abs(float(spreads.std()) - 1) < 0.05


def test_a_cohort_without_spread_is_no_division_by_zero() -> None:
    gate = RelevanceGate(np.zeros((4, 8), np.float32))
    assert np.isfinite(gate.spreads(np.ones(8, np.float32), np.ones(2, np.float32))).all()


def test_the_cohort_is_about_nothing_in_particular() -> None:
    assert len(set(COHORT)) == len(COHORT) >= 20


def test_a_note_with_a_heading_opens_the_gate_for_no_other_note(tmp_path: Path) -> None:
    notes = ("Recipe: mix flour with water.", "Todo: call the plumber.", "Wifi: maple-4471.", "We went to Rome.")
    with open_bank(tmp_path, dim=256) as bank:
        bank.ingest_many(notes)
        found = {result.text: result.relevant for result in bank.recall("Which Recipe needs saffron?")}
        assert not any(found[note] for note in notes[1:])
        assert bank.recall("What is the Wifi password?")[0].text == notes[2]


def test_a_name_is_known_in_the_talks_of_whoever_it_names(tmp_path: Path) -> None:
    said = [("Ana", "We both fell ill on the boat."), ("Ben", "That boat was small.")]
    with open_bank(tmp_path, dim=256) as bank:
        for role, text in said:
            bank.ingest(text, role=role, conversation="a")
        bank.ingest("Her boat is green.", role="Cleo", conversation="b")
        words = {
            r.text: r.reason.partition(" of the words")[0].rpartition(" ")[2] for r in bank.recall("Ana on a boat?")
        }
    assert words[said[0][1]] == words[said[1][1]] == "100%"
    assert words["Her boat is green."] != "100%"
