"""The relevance gate: a memory that has nothing to do with the question is not injected.

A cosine means something else in every encoder, so it is not compared with a constant. The question is also held
against a few dozen sentences about nothing in particular; their mean and spread say what "unrelated" looks like
for this question in this encoder, and a memory's score is counted in those spreads (cohort normalisation, as
speaker verification does it: Auckenthaler et al. 2000, doi:10.1006/dspr.1999.0360). The rule: spreads + `FULL_WORDS` ×
share of the question's words ≥ `needed()`. An encoder that tells texts apart is asked for more; a bank of a few
memories, in which little comes near by chance, for less; a text without content words recalls nothing.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from .types import Vector

FULL_WORDS = 10.0
"""Spreads that a memory with all of the question's content words is worth, each word by its rarity."""

NEEDED = 4.0
"""Evidence that opens the gate where only words can speak."""

NEEDED_BY_REACH = 0.3
"""What is asked beside it, in parts of the encoder's reach: the spreads at which a text itself would stand."""

LARGE = 600
"""Memories from which on a bank counts as large. The chance maximum of n scores grows like √(2 ln n)."""

SMALL_BANK = 0.1
"""Part of the needed evidence that is let off for each spread by which that maximum is lower in a smaller bank."""

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
    """Whether a memory is relevant, and the numbers that decided it."""

    relevant: bool
    spreads: float
    words: float
    evidence: float
    needed: float

    @property
    def reason(self) -> str:
        """For people: what spoke for it or against it."""
        side = "relevant" if self.relevant else "not relevant"
        return (
            f"{side}: {self.spreads:+.1f} spreads above unrelated text, {self.words:.0%} of the words; "
            f"evidence {self.evidence:.1f} of {self.needed:.1f}"
        )


class RelevanceGate:
    """Judges memories for one question after another.

    Args:
        cohort: encoded `COHORT`, shape ``(n, dim)``, unit rows; None where there is no encoder.
    """

    def __init__(self, cohort: Vector | None) -> None:
        self._cohort = cohort
        self._last: tuple[Vector, float, float] | None = None
        self.reach = 0.0 if cohort is None else _reach(cohort)

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

    def needed(self, memories: int) -> float:
        """The evidence that opens the gate in a bank of so many memories."""
        short = _chance_maximum(LARGE) - _chance_maximum(min(memories, LARGE))
        return (NEEDED + NEEDED_BY_REACH * self.reach) * (1.0 - SMALL_BANK * short)

    def judge(self, spreads: float, words: float, memories: int, *, content: bool = True) -> Verdict:
        """Decide on one memory.

        Args:
            spreads: see `spreads()`.
            words: the share of the question's content words that the memory holds, weighed by rarity, 0 to 1.
            memories: how many the namespace holds.
            content: whether the question has content words at all.
        """
        evidence, needed = max(0.0, spreads) + FULL_WORDS * words, self.needed(memories)
        return Verdict(content and evidence >= needed, spreads, words, evidence, needed)


def _chance_maximum(count: int) -> float:
    return math.sqrt(2.0 * math.log(max(1, count)))


def _reach(cohort: Vector) -> float:
    """Mean over the cohort of how many spreads above the others a text stands to itself."""
    cosines = (cohort @ cohort.T)[~np.eye(len(cohort), dtype=bool)].reshape(len(cohort), -1)
    return float(np.mean((1.0 - cosines.mean(1)) / np.maximum(cosines.std(1), 1e-6)))
