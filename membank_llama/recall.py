"""`QueryEngine`: from a question to ranked memories.

Two searches run side by side: the vector index over coarse codes, drilled down level 2 → 1 → 0, and the postings of
the question's words. A cosine counts in spreads above unrelated text (see gate.py), a shared word by its rarity: BM25
without its damping of repeats and lengths, which short texts are found better without (benchmarks/locomo.py).
The two add up, neither depends on what else is found, so a bank of three memories and an encoder that tells little
apart are ranked by the same rule. The gate then says of each result whether it is relevant.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from . import lexical
from .errors import InvalidQueryError, MembankError
from .gate import RelevanceGate, Verdict
from .pointer import PointerRecord
from .roster import Ids, Roster
from .store import Store
from .types import DEFAULT_NAMESPACE, LEVELS, Fields, Memory, Vector

CANDIDATES = 64
LEXICAL_CANDIDATES = 64
COMMON_WORD = 1000
"""Memories from which on a word is left out: reading where it stands takes long, and it tells little."""

EXACT_BELOW = 20_000
SCAN_CHUNK = 4096

_NONE: Ids = np.zeros(0, np.int64)


@dataclass(frozen=True)
class RecallQuery:
    """What is asked of a bank; checked when made.

    Raises:
        InvalidQueryError: a parameter that cannot be meant.
    """

    text: str
    top_k: int = 5
    levels: tuple[int, ...] = (2, 1, 0)
    namespace: str = DEFAULT_NAMESPACE
    since: float | None = None
    until: float | None = None
    exclude: frozenset[int] = frozenset()
    min_score: float | None = None
    candidate_multiplier: int = 5

    def __post_init__(self) -> None:
        if not isinstance(self.top_k, int):
            raise InvalidQueryError(f"top_k is {self.top_k!r}; give a whole number")
        for name, when in (("since", self.since), ("until", self.until)):
            if when is not None and not (isinstance(when, (int, float)) and when == when):
                raise InvalidQueryError(f"{name} is {when!r}; give seconds since 1970")
        if self.top_k < 1:
            raise InvalidQueryError(f"top_k is {self.top_k}; ask for at least 1 memory")
        if not self.levels or not set(self.levels) <= set(LEVELS):
            raise InvalidQueryError(f"levels is {self.levels}; name one or more of 0 (full), 1 and 2 (coarse)")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InvalidQueryError("since is not before until; swap them")


@dataclass(frozen=True)
class RecallResult(Fields):
    """One recalled memory.

    `final_score` is the cosine at the finest level asked for; `lexical_score` is the weight of the words shared with
    the question, in nats (0 where there is none); results are ranked by `fused_score`, the cosine in spreads above
    unrelated text plus `lexical_score`. Without an encoder the level scores are None.
    """

    rank: int
    final_score: float
    score_l0: float | None
    score_l1: float | None
    score_l2: float | None
    ptr_level0: PointerRecord
    ptr_level1: PointerRecord
    ptr_level2: PointerRecord
    source_text_hash: str
    memory_id: int
    text: str
    role: str
    created_at: float
    namespace: str
    conversation: str | None
    source: str | None
    lexical_score: float
    fused_score: float
    relevant: bool
    reason: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best_ptr(self) -> PointerRecord:
        """The pointer at the finest level that was scored."""
        if self.score_l0 is not None or (self.score_l1 is None and self.score_l2 is None):
            return self.ptr_level0
        return self.ptr_level1 if self.score_l1 is not None else self.ptr_level2


@dataclass(frozen=True)
class _Shared:
    """What the question's content words meet in a namespace.

    `ids` are the memories that hold any of them, rising; `weights` what each shares, in nats; `total` the weight of
    all words together.
    """

    memories: int
    content: bool
    total: float
    ids: Ids
    weights: Vector

    def of(self, ids: Ids) -> Vector:
        """The weight that each of some memories shares, 0 for most."""
        if not len(self.ids):
            return np.zeros(len(ids), np.float32)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[at] == ids, self.weights[at], np.float32(0))

    def best(self, limit: int) -> Ids:
        """The memories that share most; of equal ones the newer."""
        return self.ids[np.lexsort((-self.ids, -self.weights))[:limit]]


@dataclass(frozen=True)
class _Field:
    """Where a search takes place: the namespace, which of it lie within the times asked for, and the ids that are
    excluded or have expired."""

    roster: Roster
    inside: npt.NDArray[np.bool_] | None
    barred: Ids

    def rows(self, ids: Ids) -> npt.NDArray[np.intp]:
        """Rows of the roster of those ids that lie in the namespace and the times."""
        rows = self.roster.rows(ids)
        return rows if self.inside is None else rows[self.inside[rows]]

    def allowed(self, ids: Ids) -> npt.NDArray[np.intp]:
        """Rows of those that may be returned."""
        rows = self.rows(ids)
        return rows[~np.isin(self.roster.ids[rows], self.barred)] if len(self.barred) else rows


@dataclass
class _Candidates:
    """Memories under consideration, row by row: ids, slots, weight of shared words; cosines and spreads by level."""

    ids: Ids
    slots: Ids
    words: Vector
    levels: dict[int, Vector] = field(default_factory=dict)
    spreads: Vector | None = None

    def keep(self, rows: npt.NDArray[np.intp]) -> _Candidates:
        levels = {level: scores[rows] for level, scores in self.levels.items()}
        spreads = None if self.spreads is None else self.spreads[rows]
        return _Candidates(self.ids[rows], self.slots[rows], self.words[rows], levels, spreads)

    def dense(self) -> Vector | None:
        """Cosines at the finest level scored so far."""
        return self.levels[min(self.levels)] if self.levels else None

    def fused(self) -> Vector:
        return self.words if self.spreads is None else self.words + self.spreads

    def ranked(self) -> npt.NDArray[np.intp]:
        """Rows best first; equal scores go to the newer memory."""
        return np.lexsort((-self.ids, -self.fused()))


class QueryEngine:
    """Searches one store."""

    def __init__(self, store: Store, gate: RelevanceGate) -> None:
        self._store = store
        self._gate = gate

    def search(self, query: RecallQuery, vector: Vector | None, *, model_id: str | None = None) -> list[RecallResult]:
        """The best memories, best first.

        Args:
            vector: the encoded question, shape ``(dim,)``, of unit length; None for lexical search alone.
            model_id: the model that encoded it, checked where it is given.

        Raises:
            ModelMismatchError: the bank was moved to another model since it was opened.
        """
        while True:
            self._store.follow()
            at = self._store.activations
            if model_id is not None:
                self._store.check_model(model_id)
            try:
                results = self._search(query, vector)
            except (MembankError, ValueError, IndexError):
                # arrays of two encodings do not fit together either
                if self._store.is_current(at):
                    raise
                continue
            # packed or re-encoded meanwhile: slots have another meaning now
            if self._store.is_current(at):
                return results

    def _search(self, query: RecallQuery, vector: Vector | None) -> list[RecallResult]:
        stale = True
        while True:
            field = self._field(query)
            shared = self._shared(query, field)
            found = self._candidates(query, vector, shared, field)
            if vector is not None and len(found.ids):
                found = self._drill_down(query, vector, found)
            order = found.ranked()
            dense = found.dense()
            if query.min_score is not None and dense is not None:
                order = order[dense[order] >= query.min_score]
            results, gone = self._results(shared, found.keep(order[: query.top_k]))
            if not gone:
                return results
            # another process removed memories: read the roster anew, and strike off what is damaged even so
            if stale:
                self._store.rosters.clear()
            else:
                self._store.rosters.drop(gone)
            stale = False

    # -- candidates

    def _field(self, query: RecallQuery) -> _Field:
        roster = self._store.rosters.get(query.namespace)
        barred = query.exclude.union(self._store.registry.expired(time.time()))
        return _Field(roster, roster.within(query.since, query.until), np.array(sorted(barred), np.int64))

    def _shared(self, query: RecallQuery, field: _Field) -> _Shared:
        """Look the question's words up; a word in more than `COMMON_WORD` memories of the bank is passed over."""
        registry, words = self._store.registry, lexical.terms(query.text)
        found = registry.postings([lexical.quoted(word) for word in words], COMMON_WORD)
        postings = [np.fromstring(ids, np.int64, sep=",") if ids else _NONE for ids in found if ids is not None]
        ids, rows = np.unique(np.concatenate([_NONE, *postings]), return_inverse=True)
        word = np.repeat(np.arange(len(postings)), [len(where) for where in postings])
        if not field.roster.alone or field.inside is not None:
            # the words of other namespaces and times must not fill the candidates
            kept = np.isin(ids, field.roster.ids[field.rows(ids)])
            word, rows = word[kept[rows]], rows[kept[rows]]
            ids, rows = ids[kept], (np.cumsum(kept) - 1)[rows]
        memories = len(field.roster)
        holding = np.bincount(word, minlength=len(postings)).tolist()
        worth = np.array([lexical.weight(count, memories) for count in holding])
        weights = np.bincount(rows, worth[word], len(ids)).astype(np.float32)
        return _Shared(memories, bool(words), float(worth.sum()), ids, weights)

    def _candidates(self, query: RecallQuery, vector: Vector | None, shared: _Shared, field: _Field) -> _Candidates:
        wanted = shared.best(max(LEXICAL_CANDIDATES, 2 * query.top_k) + len(field.barred))
        if vector is not None:
            wanted = np.concatenate([wanted, self._dense(query, vector, field)])
        rows = field.allowed(np.unique(wanted))
        ids = field.roster.ids[rows]
        return _Candidates(ids, field.roster.slots[rows], shared.of(ids))

    def _dense(self, query: RecallQuery, vector: Vector, field: _Field) -> Ids:
        """Ids of the nearest memories."""
        want = max(CANDIDATES, query.candidate_multiplier * query.top_k)
        if 2 not in query.levels:
            return self._scan(vector, max(query.levels), want, field)
        if field.inside is not None:
            # a time range may leave few of the index's best: small ranges are searched whole
            if int(field.inside.sum()) <= EXACT_BELOW:
                return self._scan(vector, 2, want, field)
            want *= 4
        return self._store.nearest(query.namespace, vector, want + len(field.barred))

    def _scan(self, vector: Vector, level: int, want: int, field: _Field) -> Ids:
        """Exact search over one level."""
        rows = field.allowed(field.roster.ids)
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), SCAN_CHUNK):
            piece = rows[start : start + SCAN_CHUNK]
            scores[start : start + SCAN_CHUNK] = self._store.scores(vector, field.roster.slots[piece], level)
        return field.roster.ids[rows[np.argsort(-scores, kind="stable")[:want]]]

    # -- ranking

    def _drill_down(self, query: RecallQuery, vector: Vector, found: _Candidates) -> _Candidates:
        """Score all candidates at the coarse level, fewer at each finer one."""
        levels = sorted(query.levels, reverse=True)
        keep = max(32, 4 * query.top_k)
        asked = self._store.hierarchy.corrected(vector[np.newaxis])[0]
        for level in levels:
            if len(found.levels) and len(found.ids) > keep:
                found = found.keep(found.ranked()[:keep])
                keep = max(16, 2 * query.top_k)
            found.levels[level] = scores = self._store.scores(vector, found.slots, level)
            found.spreads = self._gate.spreads(asked, scores)
        return found

    def _results(self, shared: _Shared, found: _Candidates) -> tuple[list[RecallResult], set[int]]:
        """The results, and the ids that turned out to be removed."""
        ids = found.ids.tolist()
        memories = self._store.registry.get(ids)
        pointers = self._store.pointers({memory.slot for memory in memories.values()})
        gone = set(ids) - memories.keys()
        if gone:
            return [], gone
        fused, dense = found.fused(), found.dense()
        results: list[RecallResult] = []
        for row, memory_id in enumerate(ids):
            memory = memories[memory_id]
            if memory.slot not in pointers:
                # moved between the two reads: `search` sees that and begins again
                continue
            score = 0.0 if dense is None else float(dense[row])
            spreads = 0.0 if found.spreads is None else float(found.spreads[row])
            share = float(found.words[row]) / shared.total if shared.total else 0.0
            verdict = self._gate.judge(spreads, share, shared.memories, content=shared.content)
            at = {level: float(values[row]) for level, values in found.levels.items()}
            results.append(
                _result(len(results), memory, pointers[memory.slot], verdict, score, at,
                        float(found.words[row]), float(fused[row]))
            )  # fmt: skip
        return results, gone


def _result(
    rank: int,
    memory: Memory,
    pointers: tuple[PointerRecord, PointerRecord, PointerRecord],
    verdict: Verdict,
    score: float,
    at: Mapping[int, float],
    words: float,
    fused: float,
) -> RecallResult:
    return RecallResult(
        rank=rank,
        final_score=score,
        score_l0=at.get(0),
        score_l1=at.get(1),
        score_l2=at.get(2),
        ptr_level0=pointers[0],
        ptr_level1=pointers[1],
        ptr_level2=pointers[2],
        source_text_hash=memory.text_hash,
        memory_id=memory.id,
        text=memory.text,
        role=memory.role,
        created_at=memory.created_at,
        namespace=memory.namespace,
        conversation=memory.conversation,
        source=memory.source,
        lexical_score=words,
        fused_score=fused,
        relevant=verdict.relevant,
        reason=verdict.reason,
        metadata=memory.metadata,
    )
