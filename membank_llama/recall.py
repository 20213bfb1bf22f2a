"""`QueryEngine`: from a question to ranked memories.

Two searches run side by side: the vector index over coarse codes, drilled down level 2 → 1 → 0, and the postings of
the question's words. What they find, with its neighbours in the same session, makes the scene that signals.py scores;
no score depends on what else is found, so a bank of three memories and an encoder that tells little apart are ranked
by the same rule. The gate then says of each result whether it is relevant.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import numpy.typing as npt

from . import lexical
from .alike import collapsed, diversified
from .errors import MembankError
from .gate import RelevanceGate, Verdict
from .pointer import PointerRecord
from .query import RecallQuery, RecallResult
from .roster import Ids, Roster, Rows
from .signals import DENSE_REACH, SIGNALS, WORD_REACH, Scene, Weights, contributions
from .speakers import speaking
from .store import Store
from .timewords import spans
from .types import Memory, Vector

CANDIDATES = 64
LEXICAL_CANDIDATES = 64
COMMON_WORD = 1000
"""Memories from which on a word is left out: reading where it stands takes long, and it tells little."""

WHOLE_BELOW = 512
"""Memories up to which all of a namespace are scored."""

EXACT_BELOW = 20_000
SCAN_CHUNK = 4096

__all__ = ["QueryEngine", "RecallQuery", "RecallResult"]

_Pointers = tuple[PointerRecord, PointerRecord, PointerRecord]


@dataclass(frozen=True)
class _Shared:
    """Where the question's content words stand in a namespace.

    `rows` are the memories that hold any of them, rising; `holds` says which word stands in which of them, bool
    (words, rows); `worth` what each word weighs; `total` what all weigh together.
    """

    content: bool
    total: float
    rows: Rows
    holds: npt.NDArray[np.bool_]
    worth: Vector

    def held(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which words each of some memories holds, bool (words, n); none for row -1."""
        if not len(self.rows):
            return np.zeros((len(self.worth), len(rows)), bool)
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        found: npt.NDArray[np.bool_] = self.holds[:, at] & (self.rows[at] == rows)
        return found

    def best(self, limit: int) -> Rows:
        """The memories that share most; of equal ones the newer."""
        return self.rows[np.lexsort((-self.rows, -(self.worth @ self.holds)))[:limit]]


@dataclass(frozen=True)
class _Field:
    """Where a search takes place: the namespace, and which of it may be seen: neither outside the times asked for,
    nor excluded, nor expired."""

    roster: Roster
    seen: npt.NDArray[np.bool_] | None
    barred: Ids

    def visible(self, rows: Rows) -> Rows:
        """Those of some rows that may be seen."""
        return rows if self.seen is None else rows[self.seen[rows]]

    def neighbours(self, rows: Rows, distance: int) -> Rows:
        """The rows so far away in the same session, -1 where there is none or none that may be seen."""
        near = self.roster.neighbours(rows, distance)
        return near if self.seen is None else np.where((near >= 0) & self.seen[near], near, -1)


@dataclass(frozen=True)
class Measured:
    """The candidates of a question: ids, sessions, and each signal's value for each."""

    ids: Ids
    sessions: npt.NDArray[np.int32]
    signals: Mapping[str, Vector]


@dataclass
class _Ranking:
    """The scene and what came of it: cosines by level (NaN where a level was not scored), parts of the score."""

    scene: Scene
    weights: Weights
    levels: dict[int, Vector]
    parts: dict[str, Vector]
    fused: Vector

    def rescore(self) -> None:
        self.parts = contributions(self.scene, self.weights)
        self.fused = sum(self.parts.values(), self.scene.zeros())

    def best(self, places: Rows) -> Rows:
        """Places best first; equal scores go to the newer memory."""
        order: Rows = places[np.lexsort((-self.scene.rows[places], -self.fused[places]))]
        return order

    def dense(self) -> Vector | None:
        """Cosines at the finest level scored, of each row."""
        if not self.levels:
            return None
        result = self.scene.zeros()
        for level in sorted(self.levels, reverse=True):
            np.copyto(result, self.levels[level], where=~np.isnan(self.levels[level]))
        return result


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

    def measured(self, query: RecallQuery, vector: Vector | None) -> Measured:
        """All candidates with every signal before it is weighed, at the finest level asked for: what tuning works on."""
        self._store.follow()
        field = self._field(query)
        shared = self._shared(query, field)
        candidates = self._candidates(query, vector, shared, field)
        ranking = self._ranking(query, vector, shared, field, candidates)
        order = self._drill_down(replace(query, top_k=max(1, len(candidates))), vector, field, ranking, candidates)
        signals = {name: signal(ranking.scene)[order] for name, signal in SIGNALS.items()}
        rows = ranking.scene.rows[order]
        return Measured(field.roster.ids[rows], field.roster.session[rows], signals)

    def _search(self, query: RecallQuery, vector: Vector | None) -> list[RecallResult]:
        stale = True
        while True:
            field = self._field(query)
            shared = self._shared(query, field)
            candidates = self._candidates(query, vector, shared, field)
            if not len(candidates):
                return []
            ranking = self._ranking(query, vector, shared, field, candidates)
            order = self._drill_down(query, vector, field, ranking, candidates)
            dense = ranking.dense()
            if query.min_score is not None and dense is not None:
                order = order[dense[order] >= query.min_score]
            results, gone = self._results(query, shared, field, ranking, order)
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
        barred = np.array(sorted(query.exclude.union(self._store.registry.expired(time.time()))), np.int64)
        seen = roster.within(query.since, query.until)
        hidden = roster.rows(barred)
        if len(hidden):
            seen = np.ones(len(roster), bool) if seen is None else seen
            seen[hidden] = False
        return _Field(roster, seen, barred)

    def _shared(self, query: RecallQuery, field: _Field) -> _Shared:
        """Look the question's words up; a word in more than `COMMON_WORD` memories of the bank is passed over."""
        asked = lexical.looked_up(query.text)
        found = self._store.registry.postings([term.expression for term in asked], COMMON_WORD)
        known = [ids is not None for ids in found]
        postings = [
            # the words of other namespaces and times must not fill the candidates
            field.visible(field.roster.rows(np.unique(np.fromstring(ids, np.int64, sep=","))))
            for ids in found
            if ids
        ]
        rows = np.unique(np.concatenate([np.zeros(0, np.intp), *postings]))
        memories = len(field.roster)
        here = iter(postings)
        columns = [next(here) if ids else np.zeros(0, np.intp) for ids in compress(found, known)]
        holds = np.zeros((len(columns), len(rows)), bool)
        for word, column in enumerate(columns):
            holds[word, np.searchsorted(rows, column)] = True
        worth = [
            term.emphasis * lexical.weight(len(column), memories)
            for term, column in zip(compress(asked, known), columns, strict=True)
        ]
        return _Shared(bool(asked), sum(worth), rows, holds, np.array(worth, np.float32))

    def _candidates(self, query: RecallQuery, vector: Vector | None, shared: _Shared, field: _Field) -> Rows:
        """Rows that may be returned: what either search finds, and what stands beside it."""
        roster = field.roster
        if len(roster) <= WHOLE_BELOW and vector is not None:
            return field.visible(np.arange(len(roster)))
        found = shared.best(max(LEXICAL_CANDIDATES, 2 * query.top_k))
        if vector is not None:
            found = np.union1d(found, field.visible(roster.rows(np.unique(self._dense(query, vector, field)))))
        beside = [field.neighbours(found, distance) for distance in (1, 2, -1)]
        everyone = np.unique(np.concatenate([found, *beside]))
        return everyone[everyone >= 0]

    def _dense(self, query: RecallQuery, vector: Vector, field: _Field) -> Ids:
        """Ids of the nearest memories."""
        want = max(CANDIDATES, query.candidate_multiplier * query.top_k)
        if 2 not in query.levels:
            return self._scan(vector, max(query.levels), want, field)
        if query.since is not None or query.until is not None:
            # a time range may leave few of the index's best: small ranges are searched whole
            if field.seen is not None and int(field.seen.sum()) <= EXACT_BELOW:
                return self._scan(vector, 2, want, field)
            want *= 4
        return self._store.indexes.get(query.namespace).search(vector, want + len(field.barred))[0]

    def _scan(self, vector: Vector, level: int, want: int, field: _Field) -> Ids:
        """Exact search over one level."""
        rows = field.visible(np.arange(len(field.roster)))
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), SCAN_CHUNK):
            piece = rows[start : start + SCAN_CHUNK]
            scores[start : start + SCAN_CHUNK] = self._store.scores(vector, field.roster.slots[piece], level)
        return field.roster.ids[rows[np.argsort(-scores, kind="stable")[:want]]]

    # -- ranking

    def _ranking(
        self, query: RecallQuery, vector: Vector | None, shared: _Shared, field: _Field, candidates: Rows
    ) -> _Ranking:
        """The candidates, and for their sake their neighbours, with all that the signals ask for."""
        roster = field.roster
        beside = [field.neighbours(candidates, distance) for distance in DENSE_REACH] if vector is not None else []
        rows = np.unique(np.concatenate([candidates, *beside]))
        rows = rows[rows >= 0]
        near = {}
        for distance in DENSE_REACH:
            wanted = field.neighbours(rows, distance)
            at = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
            near[distance] = np.where(rows[at] == wanted, at, -1)
        held = shared.held(rows).astype(np.float32)
        covered = held.copy()
        for distance, share in WORD_REACH.items():
            there = shared.held(field.neighbours(rows, -distance))
            np.maximum(covered, np.float32(share) * there, out=covered)
        now = time.time() if query.now is None else query.now
        scene = Scene(
            rows=rows,
            words=shared.worth @ held,
            nearby_words=shared.worth @ (covered - held),
            created=roster.created[rows],
            session=roster.session[rows],
            speaker=roster.speaker[rows],
            asks=roster.asks[rows].astype(np.float32),
            near=near,
            spans=spans(query.text, now),
            speaking=speaking(query.text, roster),
            pinned=np.isin(roster.ids[rows], self._store.registry.pinned(query.namespace)).astype(np.float32),
            now=now,
        )
        return _Ranking(scene, query.weights or Weights(), {}, {}, scene.zeros())

    def _drill_down(
        self, query: RecallQuery, vector: Vector | None, field: _Field, ranking: _Ranking, candidates: Rows
    ) -> Rows:
        """Score all of the scene at the coarse level, fewer at each finer one; places of the finest, best first."""
        scene = ranking.scene
        places = np.searchsorted(scene.rows, candidates)
        if vector is None:
            ranking.rescore()
            return ranking.best(places)
        keep = max(32, 4 * query.top_k)
        scored = np.arange(len(scene))
        for level in sorted(query.levels, reverse=True):
            if ranking.levels:
                if len(places) > keep:
                    places = ranking.best(places)[:keep]
                    keep = max(16, 2 * query.top_k)
                scored = places
            cosines = self._store.scores(vector, field.roster.slots[scene.rows[scored]], level)
            ranking.levels[level] = values = np.full(len(scene), np.nan, np.float32)
            values[scored] = cosines
            if scene.spreads is None:
                scene.spreads = scene.zeros()
            scene.spreads[scored] = self._gate.spreads(vector, cosines)
            ranking.rescore()
        return ranking.best(places)

    # -- answers

    def _results(
        self, query: RecallQuery, shared: _Shared, field: _Field, ranking: _Ranking, order: Rows
    ) -> tuple[list[RecallResult], set[int]]:
        """The results, and the ids that turned out to be removed."""
        order = order[: 2 * query.top_k + 8]
        rows = ranking.scene.rows[order]
        ids = field.roster.ids[rows].tolist()
        memories = self._store.registry.get(ids)
        gone = set(ids) - memories.keys()
        if gone:
            return [], gone
        chosen, twins = self._chosen(query, ranking, order, [memories[memory_id].text for memory_id in ids], field)
        pointers = self._store.pointers({memories[ids[place]].slot for place in chosen})
        dense = ranking.dense()
        results: list[RecallResult] = []
        for place in chosen:
            memory, at = memories[ids[place]], int(order[place])
            if memory.slot not in pointers:
                # moved between the two reads: `search` sees that and begins again
                continue
            verdict = self._verdict(shared, field, ranking, at)
            same = tuple(ids[other] for other in twins.get(place, ()))
            cosine = 0.0 if dense is None else float(dense[at])
            results.append(_result(len(results), memory, pointers[memory.slot], verdict, cosine, ranking, at, same))
        return results, gone

    def _verdict(self, shared: _Shared, field: _Field, ranking: _Ranking, at: int) -> Verdict:
        scene = ranking.scene
        spreads = 0.0 if scene.spreads is None else float(scene.spreads[at])
        share = float(scene.words[at]) / shared.total if shared.total else 0.0
        return self._gate.judge(spreads, share, len(field.roster), content=shared.content)

    def _chosen(
        self, query: RecallQuery, ranking: _Ranking, order: Rows, texts: Sequence[str], field: _Field
    ) -> tuple[list[int], dict[int, list[int]]]:
        """Places of `order` to return, best first, and for each the places that say the same."""
        vectors = None
        if ranking.levels:
            level = min(ranking.levels)
            slots = field.roster.slots[ranking.scene.rows[order]]
            vectors = self._store.hierarchy.decode(self._store.codes(slots, level), level)
        twins: dict[int, list[int]] = {}
        for place, first in enumerate(collapsed(texts, vectors)):
            if first == place:
                twins[place] = []
            else:
                twins[first].append(place)
        places = list(twins)
        if query.diversity and vectors is not None:
            fused = ranking.fused[order[places]]
            picked = diversified(fused, vectors[places], query.top_k, query.diversity)
            places = [places[pick] for pick in picked]
        return places[: query.top_k], twins


def _result(
    rank: int,
    memory: Memory,
    pointers: _Pointers,
    verdict: Verdict,
    cosine: float,
    ranking: _Ranking,
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
