"""`QueryEngine`: from a question to ranked memories.

Two searches run side by side: the vector index over coarse codes, drilled down level 2 → 1 → 0, and BM25 over the
text. Their scores are z-scored over the candidates and added, so that a name or a number is found even where the
activations are weak. The gate then says of each result whether it is relevant.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from . import lexical
from .errors import InvalidQueryError, MembankError
from .gate import RelevanceGate, Verdict
from .pointer import PointerRecord
from .store import Store
from .types import DEFAULT_NAMESPACE, LEVELS, Fields, Memory, Vector

CANDIDATES = 64
LEXICAL_CANDIDATES = 64
LEXICAL_WEIGHT = 1.0
DOCUMENT_BUDGET = 2000
EXACT_BELOW = 20_000
SCAN_CHUNK = 4096

Ids = npt.NDArray[np.int64]


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

    `final_score` is the cosine at the finest level asked for; `lexical_score` is BM25 (0 where no word is shared);
    results are ranked by `fused_score`. Without an encoder the level scores are None.
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


@dataclass
class _Candidates:
    """Memories under consideration, row by row: ids, slots, BM25, and cosines by level."""

    ids: Ids
    slots: Ids
    bm25: Vector
    levels: dict[int, Vector] = field(default_factory=dict)

    def keep(self, rows: npt.NDArray[np.intp]) -> _Candidates:
        levels = {level: scores[rows] for level, scores in self.levels.items()}
        return _Candidates(self.ids[rows], self.slots[rows], self.bm25[rows], levels)

    def dense(self) -> Vector | None:
        """Cosines at the finest level scored so far."""
        return self.levels[min(self.levels)] if self.levels else None

    def fused(self) -> Vector:
        dense = self.dense()
        total = LEXICAL_WEIGHT * zscored(self.bm25)
        return total if dense is None else total + zscored(dense)

    def ranked(self) -> npt.NDArray[np.intp]:
        """Rows best first; equal scores go to the newer memory."""
        return np.lexsort((-self.ids, -self.fused()))


class QueryEngine:
    """Searches one store."""

    def __init__(self, store: Store, gate: RelevanceGate) -> None:
        self._store = store
        self._gate = gate
        self._frequencies: dict[str, int] = {}
        self._frequencies_at = -1

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
            except MembankError:
                if self._store.activations == at and self._store.is_current():
                    raise
                continue
            # packed or re-encoded meanwhile: slots have another meaning now
            if self._store.activations == at and self._store.is_current():
                return results

    def _search(self, query: RecallQuery, vector: Vector | None) -> list[RecallResult]:
        words = lexical.terms(query.text)
        found = self._candidates(query, vector, words)
        if vector is not None and len(found.ids):
            found = self._drill_down(query, vector, found)
        order = found.ranked()
        # a few more than asked for: the store may have dropped one since
        found = found.keep(order[: query.top_k + 8])
        return self._results(query, vector, words, found)

    # -- candidates

    def _candidates(self, query: RecallQuery, vector: Vector | None, words: list[str]) -> _Candidates:
        bm25 = self._lexical(query, words)
        dense = {} if vector is None else self._dense(query, vector)
        wanted = (set(bm25) | set(dense)) - query.exclude
        slots = self._store.registry.slots_of(
            wanted, query.namespace, since=query.since, until=query.until, now=time.time()
        )
        ids = np.array(sorted(slots), np.int64)
        return _Candidates(
            ids,
            np.array([slots[i] for i in ids.tolist()], np.int64),
            np.array([bm25.get(i, 0.0) for i in ids.tolist()], np.float32),
        )

    def _lexical(self, query: RecallQuery, words: list[str]) -> dict[int, float]:
        words = self._affordable(words)
        if not words:
            return {}
        limit = max(LEXICAL_CANDIDATES, 2 * query.top_k) + len(query.exclude)
        rows = self._store.registry.search_text(
            lexical.any_of(words), query.namespace, limit, since=query.since, until=query.until
        )
        return dict(rows)

    def _affordable(self, words: list[str]) -> list[str]:
        """The rarest words, as many as `DOCUMENT_BUDGET` postings allow: common ones cost time and tell little."""
        generation = self._store.registry.generation
        if generation != self._frequencies_at:
            self._frequencies, self._frequencies_at = {}, generation
        for word in words:
            if word not in self._frequencies:
                self._frequencies[word] = self._store.registry.documents_with(lexical.quoted(word), DOCUMENT_BUDGET + 1)
        chosen, postings = [], 0
        for word in sorted(words, key=lambda w: self._frequencies[w]):
            postings += self._frequencies[word]
            if postings > DOCUMENT_BUDGET:
                break
            chosen.append(word)
        return chosen

    def _dense(self, query: RecallQuery, vector: Vector) -> dict[int, float]:
        want = max(CANDIDATES, query.candidate_multiplier * query.top_k)
        if 2 not in query.levels:
            return self._scan(query, vector, max(query.levels), want)
        if query.since is not None or query.until is not None:
            # a time range may leave few of the index's best: small ranges are searched whole
            within = self._store.registry.within(query.namespace, query.since, query.until)
            if len(within) <= EXACT_BELOW:
                return self._scan(query, vector, 2, want, within)
            want *= 4
        index = self._store.indexes.get(query.namespace)
        ids, scores = index.search(vector, want + len(query.exclude))
        return dict(zip(ids.tolist(), scores.tolist(), strict=True))

    def _scan(
        self, query: RecallQuery, vector: Vector, level: int, want: int, ids: Collection[int] | None = None
    ) -> dict[int, float]:
        """Exact search over one level."""
        registry = self._store.registry
        rows = registry.live(query.namespace)
        if ids is not None:
            among = set(ids)
            rows = [row for row in rows if row[0] in among]
        scores: dict[int, float] = {}
        for start in range(0, len(rows), SCAN_CHUNK):
            piece = rows[start : start + SCAN_CHUNK]
            values = self._store.scores(vector, np.array([slot for _, slot in piece], np.int64), level)
            scores.update(zip((memory_id for memory_id, _ in piece), values.tolist(), strict=True))
        best = sorted(scores, key=lambda i: -scores[i])[: want + len(query.exclude)]
        return {i: scores[i] for i in best}

    # -- ranking

    def _drill_down(self, query: RecallQuery, vector: Vector, found: _Candidates) -> _Candidates:
        """Score all candidates at the coarse level, fewer at each finer one."""
        levels = sorted(query.levels, reverse=True)
        keep = max(32, 4 * query.top_k)
        for level in levels:
            if len(found.levels) and len(found.ids) > keep:
                found = found.keep(found.ranked()[:keep])
                keep = max(16, 2 * query.top_k)
            found.levels[level] = self._store.scores(vector, found.slots, level)
        return found

    def _results(
        self, query: RecallQuery, vector: Vector | None, words: list[str], found: _Candidates
    ) -> list[RecallResult]:
        memories = self._store.registry.get(found.ids.tolist())
        pointers = self._store.pointers({m.slot for m in memories.values()})
        fused, dense = found.fused(), found.dense()
        spreads = self._gate.spreads(vector, dense) if dense is not None else np.zeros(len(found.ids), np.float32)
        shares = self._word_shares(words, found.ids.tolist())
        results: list[RecallResult] = []
        for row, memory_id in enumerate(found.ids.tolist()):
            memory = memories.get(memory_id)
            score = 0.0 if dense is None else float(dense[row])
            if memory is None or memory.slot not in pointers or len(results) == query.top_k:
                continue
            if query.min_score is not None and dense is not None and score < query.min_score:
                continue
            verdict = self._gate.judge(float(spreads[row]), shares[memory_id])
            at = {level: float(values[row]) for level, values in found.levels.items()}
            results.append(
                _result(len(results), memory, pointers[memory.slot], verdict, score, at,
                        float(found.bm25[row]), float(fused[row]))
            )  # fmt: skip
        return results

    def _word_shares(self, words: list[str], ids: Sequence[int]) -> dict[int, float]:
        """The share of the question's content words that each memory holds."""
        counts = dict.fromkeys(ids, 0)
        for word in words:
            for memory_id in self._store.registry.matching(lexical.quoted(word), ids):
                counts[memory_id] += 1
        return {memory_id: count / max(1, len(words)) for memory_id, count in counts.items()}


def zscored(values: Vector) -> Vector:
    """Values minus their mean, divided by their spread; zeros where all are equal."""
    if not len(values):
        return values
    spread = float(values.std())
    if spread < 1e-9:
        return np.zeros_like(values)
    scored: Vector = ((values - values.mean()) / spread).astype(np.float32)
    return scored


def _result(
    rank: int,
    memory: Memory,
    pointers: tuple[PointerRecord, PointerRecord, PointerRecord],
    verdict: Verdict,
    score: float,
    at: Mapping[int, float],
    bm25: float,
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
        lexical_score=bm25,
        fused_score=fused,
        relevant=verdict.relevant,
        reason=verdict.reason,
        metadata=memory.metadata,
    )
