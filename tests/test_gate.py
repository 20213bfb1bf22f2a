"""The gate opens for what belongs to a question and stays shut for the rest."""

from __future__ import annotations

import numpy as np
import pytest

from membank_llama.adapters.mock import MockAdapter
from membank_llama.gate import COHORT, FULL_WORDS, LARGE, RelevanceGate

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


NEEDED = GATE.needed(LARGE)


@pytest.mark.parametrize(
    ("dense", "words", "relevant"),
    [
        (NEEDED + 0.1, 0.0, True),
        (0.0, NEEDED / FULL_WORDS + 0.01, True),
        (NEEDED / 2 + 0.1, NEEDED / FULL_WORDS / 2, True),
        (NEEDED / 2, 0.0, False),
        (0.0, NEEDED / FULL_WORDS / 2, False),
        (-50.0, NEEDED / FULL_WORDS + 0.01, True),
        (0.0, 0.0, False),
    ],
)
def test_either_or_both_open_it(dense: float, words: float, relevant: bool) -> None:
    verdict = GATE.judge(dense, words, LARGE)
    assert verdict.relevant is relevant
    assert verdict.reason.startswith("relevant" if relevant else "not relevant")
    assert f"{words:.0%}" in verdict.reason
    assert not GATE.judge(dense, words, LARGE, content=False).relevant


def test_small_banks_and_weak_encoders_need_less() -> None:
    assert GATE.needed(1) < GATE.needed(20) < GATE.needed(LARGE) == GATE.needed(10**6)
    assert GATE.needed(0) == GATE.needed(1)
    # all texts alike but for noise: an encoder that tells little apart
    rng = np.random.default_rng(3)
    alike = 1 + 0.3 * rng.standard_normal((24, 16))
    weak = RelevanceGate((alike / np.linalg.norm(alike, axis=1, keepdims=True)).astype(np.float32))
    assert 0 < weak.reach < GATE.reach
    assert weak.needed(LARGE) < GATE.needed(LARGE)


def test_without_an_encoder_words_decide() -> None:
    gate = RelevanceGate(None)
    assert gate.spreads(None, np.ones(3, np.float32)).tolist() == [0, 0, 0]
    assert gate.judge(0.0, 0.5, LARGE).relevant
    assert not gate.judge(0.0, 0.3, LARGE).relevant


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
