"""The gate opens for what belongs to a question and stays shut for the rest."""

from __future__ import annotations

import numpy as np
import pytest

from membank_llama.adapters.mock import MockAdapter
from membank_llama.gate import COHORT, DENSE_ENOUGH, WORDS_ENOUGH, RelevanceGate

ENCODER = MockAdapter(hidden_dim=256)
GATE = RelevanceGate(ENCODER.encode_batch(COHORT))


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
        (DENSE_ENOUGH + 0.1, 0.0, True),
        (0.0, WORDS_ENOUGH + 0.01, True),
        (DENSE_ENOUGH / 2 + 0.1, WORDS_ENOUGH / 2, True),
        (DENSE_ENOUGH / 2, 0.0, False),
        (0.0, WORDS_ENOUGH / 2, False),
        (-50.0, WORDS_ENOUGH + 0.01, True),
        (0.0, 0.0, False),
    ],
)
def test_either_or_both_open_it(dense: float, words: float, relevant: bool) -> None:
    verdict = GATE.judge(dense, words)
    assert verdict.relevant is relevant
    assert verdict.reason.startswith("relevant" if relevant else "not relevant")
    assert f"{words:.0%}" in verdict.reason


def test_without_an_encoder_words_decide() -> None:
    gate = RelevanceGate(None)
    assert gate.spreads(None, np.ones(3, np.float32)).tolist() == [0, 0, 0]
    assert gate.judge(0.0, 1.0).relevant


def test_a_cohort_without_spread_is_no_division_by_zero() -> None:
    gate = RelevanceGate(np.zeros((4, 8), np.float32))
    assert np.isfinite(gate.spreads(np.ones(8, np.float32), np.ones(2, np.float32))).all()


def test_the_cohort_is_about_nothing_in_particular() -> None:
    assert len(set(COHORT)) == len(COHORT) >= 20
