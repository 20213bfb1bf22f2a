"""The relevance gate: a memory that has nothing to do with the question is not injected.

A cosine means something else in every encoder, so it is not compared with a constant. The question is also held
against a few dozen sentences about nothing in particular; their mean and spread say what "unrelated" looks like
for this question in this encoder, and a memory's score is counted in those spreads (cohort normalisation, as
speaker verification does it: Auckenthaler et al. 2000, doi:10.1006/dspr.1999.0360). What speaks for a memory is

    evidence = spreads + FULL_WORDS × share of the question's words that it holds.

How much is enough the bank says itself: the same sentences are asked of it as questions, each judged by the others,
and what they reach is what chance reaches in this bank with this encoder. A memory must go beyond it: FLOOR + RISE ×
the evidence that `QUANTILE` of the unrelated questions stay below. A text without content words recalls nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from membank_llama.core.types import Vector

FULL_WORDS = 15.0
"""Spreads that a memory with all of the question's content words is worth, each word by its rarity."""

NAMES = 2.0
"""What a name or a number counts beside other words: a question about an unknown name has no answer here."""

FLOOR, RISE, QUANTILE = 5.0, 0.8, 0.8
"""Chosen with FULL_WORDS and NAMES on LoCoMo's conversations and on everyday banks of 1, 3 and 20 memories with two
encoders (tests/recall/test_recall_quality.py), from the middle of the region where both hold; docs/recall.md."""

COHORT = (
    "The museum opens at nine and closes at five on weekdays.",
    "How long does it take to boil an egg?",
    "The river flows north before it turns towards the sea.",
    "Please restart the printer and load some paper.",
    "A triangle with equal sides has equal angles.",
    "The committee postponed its decision until next month.",
    "What is the capital of Mongolia?",
    "Copper conducts heat better than steel.",
    "She parked the van behind the old bakery.",
    "Update the driver, then reboot the computer.",
    "The orchestra tuned up while the audience sat down.",
    "Which planet has the most moons?",
    "Prices rose by two percent in the third quarter.",
    "The goalkeeper saved a penalty in the last minute.",
    "Sort the list and remove every second element.",
    "Bees tell each other where flowers are by dancing.",
    "He painted the fence green and the gate white.",
    "The ferry was late because of thick fog.",
    "Why do leaves change colour in autumn?",
    "Mix the flour with water and let the dough rest.",
    "The court ruled in favour of the tenants.",
    "Thank you, that was very helpful.",
    "A new bridge will connect the two villages.",
    "I would like a table for two by the window.",
)

COHORT_TAG = hashlib.sha256("\n".join(COHORT).encode()).hexdigest()[:8]
"""Names the sentences, so that vectors kept of others are not taken for theirs."""


@dataclass(frozen=True)
class Verdict:
    """Whether a memory is relevant, and for people what spoke for it or against it."""

    relevant: bool
    reason: str


class RelevanceGate:
    """Counts cosines in spreads above unrelated text.

    Args:
        cohort: `COHORT` encoded and corrected as the bank's vectors are, shape ``(n, dim)``, unit rows; None where
            there is no encoder.
        raw: the same as the encoder gives it; None where nothing is corrected.
    """

    def __init__(self, cohort: Vector | None, raw: Vector | None = None) -> None:
        self._cohort = cohort
        self._raw = cohort if raw is None else raw
        self._last: tuple[Vector, float, float] | None = None

    def spreads(self, query: Vector | None, scores: Vector) -> Vector:
        """Cosines of memories with the query, counted in spreads of unrelated text; zeros without a query.

        Without a cohort the vectors are taken to point anywhere, where cosines spread by 1/√dim around 0.
        """
        if query is None:
            return np.zeros(len(scores), np.float32)
        if self._cohort is None:
            return (scores * math.sqrt(len(query))).astype(np.float32)
        mean, spread = self._unrelated(self._cohort, query)
        return ((scores - mean) / spread).astype(np.float32)

    def _unrelated(self, cohort: Vector, query: Vector) -> tuple[float, float]:
        """Mean and spread of the cohort's cosines; the levels of one search ask for the same query."""
        last = self._last
        if last is None or last[0] is not query:
            cosines = cohort @ query
            self._last = last = (query, float(cosines.mean()), max(float(cosines.std()), 1e-6))
        return last[1], last[2]

    def without(self, place: int) -> RelevanceGate:
        """The gate that one of the cohort's sentences is judged by when it is asked itself."""
        if self._cohort is None or self._raw is None:
            return self
        return RelevanceGate(np.delete(self._cohort, place, axis=0), np.delete(self._raw, place, axis=0))

    def question(self, place: int) -> Vector | None:
        """One of the cohort's sentences as the encoder gives it."""
        return None if self._raw is None else self._raw[place]


def evidence(spreads: float, share: float) -> float:
    """What speaks for a memory.

    Args:
        spreads: see `RelevanceGate.spreads`.
        share: of the question's content words, 0 to 1, weighed by rarity.
    """
    return max(0.0, spreads) + FULL_WORDS * share


def needed(unrelated: Sequence[float]) -> float:
    """The evidence that opens the gate, from what unrelated questions reach in the bank."""
    return FLOOR + RISE * float(np.quantile(unrelated, QUANTILE)) if len(unrelated) else FLOOR


def judged(spreads: Vector, shares: Vector, enough: float, *, content: bool = True) -> list[Verdict]:
    """Decide on some memories; `content`: whether the question has content words at all."""
    return [_judged(*one, enough, content) for one in zip(spreads.tolist(), shares.tolist(), strict=True)]


def _judged(spreads: float, share: float, enough: float, content: bool) -> Verdict:
    found = evidence(spreads, share)
    relevant = content and found >= enough
    return Verdict(
        relevant,
        f"{'relevant' if relevant else 'not relevant'}: {spreads:+.1f} spreads above unrelated text, {share:.0%} of "
        f"the words; evidence {found:.1f} of {enough:.1f}",
    )
