"""From a namespace's snapshot to groups of memories: which belong together, how typical each is, and where it lies.

Clusters are found in the coarse level, along the leading axes of what the namespace holds (topic_clusters.py). What
stands beside a memory in its conversation says what it is about too. Where level 2 hardly tells two groups apart,
level 1 is read, of those memories alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from membank_llama.core.types import Ids, Mask, Rows, Vector
from membank_llama.store.namespace_snapshot import NamespaceSnapshot
from membank_llama.store.stored_vectors import StoredVectors

from .topic_clusters import (
    LeadingAxes,
    axes_for,
    centres_of,
    moved,
    nearest_centres,
    of_unit_length,
    sampled,
    undecided,
)

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
class Groups:
    """Which group each line belongs to (-1: none), its cosine with the centre, and where it lies in the plane, (n, 2),
    within -1 and 1."""

    of: Rows
    closeness: Vector
    plane: Vector

    @classmethod
    def none(cls, count: int) -> Groups:
        return cls(np.full(count, -1, np.intp), np.zeros(count, np.float32), np.zeros((count, 2), np.float32))


class _Table:
    """The vectors of lines along the leading axes, and what they and their neighbours are about."""

    def __init__(
        self, store: StoredVectors, snapshot: NamespaceSnapshot, lines: MemoryLines, told: Mask, weights: Vector
    ) -> None:
        self._store, self._slots, self._lines = store, snapshot.slots, lines
        self._counted = np.where(told, weights, QUIET * weights).astype(np.float32)
        self.most = max(1, min(MOST_TOPICS, round(float(told.sum()) ** 0.5), int(told.sum()) // MEMORIES_A_TOPIC))
        # a bank's own axes begin with those that hold most
        self._width = store.hierarchy.dim
        if store.hierarchy.axes is not None:
            self._width = min(self._width, LEADING * axes_for(self.most))
        fitting = np.flatnonzero(told)
        fitting = fitting[sampled(len(fitting), self._width)]
        rows = self._decoded(lines.first[fitting], 2)
        self._axes = LeadingAxes.of(rows, weights[fitting], axes_for(self.most))
        self._own = self._along(np.arange(len(lines)), 2)

    def refine(self, lines: Rows) -> None:
        """Read level 1 of some lines in place of level 2."""
        self._own[lines] = self._along(lines, 1)

    def about(self) -> Vector:
        """What each line is about, by itself and what stands beside it, rows of unit length."""
        weighed = self._own * self._counted[:, np.newaxis]
        # a line that tells nothing still is somewhere
        found = weighed + np.float32(1e-3) * self._own
        for beside in (self._lines.before, self._lines.after):
            there = np.flatnonzero(beside >= 0)
            found[there] += np.float32(BESIDE) * weighed[beside[there]]
        return of_unit_length(found)

    def _along(self, lines: Rows, level: int) -> Vector:
        """Lines along the axes; of a memory in passages their mean."""
        counts, rows = self._lines.counts[lines], self._lines.rows(lines)
        found = np.empty((len(rows), self._axes.axes.shape[1]), np.float32)
        for start in range(0, len(rows), _PIECE):
            piece = slice(start, start + _PIECE)
            found[piece] = self._axes.along(self._decoded(rows[piece], level))
        if len(rows) > len(lines):
            found = np.add.reduceat(found, np.cumsum(counts) - counts, axis=0)
        return of_unit_length(found)

    def _decoded(self, rows: Rows, level: int) -> Vector:
        with np.errstate(all="ignore"):
            found = self._store.hierarchy.decode(self._store.codes(self._slots[rows], level), level)[:, : self._width]
        # damage is near to nothing
        return found if np.isfinite(found).all() else np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)


def grouped(
    store: StoredVectors, snapshot: NamespaceSnapshot, lines: MemoryLines, told: Mask, lengths: Vector
) -> Groups:
    """The groups of some memories.

    Args:
        told: which lines say what groups there are; the others join them where they are near to one.
        lengths: the bytes of each line's text.
    """
    if not told.any():
        return Groups.none(len(lines))
    weights = (np.minimum(1, lengths / LONG) + LEAST_WEIGHT).astype(np.float32)
    table = _Table(store, snapshot, lines, told, weights)
    about = table.about()
    fitting = np.flatnonzero(told)
    fitting = fitting[sampled(len(fitting))]
    centres = centres_of(about[fitting], weights[fitting], table.most)
    if len(centres) > 1:
        table.refine(np.flatnonzero(undecided(nearest_centres(about, centres)[1], UNDECIDED)))
        about = table.about()
        for _ in range(_AGAIN):
            centres = moved(about[fitting], weights[fitting], centres)
    nearest, cosines = nearest_centres(about, centres)
    closeness: Vector = cosines[np.arange(len(lines)), nearest]
    belongs = told if len(centres) == 1 else closeness >= np.where(told, NEAR, NEARER)
    return Groups(np.where(belongs, nearest, -1), closeness, _plane(about))


def _plane(about: Vector) -> Vector:
    """The first two axes, each scaled to reach from -1 to 1 at most."""
    two = np.zeros((len(about), 2), np.float32)
    two[:, : about.shape[1]] = about[:, :2]
    scaled: Vector = two / np.maximum(np.abs(two).max(axis=0), 1e-6)
    return scaled
