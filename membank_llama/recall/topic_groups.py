"""From a namespace's snapshot to groups of memories: which belong together, how typical each is, and where it lies.

Clusters are found in the coarse level, along the leading axes of what the namespace holds (topic_clusters.py). What
stands beside a memory in its conversation says what it is about too. Where level 2 hardly tells two groups apart,
level 1 is read, of those memories alone. In a bank that no model encodes words stand in (topic_word_vectors.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from membank_llama.adapters.hashing import WORDS_PREFIX
from membank_llama.core.types import Ids, Mask, Rows, Vector
from membank_llama.store.memory_texts import beginnings
from membank_llama.store.namespace_snapshot import NamespaceSnapshot, places_in
from membank_llama.store.store import Store

from .topic_clusters import (
    Centres,
    LeadingAxes,
    axes_for,
    centres_of,
    moved,
    nearest_centres,
    of_unit_length,
    sampled,
    undecided,
)
from .topic_word_vectors import WordVectors

READ = 600
"""Characters of a text whose words count, where no model encodes."""
MOST_TOPICS = 48
MEMORIES_A_TOPIC = 5
"""At least so many for each topic that there may be; of many memories the root of their number."""
BESIDE = 0.7
"""What the memories before and after one count for in what it is about."""
LONG = 60.0
"""Bytes of a text from which on it counts in full; "Haha, good one" says little of any topic."""
LEAST_WEIGHT = 0.02
QUIET = 0.05
"""What the words of a memory that tells nothing count for in what its neighbours are about."""
NEAR = 0.4
"""Cosine with the centre of a topic from which on a memory belongs to it."""
NEARER = 0.5
"""The same of what tells nothing."""
UNDECIDED = 0.1
"""Between the cosines with two centres: below it level 1 is read."""
FEW_CHANGES, CHANGED = 3, 0.1
"""Memories that may come and go, or the share of them, until groups are found anew."""
LEADING = 4
"""How many of the bank's axes are looked at for each one of the namespace that is wanted of them."""
_AGAIN = 3
_PIECE = 8192


@dataclass(frozen=True)
class MemoryLines:
    """A namespace's memories as lines of a table: each with its rows in the snapshot, and the lines before and after it
    in its session, -1 where there is none."""

    ids: Ids
    first: Rows
    counts: Rows
    before: Rows
    after: Rows

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, snapshot: NamespaceSnapshot, seen: Mask) -> MemoryLines:
        """Those whose first row may be seen."""
        first = np.flatnonzero((snapshot.ids == snapshot.owner) & seen)
        # the rows of a memory stand together, and owners only rise
        end = np.searchsorted(snapshot.owner, snapshot.ids[first], "right")
        line = np.full(len(snapshot) + 1, -1, np.intp)
        counts = end - first
        line[_every_row(first, counts)] = np.repeat(np.arange(len(first)), counts)
        before, after = snapshot.before[first], snapshot.after[end - 1]
        # a snapshot in hand may be older than the links
        before, after = (np.where(at < len(snapshot), at, -1) for at in (before, after))
        return cls(snapshot.ids[first], first, counts, line[before], line[after])

    def rows(self, lines: Rows) -> Rows:
        """The rows of some lines, one after the other."""
        return _every_row(self.first[lines], self.counts[lines])


def _every_row(first: Rows, counts: Rows) -> Rows:
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    found: Rows = np.repeat(first, counts) + within
    return found


@dataclass(frozen=True)
class Fitted:
    """What one grouping leaves to the next, so that little is computed anew and little moves while little changes.

    `own` are the vectors of `ids` along the axes, and `since` the ids that axes and centres were found from.
    """

    axes: LeadingAxes
    centres: Centres
    ids: Ids
    own: Vector
    since: Ids

    def still_holds(self, ids: Ids) -> bool:
        """Whether what is there now is mostly what was there then."""
        changed = len(np.setxor1d(self.since, ids, assume_unique=True))
        return changed <= max(FEW_CHANGES, CHANGED * len(self.since))


@dataclass(frozen=True)
class Groups:
    """Which group each line belongs to (-1: none), its cosine with the centre, and where it lies in the plane, (n, 2),
    within -1 and 1."""

    of: Rows
    closeness: Vector
    plane: Vector
    fitted: Fitted | None = None

    @classmethod
    def none(cls, count: int) -> Groups:
        return cls(np.full(count, -1, np.intp), np.zeros(count, np.float32), np.zeros((count, 2), np.float32))


class LineVectors(Protocol):
    """What groups are found from: a vector a line, `width` wide."""

    width: int

    def first(self, lines: Rows) -> Vector: ...
    def along(self, axes: LeadingAxes, lines: Rows, level: int) -> Vector: ...


class CoarseVectors:
    """The coarse vectors of lines; of a memory in passages the mean of theirs."""

    def __init__(self, store: Store, snapshot: NamespaceSnapshot, lines: MemoryLines, width: int) -> None:
        self._store, self._slots, self._lines = store, snapshot.slots, lines
        self.width = width

    def first(self, lines: Rows) -> Vector:
        """Level 2 of some lines, of the first passage alone."""
        return self._decoded(self._lines.first[lines], 2)

    def along(self, axes: LeadingAxes, lines: Rows, level: int) -> Vector:
        """Some lines along axes, of unit length."""
        counts, rows = self._lines.counts[lines], self._lines.rows(lines)
        found = np.empty((len(rows), axes.axes.shape[1]), np.float32)
        for start in range(0, len(rows), _PIECE):
            piece = slice(start, start + _PIECE)
            found[piece] = axes.along(self._decoded(rows[piece], level))
        if len(rows) > len(lines):
            found = np.add.reduceat(found, np.cumsum(counts) - counts, axis=0)
        return of_unit_length(found)

    def _decoded(self, rows: Rows, level: int) -> Vector:
        with np.errstate(all="ignore"):
            found = self._store.hierarchy.decode(self._store.codes(self._slots[rows], level), level)[:, : self.width]
        # damage is near to nothing
        return found if np.isfinite(found).all() else np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)


def grouped(
    store: Store,
    snapshot: NamespaceSnapshot,
    lines: MemoryLines,
    told: Mask,
    lengths: Vector,
    earlier: Fitted | None = None,
) -> Groups:
    """The groups of some memories.

    Args:
        told: which lines say what groups there are; the others join them where they are near to one.
        lengths: the bytes of each line's text.
        earlier: of the same namespace in the same encoding; what it holds is gone on with while little has changed.
    """
    if not told.any():
        return Groups.none(len(lines))
    weights = (np.minimum(1, lengths / LONG) + LEAST_WEIGHT).astype(np.float32)
    counted = np.where(told, weights, QUIET * weights).astype(np.float32)
    fitting = np.flatnonzero(told)
    fitting = fitting[sampled(len(fitting))]
    if earlier is not None and earlier.still_holds(lines.ids):
        fitted = _gone_on_with(earlier, _vectors_of(store, snapshot, lines, len(earlier.axes.mean)), lines)
        about = _about(fitted.own, lines, counted)
    else:
        most = max(1, min(MOST_TOPICS, round(float(told.sum()) ** 0.5), int(told.sum()) // MEMORIES_A_TOPIC))
        # a bank's own axes begin with those that hold most
        width = store.hierarchy.dim
        if store.hierarchy.axes is not None:
            width = min(width, LEADING * axes_for(most))
        vectors = _vectors_of(store, snapshot, lines, width)
        fitted, about = _fitted(vectors, lines, fitting, (weights, counted), most)
    centres = moved(about[fitting], weights[fitting], fitted.centres)
    nearest, cosines = nearest_centres(about, centres)
    closeness: Vector = cosines[np.arange(len(lines)), nearest]
    belongs = told if len(centres) == 1 else closeness >= np.where(told, NEAR, NEARER)
    return Groups(np.where(belongs, nearest, -1), closeness, _plane(about), replace(fitted, centres=centres))


def _vectors_of(store: Store, snapshot: NamespaceSnapshot, lines: MemoryLines, width: int) -> LineVectors:
    if not store.model.id.startswith(WORDS_PREFIX):
        return CoarseVectors(store, snapshot, lines, width)
    texts = beginnings(store.registry, lines.ids.tolist(), READ)
    return WordVectors([texts.get(memory_id, "") for memory_id in lines.ids.tolist()])


def _gone_on_with(earlier: Fitted, vectors: LineVectors, lines: MemoryLines) -> Fitted:
    """The same axes and centres with the memories that there are now."""
    at = places_in(earlier.ids, lines.ids)
    own = earlier.own[at]
    new = np.flatnonzero(at < 0)
    if len(new):
        own[new] = vectors.along(earlier.axes, new, 2)
    return replace(earlier, ids=lines.ids, own=own)


def _fitted(
    vectors: LineVectors, lines: MemoryLines, fitting: Rows, weights: tuple[Vector, Vector], most: int
) -> tuple[Fitted, Vector]:
    """Axes and centres found anew, and what each line is about.

    Args:
        weights: of each line in what groups there are, and in what its neighbours are about.
    """
    weight, counted = weights
    sample = fitting[sampled(len(fitting), vectors.width)]
    axes = LeadingAxes.of(vectors.first(sample), weight[sample], axes_for(most))
    own = vectors.along(axes, np.arange(len(lines)), 2)
    about = _about(own, lines, counted)
    centres = centres_of(about[fitting], weight[fitting], most)
    if len(centres) > 1:
        unsure = np.flatnonzero(undecided(nearest_centres(about, centres)[1], UNDECIDED))
        own[unsure] = vectors.along(axes, unsure, 1)
        about = _about(own, lines, counted)
        for _ in range(_AGAIN):
            centres = moved(about[fitting], weight[fitting], centres)
    return Fitted(axes, centres, lines.ids, own, lines.ids), about


def _about(own: Vector, lines: MemoryLines, counted: Vector) -> Vector:
    """What each line is about, by itself and what stands beside it, rows of unit length."""
    weighed = own * counted[:, np.newaxis]
    # a line that tells nothing still is somewhere
    found = weighed + np.float32(1e-3) * own
    for beside in (lines.before, lines.after):
        there = np.flatnonzero(beside >= 0)
        found[there] += np.float32(BESIDE) * weighed[beside[there]]
    return of_unit_length(found)


def _plane(about: Vector) -> Vector:
    """The first two axes, each scaled to reach from -1 to 1 at most."""
    two = np.zeros((len(about), 2), np.float32)
    two[:, : about.shape[1]] = about[:, :2]
    scaled: Vector = two / np.maximum(np.abs(two).max(axis=0), 1e-6)
    return scaled
