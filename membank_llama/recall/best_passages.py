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
from .word_weights import WordWeights


@dataclass(frozen=True)
class Best:
    """The best passage of a long memory: its place in the scene, its span, and where each passage begins."""

    at: int
    span: tuple[int, int]
    borders: tuple[int, ...]


def best_passages(
    store: Store, words: WordWeights, ranking: Ranking, order: Rows, memories: Iterable[Memory]
) -> Mapping[int, Best]:
    """memory id → its best passage of those in `order`, for the long ones among some memories."""
    snapshot = words.snapshot
    texts = {memory.id: memory.text for memory in memories}
    rows = ranking.scene.rows[order]
    owners = passages_of(store.registry, texts)
    spans = {passage.id: (passage.start, passage.stop) for passages in owners.values() for passage in passages}
    among = [place for place, own in enumerate(snapshot.ids[rows].tolist()) if own in spans]
    owner = snapshot.owner[rows[among]]
    cuts = [spans[own] for own in snapshot.ids[rows[among]].tolist()]
    pieces = [texts[whole][slice(*cut)] for whole, cut in zip(owner.tolist(), cuts, strict=True)]
    own_words = np.float32(ranking.weights.words) * (words.worth @ words_in(pieces, words.forms))
    at = order[among]
    shared_words = ranking.parts.get("words", np.zeros(len(ranking.fused), np.float32))
    scores = ranking.fused[at] - shared_words[at] + own_words
    found: dict[int, Best] = {}
    for memory_id, passages in owners.items():
        mine = np.flatnonzero(owner == memory_id)
        if len(mine):
            best = int(mine[np.argmax(scores[mine])])
            found[memory_id] = Best(int(at[best]), cuts[best], tuple(passage.start for passage in passages))
    return found
