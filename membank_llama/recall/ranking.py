"""The candidates of one search: what is known of each, and the score it comes to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from membank_llama.core.types import Mask, Rows, Vector
from membank_llama.hgns.token_codes import AskedTokens
from membank_llama.store.namespace_snapshot import ALONE, NamespaceSnapshot

from .candidates import BACK, Candidates
from .question_encoder import Question
from .signals import WORD_REACH, Scene, Weights, contributions
from .time_expressions import spans
from .word_weights import WordWeights


@dataclass
class Ranking:
    """The scene and what came of it: cosines by level (NaN where a level was not scored), parts of the score,
    the share of the question's words for the gate, how much of them each says in any words, names left out, and whether
    it holds a name that is in the question and is nobody's who speaks."""

    scene: Scene
    weights: Weights
    levels: dict[int, Vector]
    parts: dict[str, Vector]
    fused: Vector
    share: Vector
    said: Vector
    calls: Mask

    def score(self, level: int, scored: Rows, cosines: Vector, spreads: Vector) -> None:
        """Take in the cosines of some places at a level, and score all anew.

        Args:
            spreads: the same counted in spreads above unrelated text.
        """
        self.levels[level] = values = np.full(len(self.scene.rows), np.nan, np.float32)
        values[scored] = cosines
        if self.scene.spreads is None:
            self.scene.spreads = np.zeros(len(self.scene.rows), np.float32)
        self.scene.spreads[scored] = spreads
        self.rescore()

    def rescore(self) -> None:
        """Add up what the signals say now."""
        self.parts = contributions(self.scene, self.weights, self.parts)
        self.fused = sum(self.parts.values(), np.zeros(len(self.scene.rows), np.float32))

    def best(self, places: Rows) -> Rows:
        """Places best first; equal scores go to the newer memory."""
        order: Rows = places[np.lexsort((-self.scene.rows[places], -self.fused[places]))]
        return order

    def dense(self) -> Vector | None:
        """Cosines at the finest level scored, of each row."""
        if not self.levels:
            return None
        result = np.zeros(len(self.scene.rows), np.float32)
        for level in sorted(self.levels, reverse=True):
            np.copyto(result, self.levels[level], where=~np.isnan(self.levels[level]))
        return result


def ranking_of(
    question: Question,
    words: WordWeights,
    candidates: Candidates,
    weights: Weights,
    matches: Callable[[AskedTokens, Rows], Vector],
) -> Ranking:
    """The candidates with all that the signals ask for.

    Args:
        matches: how near some rows of the snapshot come to the tokens of a question, (tokens, rows).
    """
    query, snapshot, rows = question.query, words.snapshot, candidates.rows
    # which word each of them holds, and each of those around it: (words, places around, n)
    held = words.held(candidates.around).astype(np.float32)
    own = held[:, BACK]
    calls: Mask = held[words.called, BACK].astype(np.bool_).any(axis=0)
    heard = _heard(snapshot, candidates.around)
    nearby = _covered(own, lambda place: held[:, place] * heard[place]) - own
    now = time.time() if query.now is None else query.now
    tokens = _TokenParts.of(question, words, candidates, heard, matches)
    scene = Scene(
        rows=rows,
        words=_weighed(words.worth, own),
        nearby_words=_weighed(words.worth, nearby),
        tokens=tokens.own,
        nearby_tokens=tokens.nearby,
        created=snapshot.created[rows],
        told=snapshot.told[rows],
        session=snapshot.session[rows],
        speaker=snapshot.speaker[rows],
        asks=snapshot.asks[rows].astype(np.float32),
        mute=snapshot.mute[rows],
        quiet_ahead=(snapshot.mute | snapshot.statements_by_model)[rows],
        near=candidates.near,
        spans=spans(query.text, now, query.zone),
        speaking=question.mentions.about,
        pinned=np.isin(snapshot.owner[rows], snapshot.pinned).astype(np.float32),
        now=now,
    )
    said = tokens.said
    if words.unspaced:
        # few models have more than single letters of such a script, and many not even those
        said = np.maximum(said, _weighed(words.evidence, own))
    if words.named.any():
        # a name of those who speak here is known, whether the memory holds it or not
        own[np.ix_(words.named, _talks_of(question.mentions.names, snapshot, rows))] = 1
    return Ranking(
        scene=scene,
        weights=weights,
        levels={},
        parts={},
        fused=np.zeros(len(rows), np.float32),
        share=_weighed(words.evidence, own),
        said=said,
        calls=calls,
    )


@dataclass(frozen=True)
class _TokenParts:
    """What the question's tokens come to in each candidate: its own, what its neighbours add, and the share it says."""

    own: Vector
    nearby: Vector
    said: Vector

    @classmethod
    def of(
        cls,
        question: Question,
        words: WordWeights,
        candidates: Candidates,
        heard: Vector,
        matches: Callable[[AskedTokens, Rows], Vector],
    ) -> _TokenParts:
        none = np.zeros(len(candidates.rows), np.float32)
        if question.tokens is None or not len(none):
            return cls(none, none, none)
        tokens = question.tokens.weighed(words.rarity, words.rarest, question.mentions.words)
        own = tokens.held(matches(tokens.asked, candidates.rows))

        def beside(place: int) -> Vector:
            at = candidates.places[place]
            part: Vector = np.where(at >= 0, own[:, at], np.float32(0)) * heard[place]
            return part

        nearby = _covered(own, beside) - own
        return cls(_weighed(tokens.worth, own), _weighed(tokens.worth, nearby), _weighed(tokens.evidence, own))


def _heard(snapshot: NamespaceSnapshot, around: Rows) -> Vector:
    """For each place around some memories whether what stands there says anything of them, float32 in the shape of
    `around`: what a person asks says nothing of what she tells, what the model answers only of what comes before."""
    heard = (around >= 0) & ~snapshot.mute[around]
    heard[:BACK] &= ~snapshot.statements_by_model[around[:BACK]]
    found: Vector = heard.astype(np.float32)
    return found


def _covered(own: Vector, beside: Callable[[int], Vector]) -> Vector:
    """What of each word, or token, some memories hold together with those around them, less the further off.

    Args:
        own: what they hold themselves, (words, n).
        beside: the same of what stands at a place around them (`Candidates.around`).
    """
    covered = own.copy()
    for distance, share in WORD_REACH.items():
        np.maximum(covered, np.float32(share) * beside(BACK - distance), out=covered)
    return covered


def _weighed(worth: Vector, held: Vector) -> Vector:
    """Worth (words,) times held (words, n), summed over the words; n is small, and not every BLAS takes a matrix of no
    words, or a few, without a false alarm."""
    total: Vector = np.einsum("w,wn->n", worth, held)
    return total


def _talks_of(names: tuple[str, ...], snapshot: NamespaceSnapshot, rows: Rows) -> Mask:
    """Which memories are of a talk in which somebody speaks whom the question names. A note "Recipe: …" looks like a
    speaker; that makes it no part of other notes."""
    said = np.isin(snapshot.speaker, [snapshot.speakers[name] for name in names])
    talks = np.setdiff1d(snapshot.session[said], [ALONE])
    theirs: Mask = said[rows] | np.isin(snapshot.session[rows], talks)
    return theirs
