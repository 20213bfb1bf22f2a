"""`TokenStates`: what a model's hidden states say of a text, token by token.

The states of a model have a direction in common and a few dimensions that rule every cosine. So each dimension is
standardised: its mean over text of every kind is taken off and its spread divided out, both measured once a model on
`CALIBRATION`, and the row is brought to unit length. Measured on LoCoMo, that says as much as mean and spread of the
bank's own states, and never changes (docs/hgns.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import EncodingError
from membank_llama.core.letters import folded
from membank_llama.core.stop_words import STOP_WORDS
from membank_llama.core.types import Vector

CALIBRATION = (
    "The shop on the corner sells bread, milk and newspapers.",
    "My brother moved to another city to study medicine.",
    "Which train do I have to take to be there before ten?",
    "Store the result in a file and close the connection.",
    "We had a wonderful time at the lake last summer!",
    "The committee will publish its report in March.",
    "I am not sure whether that was a good idea.",
    "How much does a litre of paint cost nowadays?",
    "Her daughter plays the violin in the school orchestra.",
    "Heat the oil, add the onions and stir until they are soft.",
    "Do you remember what she told us about her new job?",
    "Water freezes at zero degrees and boils at a hundred.",
    "He broke his arm when he fell off the ladder.",
    "The meeting was moved from Tuesday to Friday at noon.",
    "Can you recommend a good book about the history of Rome?",
    "Our dog is afraid of thunder and hides under the bed.",
    "The function returns an empty list if nothing is found.",
    "They painted the kitchen yellow and the door dark green.",
    "Why did the price of coffee rise so much this year?",
    "Thanks a lot, I will call you back in the evening.",
    "The doctor told me to drink less and to walk every day.",
    "Old trees line the road that leads up to the castle.",
    "What would you like to eat for dinner tonight?",
    "She lost her keys somewhere between the car and the house.",
)
"""Statements and questions of every kind, by which a model's dimensions are standardised. Whoever changes them changes
the vectors: the mark of the pooling has to change with them."""

STOP_WEIGHT, MARK_WEIGHT = 0.2, 0.1
"""What stop words and punctuation count in content pooling, beside 1 for other tokens."""


@dataclass(frozen=True)
class TokenStates:
    """One text as a model sees it.

    Args:
        vector: the pooled vector, float32 ``(dim,)``, of unit length: what `encode()` gives.
        states: standardised states of its tokens, float32 ``(n_tokens, token_dim)``, rows of unit length.
        words: for each token the word that it is part of, case-folded; empty for punctuation.
    """

    vector: Vector
    states: Vector
    words: tuple[str, ...]

    def worth_keeping(self) -> TokenStates:
        """Without punctuation, and of a word that is said again with its first time alone; with all where that leaves
        none. Costs nothing in what is found (docs/hgns.md) and a third of the bytes."""
        seen: set[tuple[str, int]] = set()
        kept = np.zeros(len(self.words), np.bool_)
        place, before = 0, ""
        for at, word in enumerate(self.words):
            place = place + 1 if word == before else 0
            before = word
            kept[at] = bool(word) and (word, place) not in seen
            seen.add((word, place))
        if not kept.any():
            return self
        return TokenStates(self.vector, self.states[kept], tuple(compress(self.words, kept.tolist())))


@dataclass(frozen=True)
class Standard:
    """Mean and spread of each dimension of a model's states, float32 ``(dim,)``."""

    mean: Vector
    spread: Vector

    @classmethod
    def of(cls, rows: Vector) -> Standard:
        """Measured on states ``(n, dim)``.

        Raises:
            EncodingError: the model gave NaN or infinity.
        """
        if not np.isfinite(rows).all():
            raise EncodingError("the model gives NaN for ordinary sentences; try another layer or a less quantised one")
        spread = rows.std(axis=0)
        # a dimension that never moves says nothing
        quiet = spread <= 1e-6 * max(float(spread.max(initial=0)), 1e-12)
        return cls(rows.mean(axis=0), np.where(quiet, np.float32(np.inf), spread).astype(np.float32))

    def rows(self, states: Vector) -> Vector:
        """States ``(n, dim)`` standardised, of unit length; a row that says nothing is zero."""
        rows = (states - self.mean) / self.spread
        unit: Vector = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
        return unit


def words_of(pieces: Sequence[str]) -> tuple[str, ...]:
    """For each token the word that it is part of, case-folded, without punctuation; empty for tokens of none.

    Args:
        pieces: the text of each token, in order; one that begins a word begins with white space.
    """
    words: list[str] = []
    place: list[int] = []
    for piece in pieces:
        letters = "".join(filter(str.isalnum, folded(piece)))
        if not words or piece[:1].isspace() or not letters or not words[-1] or piece[:1] in "'’":
            words.append(letters)
        else:
            words[-1] += letters
        place.append(len(words) - 1)
    return tuple(words[at] for at in place)


def content_weights(words: Sequence[str]) -> npt.NDArray[np.float64]:
    """What each token counts in content pooling, shape ``(n,)``."""
    return np.array([MARK_WEIGHT if not w else STOP_WEIGHT if w in STOP_WORDS else 1.0 for w in words])


def content_pooled(states: Vector, words: Sequence[str]) -> npt.NDArray[np.float64]:
    """The sum of standardised states ``(n, dim)``, each by what its token counts."""
    pooled: npt.NDArray[np.float64] = content_weights(words) @ states.astype(np.float64)
    return pooled
