"""The candidates of one search: what is known of each, and the score it comes to."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from membank_llama.core.types import Vector
from membank_llama.store.namespace_snapshot import ALONE, Roster, Rows
from membank_llama.store.store import Store

from .query import RecallQuery
from .scope import Scope, SharedWords
from .signals import DENSE_REACH, WORD_REACH, Scene, Weights, contributions
from .speakers import named_in, speaking
from .time_expressions import spans


@dataclass
class Ranking:
    """The scene and what came of it: cosines by level (NaN where a level was not scored), parts of the score,
    the share of the question's words for the gate."""

    scene: Scene
    weights: Weights
    levels: dict[int, Vector]
    parts: dict[str, Vector]
    fused: Vector
    share: Vector

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


def weighed(worth: Vector, held: Vector) -> Vector:
    """Worth (words,) times held (words, n), summed over the words; n is small, and not every BLAS takes a matrix of no
    words, or a few, without a false alarm."""
    total: Vector = np.einsum("w,wn->n", worth, held)
    return total


def ranking_of(
    store: Store, query: RecallQuery, scope: Scope, shared: SharedWords, candidates: Rows, *, dense: bool
) -> Ranking:
    """The candidates, and for their sake their neighbours, with all that the signals ask for."""
    roster = scope.roster
    beside = [scope.neighbours(candidates, distance) for distance in DENSE_REACH] if dense else []
    rows = np.unique(np.concatenate([candidates, *beside]))
    rows = rows[rows >= 0]
    near = {}
    for distance in DENSE_REACH:
        wanted = scope.neighbours(rows, distance)
        at = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
        near[distance] = np.where(rows[at] == wanted, at, -1)
    held = shared.held(rows).astype(np.float32)
    covered = held.copy()
    for distance, share in WORD_REACH.items():
        there = shared.held(scope.neighbours(rows, -distance))
        np.maximum(covered, np.float32(share) * there, out=covered)
    now = time.time() if query.now is None else query.now
    scene = Scene(
        rows=rows,
        words=weighed(shared.worth, held),
        nearby_words=weighed(shared.worth, covered - held),
        created=roster.created[rows],
        session=roster.session[rows],
        speaker=roster.speaker[rows],
        asks=roster.asks[rows].astype(np.float32),
        near=near,
        spans=spans(query.text, now, query.zone),
        speaking=speaking(query.text, roster),
        pinned=np.isin(roster.owner[rows], store.registry.pinned(query.namespace)).astype(np.float32),
        now=now,
    )
    if shared.named.any():
        # a name of those who speak here is known, whether the memory holds it or not
        held[np.ix_(shared.named, _theirs(query.text, roster, rows))] = 1
    return Ranking(scene, query.weights or Weights(), {}, {}, scene.zeros(), weighed(shared.evidence, held))


def _theirs(text: str, roster: Roster, rows: Rows) -> npt.NDArray[np.bool_]:
    """Which memories are of a talk in which somebody speaks whom the question names. A note "Recipe: …" looks like a
    speaker; that makes it no part of other notes."""
    said = np.isin(roster.speaker, [roster.speakers[name] for name in named_in(text, roster)])
    talks = np.setdiff1d(roster.session[said], [ALONE])
    theirs: npt.NDArray[np.bool_] = said[rows] | np.isin(roster.session[rows], talks)
    return theirs
