"""The signals that rank memories: one small function each, one weight each.

A memory's score is the sum over `SIGNALS` of weight × signal; a weight of 0 switches a signal off. `Weights` holds the
documented default set, which `membank tune` fits anew to a person's own labelled questions. Every function takes the
`Scene`, the candidates with what is known of them, and gives one value a row, around 1 where the signal speaks clearly
(spreads and word weights go higher: they count evidence).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property

import numpy as np

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Mask, Numbers, Rows, Times, Vector
from membank_llama.store.namespace_snapshot import ALONE

from .time_expressions import DAY, Span

WORD_REACH = {1: 0.85, 2: 0.6, 3: 0.45, 4: 0.3, -1: 0.6, -2: 0.3, -3: 0.2}
"""How much of a question's word counts where not the memory itself holds it, but the one so many places before it
(after it, where negative): answers stand behind what they answer. Tuned on LoCoMo, docs/recall.md."""

DENSE_REACH = {1: 0.3, 2: 0.1, -1: 0.3, -2: 0.1}
"""The same for cosines."""

SESSION_BEST = 2
RECENT = 90 * DAY


@dataclass(frozen=True)
class Weights:
    """What each signal counts for. The default set was tuned on the six LoCoMo conversations that
    `benchmarks/` measures, by coordinate ascent, and rounded; docs/recall.md shows what each is worth.

    Raises:
        InvalidInputError: not a finite number.
    """

    dense: float = 0.72
    nearby_dense: float = 0.5
    words: float = 0.75
    nearby_words: float = 0.75
    tokens: float = 0.0
    nearby_tokens: float = 0.0
    session: float = 0.22
    time: float = 7.5
    speaker: float = 1.9
    asks: float = -1.5
    recency: float = 0.02
    pinned: float = 0.02

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (isinstance(value, (int, float)) and abs(value) < sys.float_info.max):
                raise InvalidInputError(f"the weight of {name} is {value!r}; give a number, 0 to switch it off")

    @classmethod
    def of(cls, values: Mapping[str, float], *, tokens: bool = False) -> Weights:
        """The default set, of a bank that keeps `tokens` or of one that does not, with these values in it.

        Raises:
            InvalidInputError: a name that no signal has, or a value that is no number.
        """
        known = [f.name for f in fields(cls)]
        if not isinstance(values, Mapping):
            raise InvalidInputError("weights are numbers by the names of their signals")
        for name in values:
            if name not in known:
                raise InvalidInputError(f"there is no signal {name!r}; there are {', '.join(known)}")
        return replace(default_weights(tokens), **values)


def default_weights(tokens: bool) -> Weights:
    """Of a bank that keeps tokens, or of one that keeps vectors alone."""
    return WITH_TOKENS if tokens else WITHOUT_TOKENS


WITHOUT_TOKENS = Weights()
WITH_TOKENS = Weights(
    dense=0.5, nearby_dense=0.4, words=0.32, nearby_words=0.4, tokens=1.0, nearby_tokens=0.75, session=0.2, time=9.0,
    speaker=1.9, asks=-1.3,
)  # fmt: skip
"""Tuned in the same way, on banks that keep tokens."""

OWN_DENSE, OWN_WORDS = 1.4, 0.3
UNSPACED_WORDS = 2.3


def for_oneself(weights: Weights) -> Weights:
    """For a question about the person who asks, in a bank that keeps tokens: what she asks of her own life is seldom in
    the words that she told it in, and the same words are often said of something else."""
    return replace(weights, dense=OWN_DENSE * weights.dense, words=OWN_WORDS * weights.words)


def for_letters(weights: Weights) -> Weights:
    """For a question in a script without spaces, in a bank that keeps tokens: what those say in other scripts, here the
    words have to."""
    return replace(weights, words=UNSPACED_WORDS * weights.words, nearby_words=UNSPACED_WORDS * weights.nearby_words)


@dataclass(frozen=True)
class _Runs:
    """The sessions of a scene: the rows that belong to one, and of these, sorted by session, where each session starts,
    how long it is, how many of its best count, and which do where the best come first."""

    inside: Rows
    starts: Rows
    sizes: Rows
    counted: Rows
    counts: Mask

    @classmethod
    def of(cls, session: Numbers) -> _Runs | None:
        inside = np.flatnonzero(session != ALONE)
        if not len(inside):
            return None
        sizes = np.unique(session[inside], return_counts=True)[1]
        starts = np.cumsum(sizes) - sizes
        place = np.arange(len(inside)) - np.repeat(starts, sizes)
        return cls(inside, starts, sizes, np.minimum(sizes, SESSION_BEST), place < SESSION_BEST)


@dataclass
class Scene:
    """The candidates of one search, row by row, and what the question says beside its words.

    Args:
        rows: their rows in the namespace's snapshot, rising.
        words: weight of the question's words that each holds.
        nearby_words: what the words of its neighbours add to that.
        tokens: weight of the question's tokens, each as nearly as it is said.
        nearby_tokens: what the tokens of its neighbours add to that.
        spreads: cosines counted in spreads above unrelated text; None without an encoder.
        told: when each was told last, `created` being when it came first.
        mute: which say nothing of what stands beside them.
        quiet_ahead: which say nothing of what comes after them.
        near: for each distance of `DENSE_REACH` the place in this scene of the neighbour, -1 where there is none.
        spans: the times that the question names.
        speaking: numbers of those whom the question is about.
        pinned: which are pinned.
    """

    rows: Rows
    words: Vector
    nearby_words: Vector
    tokens: Vector
    nearby_tokens: Vector
    created: Times
    told: Times
    session: Numbers
    speaker: Numbers
    asks: Vector
    mute: Mask
    quiet_ahead: Mask
    near: Mapping[int, Rows]
    spans: list[Span]
    speaking: frozenset[int]
    pinned: Vector
    now: float
    spreads: Vector | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def runs(self) -> _Runs | None:
        """Its sessions; None where no row belongs to one."""
        return _Runs.of(self.session)

    def zeros(self) -> Vector:
        return np.zeros(len(self.rows), np.float32)


def dense(scene: Scene) -> Vector:
    """How near in meaning: spreads above unrelated text."""
    return scene.zeros() if scene.spreads is None else scene.spreads


def nearby_dense(scene: Scene) -> Vector:
    """How near in meaning its neighbours in the session are."""
    total = scene.zeros()
    if scene.spreads is not None:
        for distance, share in DENSE_REACH.items():
            at = scene.near[distance]
            heard = (at >= 0) & ~(scene.mute if distance > 0 else scene.quiet_ahead)[at]
            total += np.float32(share) * np.where(heard, scene.spreads[at], np.float32(0))
    return total


def words(scene: Scene) -> Vector:
    """The question's words that it holds, each by its rarity."""
    return scene.words


def nearby_words(scene: Scene) -> Vector:
    """The question's words that only its neighbours in the session hold."""
    return scene.nearby_words


def tokens(scene: Scene) -> Vector:
    """The question's tokens, each by its rarity and by how nearly it is said."""
    return scene.tokens


def nearby_tokens(scene: Scene) -> Vector:
    """The question's tokens that only its neighbours in the session say."""
    return scene.nearby_tokens


def session(scene: Scene) -> Vector:
    """How much of its session is about the question: the mean of the session's best `SESSION_BEST`."""
    runs = scene.runs
    result = scene.zeros()
    if runs is None:
        return result
    base = np.where(scene.mute, np.float32(0), scene.words + dense(scene))[runs.inside]
    order = np.lexsort((-base, scene.session[runs.inside]))
    best = np.add.reduceat(np.where(runs.counts, base[order], np.float32(0)), runs.starts)
    result[runs.inside[order]] = np.repeat(best / runs.counted, runs.sizes)
    return result


def time(scene: Scene) -> Vector:
    """Whether it is of the time that the question names; 1 within, less outside."""
    result = scene.zeros()
    for span in scene.spans:
        for times in (scene.created, scene.told):
            np.maximum(result, span.closeness(times), out=result)
    return result


def speaker(scene: Scene) -> Vector:
    """Whether it is said by the one whom the question is about."""
    if not scene.speaking:
        return scene.zeros()
    return np.isin(scene.speaker, list(scene.speaking)).astype(np.float32)


def asks(scene: Scene) -> Vector:
    """Whether it only asks; a question seldom holds an answer."""
    return scene.asks


def recency(scene: Scene) -> Vector:
    """1 for now, halved every `RECENT` seconds: of what is equal the newer comes first."""
    age = np.maximum(0, scene.now - scene.told)
    return np.exp2(-age / RECENT).astype(np.float32)


def pinned(scene: Scene) -> Vector:
    """Whether it was pinned."""
    return scene.pinned


_ALL = (
    dense, nearby_dense, words, nearby_words, tokens, nearby_tokens, session, time, speaker, asks, recency, pinned,
)  # fmt: skip

SIGNALS: dict[str, Callable[[Scene], Vector]] = {signal.__name__: signal for signal in _ALL}
"""By the names of `Weights`."""

BY_COSINES = frozenset({"dense", "nearby_dense", "session"})
"""Those that say something else once cosines are known, or known better."""


def contributions(scene: Scene, weights: Weights, before: Mapping[str, Vector]) -> dict[str, Vector]:
    """What each signal that is switched on adds to the score of each row.

    Args:
        before: what they added before the newest cosines came; empty for the first time.
    """
    return {
        name: before[name] if name in before and name not in BY_COSINES else np.float32(weight) * SIGNALS[name](scene)
        for name in SIGNALS
        if (weight := getattr(weights, name))
    }
