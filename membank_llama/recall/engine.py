"""`QueryEngine`: from a question to ranked memories.

Two searches run side by side: the vector index over coarse codes, drilled down level 2 → 1 → 0, and the postings of
the question's words. What they find, with its neighbours in the same session, makes the scene that signals.py scores;
no score depends on what else is found, so a bank of three memories and an encoder that tells little apart are ranked
by the same rule. The gate then says of each result whether it is relevant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import MembankError
from membank_llama.core.types import Memory, Vector
from membank_llama.store.namespace_snapshot import Ids, Roster, Rows
from membank_llama.store.pointers import PointerRecord
from membank_llama.store.store import Store

from .best_passages import FEW, Best, best_of_each, best_passages
from .diversity import collapsed, diversified
from .gate_thresholds import Thresholds
from .query import RecallQuery, RecallResult
from .ranking import Ranking, ranking_of
from .relevance_gate import COHORT, RelevanceGate, Verdict, evidence, judge
from .scope import Scope, SharedWords, scope_of, shared_words
from .signals import SIGNALS

CANDIDATES = 64
LEXICAL_CANDIDATES = 64
WHOLE_BELOW = 512
"""Memories up to which all of a namespace are scored."""

EXACT_BELOW = 20_000
SCAN_CHUNK = 4096
MOST_ASKED = 4096
"""Memories asked of the index in search of some that may be seen; beyond, all are scored."""

UNRELATED_TOP = 6

__all__ = ["QueryEngine", "RecallQuery", "RecallResult"]

_Pointers = tuple[PointerRecord, PointerRecord, PointerRecord]


@dataclass(frozen=True)
class Measured:
    """The candidates of a question: ids, sessions, and each signal's value for each."""

    ids: Ids
    sessions: npt.NDArray[np.int32]
    signals: Mapping[str, Vector]


class QueryEngine:
    """Searches one store."""

    def __init__(self, store: Store, gate: RelevanceGate, thresholds: Thresholds | None = None) -> None:
        """`thresholds` keeps what the gate asks for from one search to the next."""
        self._store = store
        self._gate = gate
        self._thresholds = thresholds or Thresholds(store, "none")

    def search(
        self,
        query: RecallQuery,
        vector: Vector | None,
        *,
        whole: Vector | None = None,
        model_id: str | None = None,
    ) -> list[RecallResult]:
        """The best memories, best first.

        Args:
            vector: the encoded question, shape ``(dim,)``, of unit length; None for lexical search alone.
            whole: the same with the names that `vector` was encoded without, for the gate; None where they are one.
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
                results = self._search(query, vector, vector if whole is None else whole)
            except (MembankError, ValueError, IndexError):
                # arrays of two encodings do not fit together either
                if self._store.is_current(at):
                    raise
                continue
            # packed or re-encoded meanwhile: slots have another meaning now
            if self._store.is_current(at):
                return results

    def measured(self, query: RecallQuery, vector: Vector | None) -> Measured:
        """All candidates with every signal unweighed, at the finest level asked for: what tuning works on."""
        self._store.follow()
        scope, _, ranking, order = self._ranked(query, vector, every=True)
        order = best_of_each(scope.roster, ranking.scene.rows, order)
        signals = {name: signal(ranking.scene)[order] for name, signal in SIGNALS.items()}
        rows = ranking.scene.rows[order]
        return Measured(scope.roster.owner[rows], scope.roster.session[rows], signals)

    def _search(self, query: RecallQuery, vector: Vector | None, whole: Vector | None) -> list[RecallResult]:
        stale = True
        while True:
            scope, shared, ranking, order = self._ranked(query, vector)
            if not len(order):
                return []
            dense = ranking.dense()
            if query.min_score is not None and dense is not None:
                order = order[dense[order] >= query.min_score]
            results, gone = self._results(query, whole, shared, scope, ranking, order)
            if not gone:
                return results
            # another process removed memories: read the roster anew, and strike off what is damaged even so
            if stale:
                self._store.rosters.clear()
            else:
                self._store.rosters.drop(query.namespace, gone)
            stale = False

    def _ranked(
        self, query: RecallQuery, vector: Vector | None, *, every: bool = False
    ) -> tuple[Scope, SharedWords, Ranking, Rows]:
        """From words to places in a scene, best first; `every`: none is left behind at a coarse level."""
        scope = scope_of(self._store, query)
        shared = shared_words(self._store, query, scope)
        candidates = self._candidates(query, vector, shared, scope)
        ranking = ranking_of(self._store, query, scope, shared, candidates, dense=vector is not None)
        if every:
            query = replace(query, top_k=max(1, len(candidates)))
        order = self._drill_down(query, vector, scope, ranking, candidates) if len(candidates) else candidates
        return scope, shared, ranking, order

    # -- candidates

    def _candidates(self, query: RecallQuery, vector: Vector | None, shared: SharedWords, scope: Scope) -> Rows:
        """Rows that may be returned: what either search finds, and what stands beside it."""
        roster = scope.roster
        if len(roster) <= WHOLE_BELOW and vector is not None:
            return scope.visible(np.arange(len(roster)))
        found = shared.best(max(LEXICAL_CANDIDATES, 2 * query.top_k))
        if roster.passages:
            found = roster.all_of(roster.ids[found])
        if vector is not None:
            found = np.union1d(found, scope.visible(roster.rows(np.unique(self._dense(query, vector, scope)))))
        beside = [scope.neighbours(found, distance) for distance in (1, 2, -1)]
        everyone = np.unique(np.concatenate([found, *beside]))
        return everyone[everyone >= 0]

    def _dense(self, query: RecallQuery, vector: Vector, scope: Scope) -> Ids:
        """Ids of the nearest memories."""
        want = max(CANDIDATES, query.candidate_multiplier * query.top_k)
        if scope.roster.passages:
            # several of them may be of one memory
            want *= FEW
        if 2 not in query.levels:
            return self._scan(vector, max(query.levels), want, scope)
        visible = len(scope.roster) if scope.seen is None else int(scope.seen.sum())
        if (query.since is not None or query.until is not None) and visible <= EXACT_BELOW:
            # a time range may leave few of the index's best: small ranges are searched whole
            return self._scan(vector, 2, want, scope)
        asked = math.ceil(want * len(scope.roster) / max(1, visible))
        while asked <= MOST_ASKED:
            ids = self._store.nearest(query.namespace, vector, asked)
            if ids is None:
                break
            if len(ids) < asked or len(scope.visible(scope.roster.rows(np.unique(ids)))) >= min(want, visible):
                return ids
            # what is near may be what must not be seen
            asked *= 2
        return self._scan(vector, 2, want, scope)

    def _scan(self, vector: Vector, level: int, want: int, scope: Scope) -> Ids:
        """Exact search over one level."""
        rows = scope.visible(np.arange(len(scope.roster)))
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), SCAN_CHUNK):
            piece = rows[start : start + SCAN_CHUNK]
            scores[start : start + SCAN_CHUNK] = self._store.scores(vector, scope.roster.slots[piece], level)
        return scope.roster.ids[rows[np.argsort(-scores, kind="stable")[:want]]]

    # -- ranking

    def _drill_down(
        self, query: RecallQuery, vector: Vector | None, scope: Scope, ranking: Ranking, candidates: Rows
    ) -> Rows:
        """Score all of the scene at the coarse level, fewer at each finer one; places of the finest, best first."""
        scene = ranking.scene
        places = np.searchsorted(scene.rows, candidates)
        if vector is None:
            ranking.rescore()
            return ranking.best(places)
        keep = max(32, 4 * query.top_k)
        asked = self._store.hierarchy.corrected(vector[np.newaxis])[0]
        scored = np.arange(len(scene))
        for level in sorted(query.levels, reverse=True):
            if ranking.levels:
                if len(places) > keep:
                    places = best_of_each(scope.roster, scene.rows, ranking.best(places), FEW)
                    places = places[: keep * FEW if scope.roster.passages else keep]
                    keep = max(16, 2 * query.top_k)
                scored = places
            cosines = self._store.scores(vector, scope.roster.slots[scene.rows[scored]], level)
            ranking.levels[level] = values = np.full(len(scene), np.nan, np.float32)
            values[scored] = cosines
            if scene.spreads is None:
                scene.spreads = scene.zeros()
            scene.spreads[scored] = self._gate.spreads(asked, cosines)
            ranking.rescore()
        return ranking.best(places)

    # -- answers

    def _results(
        self,
        query: RecallQuery,
        whole: Vector | None,
        shared: SharedWords,
        scope: Scope,
        ranking: Ranking,
        order: Rows,
    ) -> tuple[list[RecallResult], set[int]]:
        """The results, and the ids that turned out to be removed."""
        passages = order
        order = best_of_each(scope.roster, ranking.scene.rows, order)[: 2 * query.top_k + 8]
        ids = scope.roster.owner[ranking.scene.rows[order]].tolist()
        memories = self._store.registry.get(ids)
        gone = set(ids) - memories.keys()
        if gone:
            return [], gone
        chosen, twins = self._chosen(query, ranking, order, [memories[memory_id].text for memory_id in ids], scope)
        cut = best_passages(self._store, shared, ranking, passages, (memories[ids[place]] for place in chosen))
        best = [cut[ids[place]].at if ids[place] in cut else int(order[place]) for place in chosen]
        rows = ranking.scene.rows[best]
        slots = scope.roster.slots[rows].tolist()
        pointers = self._store.pointers(slots)
        dense = ranking.dense()
        spreads = self._whole_spreads(query, whole, scope, rows)
        enough = self._enough(query.namespace, scope.roster)
        results: list[RecallResult] = []
        for place, at, slot, spread in zip(chosen, best, slots, spreads.tolist(), strict=True):
            memory = memories[ids[place]]
            if slot not in pointers:
                # moved between the two reads: `search` sees that and begins again
                continue
            verdict = judge(spread, float(ranking.share[at]), enough, content=shared.content)
            same = tuple(ids[other] for other in twins.get(place, ()))
            cosine = 0.0 if dense is None else float(dense[at])
            result = _result(len(results), memory, pointers[slot], verdict, cosine, ranking, at, same)
            results.append(_with_passage(result, cut.get(memory.id)))
        return results, gone

    def _whole_spreads(self, query: RecallQuery, whole: Vector | None, scope: Scope, rows: Rows) -> Vector:
        """How near the whole question is to some memories, at the finest level asked for."""
        if whole is None:
            return np.zeros(len(rows), np.float32)
        corrected = self._store.hierarchy.corrected(whole[np.newaxis])[0]
        return self._gate.spreads(corrected, self._store.scores(whole, scope.roster.slots[rows], min(query.levels)))

    def measure(self, namespace: str) -> None:
        """Measure now what the gate asks for in a namespace."""
        self._thresholds.measure(
            namespace, len(self._store.rosters.get(namespace)), partial(self._unrelated, namespace)
        )

    def _enough(self, namespace: str, roster: Roster) -> float:
        """The evidence that opens the gate here."""
        return self._thresholds.get(namespace, len(roster), partial(self._unrelated, namespace))

    def _unrelated(self, namespace: str) -> Iterator[float]:
        """The evidence that each of the unrelated sentences reaches."""
        return (self._reached(place, namespace) for place in range(len(COHORT)))

    def _reached(self, place: int, namespace: str) -> float:
        """The most that speaks for any memory when an unrelated sentence is asked."""
        query, vector = RecallQuery(COHORT[place], UNRELATED_TOP, namespace=namespace), self._gate.question(place)
        _, _, ranking, order = QueryEngine(self._store, self._gate.without(place))._ranked(query, vector)
        spreads = ranking.scene.zeros() if ranking.scene.spreads is None else ranking.scene.spreads
        best = order[:UNRELATED_TOP].tolist()
        return max((evidence(float(spreads[at]), float(ranking.share[at])) for at in best), default=0.0)

    def _chosen(
        self, query: RecallQuery, ranking: Ranking, order: Rows, texts: Sequence[str], scope: Scope
    ) -> tuple[list[int], dict[int, list[int]]]:
        """Places of `order` to return, best first, and for each the places that say the same."""
        vectors = None
        if query.diversity and ranking.levels:
            level = min(ranking.levels)
            slots = scope.roster.slots[ranking.scene.rows[order]]
            vectors = self._store.hierarchy.decode(self._store.codes(slots, level), level)
        twins: dict[int, list[int]] = {}
        for place, first in enumerate(collapsed(texts, vectors)):
            if first == place:
                twins[place] = []
            else:
                twins[first].append(place)
        places = list(twins)
        if vectors is not None:
            fused = ranking.fused[order[places]]
            picked = diversified(fused, vectors[places], query.top_k, query.diversity)
            places = [places[pick] for pick in picked]
        return places[: query.top_k], twins


def _with_passage(result: RecallResult, excerpt: Best | None) -> RecallResult:
    return result if excerpt is None else replace(result, passage=excerpt.span, borders=excerpt.borders)


def _result(
    rank: int,
    memory: Memory,
    pointers: _Pointers,
    verdict: Verdict,
    cosine: float,
    ranking: Ranking,
    at: int,
    duplicates: tuple[int, ...],
) -> RecallResult:
    levels: Mapping[int, float] = {
        level: float(values[at]) for level, values in ranking.levels.items() if not np.isnan(values[at])
    }
    return RecallResult(
        rank=rank,
        final_score=cosine,
        score_l0=levels.get(0),
        score_l1=levels.get(1),
        score_l2=levels.get(2),
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
        lexical_score=float(ranking.scene.words[at]),
        fused_score=float(ranking.fused[at]),
        relevant=verdict.relevant,
        reason=verdict.reason,
        metadata=memory.metadata,
        signals={name: float(part[at]) for name, part in ranking.parts.items() if part[at]},
        duplicates=duplicates,
    )
