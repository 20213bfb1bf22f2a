"""The passages of long memories in a search: each is a candidate of its own, and a memory is found by its best.

The words of a question are known by memory, so all its passages share them in the ranking; which passage is the best of
a memory that is found is decided by the words that each holds itself, beside all else that speaks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from membank_llama.core.types import Memory
from membank_llama.store.namespace_snapshot import Roster, Rows
from membank_llama.store.passage_rows import passages_of, words_in
from membank_llama.store.store import Store

from .ranking import Ranking
from .scope import SharedWords

FEW = 3
"""Passages of one memory that go on to the next finer level."""


@dataclass(frozen=True)
class Best:
    """The best passage of a long memory: its place in the scene, its span, and where each passage begins."""

    at: int
    span: tuple[int, int]
    borders: tuple[int, ...]


def best_of_each(roster: Roster, rows: Rows, order: Rows, most: int = 1) -> Rows:
    """Of some places in `rows`, best first, those that are among the best `most` of their memory."""
    if not roster.passages:
        return order
    owners = roster.owner[rows[order]]
    together = np.argsort(owners, kind="stable")
    sorted_owners = owners[together]
    starts = np.flatnonzero(np.r_[True, sorted_owners[1:] != sorted_owners[:-1]])
    nth = np.arange(len(owners)) - np.repeat(starts, np.diff(np.r_[starts, len(owners)]))
    kept: Rows = order[np.sort(together[nth < most])]
    return kept


def best_passages(
    store: Store, shared: SharedWords, ranking: Ranking, order: Rows, memories: Iterable[Memory]
) -> Mapping[int, Best]:
    """memory id → its best passage of those in `order`, for the long ones among some memories."""
    roster = shared.roster
    if not roster.passages:
        return {}
    texts = {memory.id: memory.text for memory in memories}
    found: dict[int, Best] = {}
    rows = ranking.scene.rows[order]
    for owner, passages in passages_of(store.registry, texts).items():
        spans = {passage.id: (passage.start, passage.stop) for passage in passages}
        mine = [place for place in np.flatnonzero(roster.owner[rows] == owner) if int(roster.ids[rows[place]]) in spans]
        if not mine:
            continue
        cuts = [spans[int(roster.ids[rows[place]])] for place in mine]
        own = shared.worth @ words_in([texts[owner][slice(*cut)] for cut in cuts], shared.forms)
        at = order[mine]
        others = ranking.fused[at] - ranking.parts.get("words", ranking.scene.zeros())[at]
        best = int(np.argmax(others + np.float32(ranking.weights.words) * own))
        found[owner] = Best(int(at[best]), cuts[best], tuple(passage.start for passage in passages))
    return found
