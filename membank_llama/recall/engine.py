"""`RecallEngine`: from a question to ranked memories.

Two searches run side by side: the vector index over coarse codes, drilled down level 2 → 1 → 0, and the postings of
the question's words. What they find, with its neighbours in the same session, makes the scene that signals.py scores;
no score depends on what else is found, so a bank of three memories and an encoder that tells little apart are ranked
by the same rule. The gate then says of each result whether it is relevant.

A question sees the bank as it was at one moment (`BankState`); where the bank was moved to another activation file
meanwhile, or memories turn out to be removed, it is asked again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from membank_llama.core.errors import MembankError
from membank_llama.core.types import Ids, Mask, Memory, Numbers, Progress, Rows, Vector
from membank_llama.hgns.hierarchy import HGNSHierarchy
from membank_llama.store.namespace_snapshot import NamespaceSnapshot
from membank_llama.store.registry import BankState
from membank_llama.store.store import Store

from .best_passages import Best, best_passages
from .candidates import FEW, Candidates, best_of_each, candidates_of, some_of_each
from .evidence import Judged, answered_ids, weighed_as_evidence
from .meaning_gate import Asked, Parts, judged_by_meaning
from .query import RecallQuery, RecallResult
from .question_encoder import Question, QuestionEncoder
from .ranking import Ranking, ranking_of
from .relevance_gate import COHORT, MEASURED_AT_ONCE, GateThresholds, RelevanceGate, Verdict, evidence, judged
from .results import Found, collapsed, diversified, results_of
from .signals import SIGNALS, Weights, default_weights, for_letters, for_oneself
from .unrelated_questions import reached_at_once
from .word_weights import WordWeights, weigh_words

UNRELATED_TOP = 6


@dataclass(frozen=True)
class Measured:
    """The candidates of a question: ids, sessions, and each signal's value for each."""

    ids: Ids
    sessions: Numbers
    signals: Mapping[str, Vector]


@dataclass(frozen=True)
class _Ranked:
    """A question with its candidates scored; `order` are places of those that may be returned, best first."""

    question: Question
    words: WordWeights
    ranking: Ranking
    order: Rows

    def records(self, places: Rows) -> Mask:
        """Which of some places are no evidence of what is so."""
        found: Mask = self.question.records_in(self.words.snapshot)[self.ranking.scene.rows[places]]
        return found

    def slots(self, places: Rows) -> Numbers:
        return self.words.snapshot.slots[self.ranking.scene.rows[places]]


class RecallEngine:
    """Searches one store; `encoder` encodes what it is asked."""

    def __init__(self, store: Store, encoder: QuestionEncoder) -> None:
        self._store = store
        self._encoder = encoder
        self._lock = threading.Lock()
        self._gates: dict[str, tuple[HGNSHierarchy, RelevanceGate]] = {}
        self._thresholds = GateThresholds(store, encoder.model_id or "words")

    def search(self, query: RecallQuery) -> list[RecallResult]:
        """The best memories, best first.

        Raises:
            InvalidQueryError, EmptyTextError: nothing to look for.
            ModelMismatchError: the bank was moved to another model since it was opened.
        """
        question, snapshot, state = self._asked(query)
        if query.weights is None and state.weights:
            weights = Weights.of(state.weights, tokens=question.tokens is not None)
            question = replace(question, query=replace(question.query, weights=weights))
        while True:
            try:
                results = self._search(question, snapshot, state)
            except (MembankError, ValueError, IndexError):
                # arrays of two encodings do not fit together either
                if self._store.is_current(state.activations):
                    raise
            else:
                # packed or re-encoded meanwhile: slots have another meaning now
                if self._store.is_current(state.activations):
                    return results
            state = self._store.current()
            snapshot = self._store.snapshots.get(query.namespace, state)

    def measured(self, query: RecallQuery) -> Measured:
        """All candidates with every signal unweighed, at the finest level asked for: what tuning works on."""
        question, snapshot, state = self._asked(query)
        ranked = self._ranked(question, snapshot, state, self._current_gate(question.script), every=True)
        scene = ranked.ranking.scene
        order = best_of_each(snapshot, scene.rows, ranked.order)
        rows = scene.rows[order]
        signals = {name: signal(scene)[order] for name, signal in SIGNALS.items()}
        return Measured(snapshot.owner[rows], snapshot.session[rows], signals)

    def settle(self, progress: Progress | None = None) -> None:
        """Measure now what the gate asks for in every namespace."""
        if self._store.model.token_dim:
            # there the gate measures nothing of the bank
            return
        state = self._store.current()
        namespaces = self._store.registry.namespaces()
        for done, namespace in enumerate(namespaces):
            count = len(self._store.snapshots.get(namespace, state))
            self._thresholds.measure(namespace, count, partial(self._unrelated, namespace))
            if progress is not None:
                progress("measuring relevance", done + 1, len(namespaces))

    def _asked(self, query: RecallQuery) -> tuple[Question, NamespaceSnapshot, BankState]:
        """A query as it is asked of what its namespace holds now."""
        query = self._encoder.checked(query)
        state = self._store.current()
        snapshot = self._store.snapshots.get(query.namespace, state)
        return self._encoder.question(query, snapshot), snapshot, state

    def _search(self, question: Question, snapshot: NamespaceSnapshot, state: BankState) -> list[RecallResult]:
        stale = True
        while True:
            gate = self._current_gate(question.script)
            ranked = self._ranked(question, snapshot, state, gate)
            least = question.query.min_score
            if least is not None and (dense := ranked.ranking.dense()) is not None:
                ranked = replace(ranked, order=ranked.order[dense[ranked.order] >= least])
            if not len(ranked.order):
                return []
            results, gone = self._results(ranked, gate)
            if not gone:
                return results
            # another process removed memories: read the snapshot anew, and strike off what is damaged even so
            if stale:
                self._store.snapshots.clear()
            else:
                self._store.snapshots.drop(question.query.namespace, gone)
            snapshot = self._store.snapshots.get(question.query.namespace, state)
            stale = False

    def _current_gate(self, script: str = "") -> RelevanceGate:
        """The gate of the bank's present encoding, for questions of a script."""
        if self._encoder.model_id not in (None, self._store.model.id):
            self._store.check_model(self._encoder.model_id)
        hierarchy = self._store.hierarchy
        with self._lock:
            known = self._gates.get(script)
            if known is None or known[0] is not hierarchy:
                cohort = self._encoder.cohort(script)
                raw = None if cohort is None else cohort.vectors
                gate = RelevanceGate(None if raw is None else hierarchy.corrected(raw), raw)
                self._gates[script] = known = hierarchy, gate
            return known[1]

    # -- ranking

    def _ranked(
        self,
        question: Question,
        snapshot: NamespaceSnapshot,
        state: BankState,
        gate: RelevanceGate,
        *,
        every: bool = False,
    ) -> _Ranked:
        """From words to places in a scene, best first; `every`: none is left behind at a coarse level."""
        query, store = question.query, self._store
        words = weigh_words(store.registry.words, question, snapshot, state.lifetimes)
        candidates = candidates_of(store, question, words)
        matches = partial(store.token_matches, snapshot)
        weights = query.weights or default_weights(question.tokens is not None)
        if question.meant_by_tokens and not every:
            weights = for_oneself(weights)
        elif question.tokens is not None and question.script:
            weights = for_letters(weights)
        ranking = ranking_of(question, words, candidates, weights, matches)
        ranked = _Ranked(question, words, ranking, candidates.returned)
        if not len(candidates.returned):
            return ranked
        most = len(candidates.returned) if every else query.top_k
        return replace(ranked, order=self._drill_down(ranked, candidates, gate, most))

    def _drill_down(self, ranked: _Ranked, candidates: Candidates, gate: RelevanceGate, wanted: int) -> Rows:
        """Score all of the scene at the coarse level, fewer at each finer one; places of the finest, best first."""
        vector, ranking, snapshot = ranked.question.vector, ranked.ranking, ranked.words.snapshot
        places = candidates.returned
        if vector is None:
            ranking.rescore()
            return ranking.best(places)
        keep = max(32, 4 * wanted)
        asked = self._store.hierarchy.asked(vector)
        scored = np.arange(len(candidates.rows))
        for level in sorted(ranked.question.query.levels, reverse=True):
            if ranking.levels:
                if len(places) > keep:
                    places = ranking.best(places)
                    if snapshot.passages:
                        places = best_of_each(snapshot, candidates.rows, places, FEW)
                    most = keep * FEW if snapshot.passages else keep
                    places = some_of_each(places, ranked.records(places), most, most // 2)
                    keep = max(16, 2 * wanted)
                scored = places
            cosines = self._store.scores(vector, ranked.slots(scored), level)
            ranking.score(level, scored, cosines, gate.spreads(asked, cosines))
        return ranking.best(places)

    # -- answers

    def _results(self, ranked: _Ranked, gate: RelevanceGate) -> tuple[list[RecallResult], set[int]]:
        """The results, and the ids that turned out to be removed."""
        ranking, snapshot, query = ranked.ranking, ranked.words.snapshot, ranked.question.query
        order = ranked.order
        if snapshot.passages:
            order = best_of_each(snapshot, ranking.scene.rows, order)
        order = some_of_each(order, ranked.records(order), 2 * query.top_k + 8, query.top_k + 4)
        ids = snapshot.owner[ranking.scene.rows[order]].tolist()
        answered = answered_ids(snapshot, ranking.scene.rows[order])
        memories = self._store.registry.get({*ids, *answered.values()})
        gone = set(ids) - memories.keys()
        if gone:
            return [], gone
        chosen, twins = self._chosen(ranked, order, [memories[memory_id] for memory_id in ids])
        cut: Mapping[int, Best] = {}
        if snapshot.passages:
            taken = (memories[ids[place]] for place in chosen)
            cut = best_passages(self._store, ranked.words, ranking, ranked.order, taken)
        best = np.array([cut[ids[at]].at if ids[at] in cut else order[at] for at in chosen], np.intp)
        told = [(memories[ids[place]], memories.get(answered.get(place, -1))) for place in chosen]
        final, shown = self._weighed(ranked, gate, chosen, best, told)
        at_best = dict(zip(chosen, best.tolist(), strict=True))
        shown = shown[: query.top_k]
        slots = ranked.slots(np.array([at_best[place] for place in shown], np.intp)).tolist()
        pointers = self._store.pointers(slots)
        found = [
            Found(
                memory=memories[ids[place]],
                place=at_best[place],
                pointers=pointers[slot],
                verdict=final[place],
                passage=cut.get(ids[place]),
                duplicates=tuple(ids[other] for other in twins.get(place, ())),
            )
            for place, slot in zip(shown, slots, strict=True)
            # moved between the two reads: `search` sees that and begins again
            if slot in pointers
        ]
        return results_of(found, ranking), gone

    def _weighed(
        self,
        ranked: _Ranked,
        gate: RelevanceGate,
        chosen: Sequence[int],
        best: Rows,
        told: Sequence[tuple[Memory, Memory | None]],
    ) -> tuple[dict[int, Verdict], list[int]]:
        """The verdicts of what is chosen, and its places in order.

        Args:
            best: where each of them stands in the scene.
            told: each memory, and what it answered.
        """
        verdicts = self._verdicts(ranked, best, self._whole_spreads(ranked, gate, best))
        said = ranked.ranking.share if ranked.question.tokens is None else ranked.ranking.said
        rows = zip(chosen, told, verdicts, said[best].tolist(), ranked.records(best).tolist(), strict=True)
        judged_ = {
            place: Judged(memory, verdict, part, record, answered)
            for place, (memory, answered), verdict, part, record in rows
        }
        return weighed_as_evidence(ranked.question, judged_)

    def _verdicts(self, ranked: _Ranked, places: Rows, spreads: Vector) -> list[Verdict]:
        question, words = ranked.question, ranked.words
        if question.tokens is None:
            namespace, held = question.query.namespace, len(words.snapshot)
            enough = self._thresholds.get(namespace, held, partial(self._unrelated, namespace))
            return judged(spreads, ranked.ranking.share[places], enough, content=words.content)
        asked = Asked(question.kind, len(words.rarity), words.strangers)
        return judged_by_meaning(asked, self._parts(ranked, places, spreads))

    def _parts(self, ranked: _Ranked, places: Rows, spreads: Vector) -> Parts:
        ranking = ranked.ranking
        none = np.zeros(len(ranking.fused), np.float32)
        by_time = ranking.parts.get("time", none)[places]
        by_speaker = ranking.parts.get("speaker", none)[places]
        of_its_time = by_time > ranking.weights.time / 2 if ranking.weights.time > 0 else by_time > 0
        support = ranking.fused[places] - by_time - by_speaker
        asks = (ranking.scene.asks[places] > 0) | ranked.records(places)
        return Parts(
            support, ranking.said[places], ranking.share[places], spreads, of_its_time, ranking.calls[places], asks
        )

    def _whole_spreads(self, ranked: _Ranked, gate: RelevanceGate, places: Rows) -> Vector:
        """How near the whole question is to some memories, at the finest level asked for."""
        question, spreads = ranked.question, ranked.ranking.scene.spreads
        if question.whole is None or spreads is None:
            return np.zeros(len(places), np.float32)
        if question.whole is question.vector:
            return spreads[places]
        scores = self._store.scores(question.whole, ranked.slots(places), min(question.query.levels))
        return gate.spreads(self._store.hierarchy.asked(question.whole), scores)

    def _chosen(self, ranked: _Ranked, order: Rows, told: Sequence[Memory]) -> tuple[list[int], dict[int, list[int]]]:
        """Places of `order` that may be returned, best first, and for each the places that say the same: of those the
        one that is worth most is returned, or else the newest."""
        query, ranking = ranked.question.query, ranked.ranking
        vectors = None
        if query.diversity and ranking.levels:
            level = min(ranking.levels)
            vectors = self._store.hierarchy.decode(self._store.codes(ranked.slots(order), level), level)
        groups: dict[int, list[int]] = {}
        for place, first in enumerate(collapsed([memory.text for memory in told], vectors)):
            groups.setdefault(first, []).append(place)
        twins: dict[int, list[int]] = {}
        for group in groups.values():
            shown = group[0]
            if len(group) > 1:
                shown = max(group, key=lambda place: (told[place].provenance, told[place].created_at))
            twins[shown] = [place for place in group if place != shown]
        places = list(twins)
        if vectors is not None:
            fused = ranking.fused[order[places]]
            picked = diversified(fused, vectors[places], query.top_k, query.diversity)
            places = [places[pick] for pick in picked]
        return places, twins

    # -- what the gate asks for

    def _unrelated(self, namespace: str) -> Iterator[float]:
        """The evidence that each of the unrelated sentences reaches."""
        state = self._store.current()
        snapshot = self._store.snapshots.get(namespace, state)
        if len(snapshot) <= MEASURED_AT_ONCE:
            return iter(reached_at_once(self._store, self._current_gate(), namespace, snapshot, state))
        return (self._reached(place, namespace) for place in range(len(COHORT)))

    def _reached(self, place: int, namespace: str) -> float:
        """The most that speaks for any memory when an unrelated sentence is asked."""
        gate = self._current_gate()
        query = RecallQuery(COHORT[place], UNRELATED_TOP, namespace=namespace)
        state = self._store.current()
        snapshot = self._store.snapshots.get(namespace, state)
        question = Question(query, vector=gate.question(place))
        ranked = self._ranked(question, snapshot, state, gate.without(place))
        scene, share = ranked.ranking.scene, ranked.ranking.share
        spreads = np.zeros(len(share), np.float32) if scene.spreads is None else scene.spreads
        best = ranked.order[:UNRELATED_TOP].tolist()
        return max((evidence(float(spreads[at]), float(share[at])) for at in best), default=0.0)
