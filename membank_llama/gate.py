"""The relevance gate: a memory that has nothing to do with the question is not injected.

A cosine means something else in every encoder, so it is not compared with a constant. The question is also held
against a few dozen sentences about nothing in particular; their mean and spread say what "unrelated" looks like
for this question in this encoder, and a memory's score is counted in those spreads (cohort normalisation, as
speaker verification does it: Auckenthaler et al. 2000, doi:10.1006/dspr.1999.0360). Words in common count beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .types import Vector

DENSE_ENOUGH = 6.0
"""Spreads above unrelated text at which the dense score alone opens the gate."""

WORDS_ENOUGH = 0.6
"""Share of the question's content words at which the text alone opens the gate."""

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


@dataclass(frozen=True)
class Verdict:
    """Whether a memory is relevant, and the two numbers that decided it."""

    relevant: bool
    spreads: float
    words: float

    @property
    def reason(self) -> str:
        """For people: what spoke for it or against it."""
        side = "relevant" if self.relevant else "not relevant"
        return f"{side}: {self.spreads:+.1f} spreads above unrelated text, {self.words:.0%} of the words"


class RelevanceGate:
    """Judges memories for one question after another.

    Args:
        cohort: encoded `COHORT`, shape ``(n, dim)``, unit rows; None where there is no encoder.
    """

    def __init__(self, cohort: Vector | None) -> None:
        self._cohort = cohort

    def spreads(self, query: Vector | None, scores: Vector) -> Vector:
        """Cosines of memories with the query, counted in spreads of unrelated text; zeros without an encoder."""
        if query is None or self._cohort is None:
            return np.zeros(len(scores), np.float32)
        unrelated = self._cohort @ query
        spread = max(float(unrelated.std()), 1e-6)
        return ((scores - float(unrelated.mean())) / spread).astype(np.float32)

    def judge(self, spreads: float, words: float) -> Verdict:
        """`words` is the share of the question's content words that the memory holds, 0 to 1."""
        weight = max(0.0, spreads) / DENSE_ENOUGH + words / WORDS_ENOUGH
        return Verdict(weight >= 1.0, spreads, words)
