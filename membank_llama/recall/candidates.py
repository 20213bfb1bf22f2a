"""Which memories a question may return, and what stands beside them.

Candidates are the nearest by the vector index, those that hold most of the question's words, and their neighbours in
the session; in a small namespace all that may be seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from membank_llama.core.types import Ids, Mask, Rows, Vector
from membank_llama.store.namespace_snapshot import NamespaceSnapshot, places_in
from membank_llama.store.store import Store

from .query import RecallQuery
from .question_encoder import Question
from .signals import DENSE_REACH, WORD_REACH
from .word_weights import WordWeights

CANDIDATES = 64
LEXICAL_CANDIDATES = 64
WHOLE_BELOW = 512
"""Memories up to which all of a namespace are scored."""

EXACT_BELOW = 20_000
SCAN_CHUNK = 4096
MOST_ASKED = 4096
"""Memories asked of the index in search of some that may be seen; beyond, all are scored."""

FEW = 3
"""Passages of one memory that go on to the next finer level."""

BACK = max(max(WORD_REACH), -min(DENSE_REACH))
AHEAD = max(-min(WORD_REACH), max(DENSE_REACH))
"""How far before and after a memory its neighbours say something of it."""


@dataclass(frozen=True)
class Candidates:
    """The table that is scored: candidates, and for their sake their neighbours.

    Args:
        rows: all of them in the namespace's snapshot, rising.
        returned: which places of `rows` may be returned.
        around: the rows from `BACK` places before each to `AHEAD` after it, shape ``(BACK + 1 + AHEAD, n)``; -1 where
            there is none that may be seen.
        places: the places in `rows` of those in `around`, in the same shape; -1 for those that are not among them.
        near: for each distance of `DENSE_REACH` the place in `rows` of what stands so far after each; -1 where it is
            not among them.
    """

    rows: Rows
    returned: Rows
    around: Rows
    places: Rows
    near: Mapping[int, Rows]


def best_of_each(snapshot: NamespaceSnapshot, rows: Rows, order: Rows, most: int = 1) -> Rows:
    """Of some places in `rows`, best first, those that are among the best `most` of their memory."""
    if not snapshot.passages:
        return order
    owners = snapshot.owner[rows[order]]
    together = np.argsort(owners, kind="stable")
    sorted_owners = owners[together]
    starts = np.flatnonzero(np.r_[True, sorted_owners[1:] != sorted_owners[:-1]])
    nth = np.arange(len(owners)) - np.repeat(starts, np.diff(np.r_[starts, len(owners)]))
    kept: Rows = order[np.sort(together[nth < most])]
    return kept


def candidates_of(store: Store, question: Question, words: WordWeights) -> Candidates:
    """The candidates of a question, and what stands beside them."""
    query, vector, snapshot, seen = question.query, question.vector, words.snapshot, words.seen
    if vector is not None and len(snapshot) <= WHOLE_BELOW:
        rows = np.arange(len(snapshot)) if seen is None else np.flatnonzero(seen)
        returned = np.arange(len(rows))
    else:
        records = question.records_in(snapshot)
        limit = max(LEXICAL_CANDIDATES, 2 * query.top_k)
        sharing = words.best()
        found = some_of_each(sharing, records[sharing], limit, limit // 2)
        if snapshot.passages:
            found = snapshot.all_of(snapshot.ids[found])
        if vector is not None:
            nearest = snapshot.rows(np.unique(_nearest(store, query, vector, snapshot, seen, records)))
            found = np.union1d(found, _visible(nearest, seen))
        everyone = _listed(_masked(snapshot.around(found, 1, 2), seen))
        # what stands beside a candidate helps to score it
        rows = everyone if vector is None else _listed(_masked(snapshot.around(everyone, 2, 2), seen))
        returned = np.searchsorted(rows, everyone)
    around = _masked(snapshot.around(rows, BACK, AHEAD), seen)
    places = places_in(rows, around)
    return Candidates(rows, returned, around, places, {distance: places[BACK + distance] for distance in DENSE_REACH})


def some_of_each(places: Rows, records: Mask, most: int, most_records: int) -> Rows:
    """Of places best first the first `most` that are evidence and the first `most_records` that are none, in order:
    whatever was asked and answered over and over takes no room from what was told."""
    kept: Rows = places[np.where(records, np.cumsum(records) <= most_records, np.cumsum(~records) <= most)]
    return kept


def _nearest(
    store: Store, query: RecallQuery, vector: Vector, snapshot: NamespaceSnapshot, seen: Mask | None, records: Mask
) -> Ids:
    """Ids of the nearest memories, as many as are wanted of what is evidence."""
    want = max(CANDIDATES, query.candidate_multiplier * query.top_k)
    if snapshot.passages:
        # several of them may be of one memory
        want *= FEW
    if 2 not in query.levels:
        return _scanned(store, vector, max(query.levels), want, snapshot, seen)
    visible = len(snapshot) if seen is None else int(seen.sum())
    evidence = ~records if seen is None else ~records & seen
    told = int(evidence.sum())
    narrow = query.since is not None or query.until is not None or query.only is not None
    if narrow and visible <= EXACT_BELOW:
        # a time range or a topic may leave few of the index's best: small ones are searched whole
        return _scanned(store, vector, 2, want, snapshot, seen)
    asked = math.ceil(want * len(snapshot) / max(1, told))
    while asked <= MOST_ASKED:
        ids = store.nearest(query.namespace, snapshot, vector, asked, spare=True)
        if ids is None:
            break
        places = snapshot.places(ids)
        counted = np.cumsum((places >= 0) & evidence[places])
        enough = int(np.searchsorted(counted, min(want, told)))
        if len(ids) < asked or enough < len(ids):
            return ids[: max(asked, enough + 1)]
        # what is near may be what must not be seen, or is no evidence
        asked *= 2
    return _scanned(store, vector, 2, want, snapshot, evidence if told else seen)


def _scanned(
    store: Store, vector: Vector, level: int, want: int, snapshot: NamespaceSnapshot, seen: Mask | None
) -> Ids:
    """Exact search over one level."""
    rows = np.arange(len(snapshot)) if seen is None else np.flatnonzero(seen)
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), SCAN_CHUNK):
        piece = rows[start : start + SCAN_CHUNK]
        scores[start : start + SCAN_CHUNK] = store.scores(vector, snapshot.slots[piece], level)
    return snapshot.ids[rows[np.argsort(-scores, kind="stable")[:want]]]


def _listed(table: Rows) -> Rows:
    """All rows of a table, rising, each once."""
    rows = np.unique(table)
    return rows[rows >= 0]


def _visible(rows: Rows, seen: Mask | None) -> Rows:
    return rows if seen is None else rows[seen[rows]]


def _masked(table: Rows, seen: Mask | None) -> Rows:
    """The same without rows that may not be seen."""
    return table if seen is None else np.where((table >= 0) & seen[table], table, -1)
