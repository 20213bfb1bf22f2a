"""From what a search found to `RecallResult`s: what says the same twice, how to choose what differs, and what is told
of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import filterfalse

import numpy as np

from membank_llama.core.letters import WORD, folded
from membank_llama.core.types import Memory, Vector
from membank_llama.store.pointers import PointerRecord

from .best_passages import Best
from .query import RecallResult
from .ranking import Ranking
from .relevance_gate import Verdict

SAME = 0.9
"""The cosine from which on two memories of the same words say the same."""

MOST_TEXTS, MOST_CHARACTERS = 8192, 1000
"""Texts whose words are kept in mind, and the longest of them: the same ones are found over and over."""

_FILLERS = frozenset(
    {
        "a", "an", "the", "oh", "well", "so", "just", "really", "very", "badly", "quite", "hey", "hi", "please", "ok",
        "okay", "yes", "again", "sorry", "thanks", "actually", "still", "also", "too", "am", "is", "are", "m", "s",
        "re", "ve",
    }
)  # fmt: skip
_ASIDE = re.compile(
    r"\b(?:no,? thank(?:s| you)|(?:as|like) i (?:said|told you|mentioned)|i (?:told you|said)(?: that)?|thank you"
    r"|(?:as )?you know(?: that)?|remember that|let me tell you|by the way)\b"
)
"""What people say around what they say again."""


@dataclass(frozen=True)
class Found:
    """A memory that is returned: its place in the scene, the pointers of what was found of it at levels 0, 1 and 2,
    the gate's verdict, its best passage where it is a long one, and the ids of those that say the same."""

    memory: Memory
    place: int
    pointers: tuple[PointerRecord, PointerRecord, PointerRecord]
    verdict: Verdict
    passage: Best | None
    duplicates: tuple[int, ...]


def results_of(found: Sequence[Found], ranking: Ranking) -> list[RecallResult]:
    """The results of a search, best first."""
    dense = ranking.dense()
    return [
        RecallResult(
            rank=rank,
            final_score=0.0 if dense is None else float(dense[one.place]),
            score_l0=_cosine(ranking, 0, one.place),
            score_l1=_cosine(ranking, 1, one.place),
            score_l2=_cosine(ranking, 2, one.place),
            ptr_level0=one.pointers[0],
            ptr_level1=one.pointers[1],
            ptr_level2=one.pointers[2],
            source_text_hash=one.memory.text_hash,
            memory_id=one.memory.id,
            text=one.memory.text,
            role=one.memory.role,
            created_at=one.memory.created_at,
            namespace=one.memory.namespace,
            conversation=one.memory.conversation,
            source=one.memory.source,
            lexical_score=float(ranking.scene.words[one.place]),
            fused_score=float(ranking.fused[one.place]),
            relevant=one.verdict.relevant,
            reason=one.verdict.reason,
            metadata=one.memory.metadata,
            signals={name: float(part[one.place]) for name, part in ranking.parts.items() if part[one.place]},
            duplicates=one.duplicates,
            passage=None if one.passage is None else one.passage.span,
            borders=() if one.passage is None else one.passage.borders,
            first_told_at=one.memory.first_told_at,
            pinned=one.memory.pinned,
            expires_at=one.memory.expires_at,
            evidence=one.verdict.evidence,
            enough=one.verdict.enough,
        )
        for rank, one in enumerate(found)
    ]


def _cosine(ranking: Ranking, level: int, place: int) -> float | None:
    """The cosine at a level; None where it was not scored there."""
    values = ranking.levels.get(level)
    return None if values is None or np.isnan(values[place]) else float(values[place])


def collapsed(texts: Sequence[str], vectors: Vector | None) -> list[int]:
    """For each text, best first, the place of the first one that says the same: its own where none does.

    The same words but for fillers, case and punctuation ("not" and numbers are words like any other), and,
    where there are vectors (n, dim), a cosine of at least `SAME`.
    """
    places: list[int] = []
    first: dict[tuple[str, ...], int] = {}
    for place, text in enumerate(texts):
        key = _said_once(text) if len(text) <= MOST_CHARACTERS else _said(text)
        other = first.setdefault(key, place) if key else place
        if other != place and vectors is not None and float(vectors[other] @ vectors[place]) < SAME:
            other = place
        places.append(other)
    return places


def _said(text: str) -> tuple[str, ...]:
    """The words of a text but for fillers, each once: "I told you: allergic to peanuts, I am"."""
    plain = text.lower() if text.isascii() else folded(text)
    return tuple(dict.fromkeys(filterfalse(_FILLERS.__contains__, WORD.findall(_ASIDE.sub(" ", plain)))))


_said_once = lru_cache(maxsize=MOST_TEXTS)(_said)


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
