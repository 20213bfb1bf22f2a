"""What says the same twice, and how to choose what differs."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from membank_llama.core.types import Vector

SAME = 0.9
"""The cosine from which on two memories of the same words say the same."""

_WORD = re.compile(r"[^\W_]+")
_FILLERS = frozenset(
    ("a", "an", "the", "oh", "well", "so", "just", "really", "very", "hey", "hi", "please", "ok", "yes")
)


def collapsed(texts: Sequence[str], vectors: Vector | None) -> list[int]:
    """For each text, best first, the place of the first one that says the same: its own where none does.

    The same words but for fillers, case and punctuation ("not" and numbers are words like any other), and,
    where there are vectors (n, dim), a cosine of at least `SAME`.
    """
    places: list[int] = []
    first: dict[tuple[str, ...], int] = {}
    for place, text in enumerate(texts):
        key = tuple(word for word in _WORD.findall(text.casefold()) if word not in _FILLERS)
        other = first.setdefault(key, place) if key else place
        if other != place and vectors is not None and float(vectors[other] @ vectors[place]) < SAME:
            other = place
        places.append(other)
    return places


def diversified(scores: Vector, vectors: Vector, count: int, diversity: float) -> list[int]:
    """Places of `count` rows by maximal marginal relevance (Carbonell and Goldstein 1998, doi:10.1145/290941.291025).

    Args:
        scores: relevance, float32 (n,).
        vectors: unit rows (n, dim).
        diversity: 0 for relevance alone, 1 for difference alone; scores are first brought to 0..1.
    """
    low, high = float(scores.min()), float(scores.max())
    relevance = (scores - low) / max(high - low, 1e-9)
    chosen: list[int] = []
    nearest = np.zeros(len(scores), np.float32)
    open_ = np.ones(len(scores), bool)
    while open_.any() and len(chosen) < count:
        worth = np.where(open_, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        best = int(np.argmax(worth))
        chosen.append(best)
        open_[best] = False
        np.maximum(nearest, vectors @ vectors[best], out=nearest)
    return chosen
