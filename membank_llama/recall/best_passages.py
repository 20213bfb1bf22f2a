"""The passages of long memories in a search: each is a candidate of its own, and a memory is found by its best.

The words of a question are known by memory, so all its passages share them in the ranking; which passage is the best of
a memory that is found is decided by the words that each holds itself, beside all else that speaks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from membank_llama.core.types import Memory, Rows
from membank_llama.store.passage_rows import passages_of, words_in
from membank_llama.store.store import Store

from .ranking import Ranking
from .word_matches import WordMatches


@dataclass(frozen=True)
class Best:
    """The best passage of a long memory: its place in the scene, its span, and where each passage begins."""

    at: int
    span: tuple[int, int]
    borders: tuple[int, ...]


def best_passages(
    store: Store, words: WordMatches, ranking: Ranking, order: Rows, memories: Iterable[Memory]
) -> Mapping[int, Best]:
    """memory id → its best passage of those in `order`, for the long ones among some memories."""
    snapshot = words.snapshot
    if not snapshot.passages:
        return {}
    texts = {memory.id: memory.text for memory in memories}
    found: dict[int, Best] = {}
    rows = ranking.scene.rows[order]
    for owner, passages in passages_of(store.registry, texts).items():
        spans = {passage.id: (passage.start, passage.stop) for passage in passages}
        listed = np.flatnonzero(snapshot.owner[rows] == owner)
        mine = [place for place in listed if int(snapshot.ids[rows[place]]) in spans]
        if not mine:
            continue
        cuts = [spans[int(snapshot.ids[rows[place]])] for place in mine]
        own = words.worth @ words_in([texts[owner][slice(*cut)] for cut in cuts], words.forms)
        at = order[mine]
        others = ranking.fused[at] - ranking.parts.get("words", np.zeros(len(ranking.fused), np.float32))[at]
        best = int(np.argmax(others + np.float32(ranking.weights.words) * own))
        found[owner] = Best(int(at[best]), cuts[best], tuple(passage.start for passage in passages))
    return found
