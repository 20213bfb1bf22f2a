"""`ModelAdapter`: what the bank needs of a model, and no more.

Three things are enough to add a model: `hidden_dim`, `model_id()` and `encode_batch()` (or `encode()`).
The vectors carry the id of the model that made them, so `model_id()` must change whenever they would. A model that
gives the states of a text's tokens as well says so by `token_dim` and gives them by `encode_tokens()`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from membank_llama.core.errors import EncodingError
from membank_llama.core.types import Vector

from .token_states import TokenStates

AnyAdapter = TypeVar("AnyAdapter", bound="ModelAdapter")

_PROBE = "The quick brown fox jumps over the lazy dog."


class ModelAdapter(ABC):
    """Turns texts into float32 vectors of one fixed dimension."""

    @property
    @abstractmethod
    def hidden_dim(self) -> int:
        """Length of every vector."""

    @abstractmethod
    def model_id(self) -> str:
        """A fingerprint that is stable across restarts and file names."""

    @abstractmethod
    def encode(self, text: str) -> Vector:
        """Encode one text: float32, shape ``(hidden_dim,)``, finite, of unit length."""

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """Encode several texts: float32, shape ``(len(texts), hidden_dim)``."""
        if not texts:
            return np.zeros((0, self.hidden_dim), np.float32)
        return stacked([self.encode(text) for text in texts], type(self).__name__)

    @property
    def token_dim(self) -> int:
        """Length of a token's state in `encode_tokens()`; 0 of a model that gives none."""
        return 0

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenStates]:
        """Encode several texts token by token, in one pass with their vectors; optional.

        Raises:
            EncodingError: the model gives vectors alone.
        """
        raise EncodingError(f"{self.name} gives one vector a text and no states of its tokens")

    @property
    def name(self) -> str:
        """How a person would call the model; never used to tell models apart."""
        return self.model_id()

    @property
    def source(self) -> str | None:
        """A path or reference from which the same model can be opened again, where there is one."""
        return None

    def warmup(self) -> None:
        """Do the slow first work now: load, allocate, encode once."""
        self.encode(_PROBE)

    def validate(self) -> None:
        """Encode a probe text and check the contract: of a model that gives tokens, theirs too.

        Raises:
            EncodingError: the vector has another shape or dtype than promised, or holds NaN.
        """
        who = type(self).__name__
        if self.token_dim:
            check_tokens(self.encode_tokens([_PROBE]), 1, self.hidden_dim, self.token_dim, who)
            return
        check_vectors(stacked([self.encode(_PROBE)], who), 1, self.hidden_dim, who)

    def close(self) -> None:  # noqa: B027 (most adapters have nothing to free)
        """Free what the adapter opened itself."""

    def __enter__(self: AnyAdapter) -> AnyAdapter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def stacked(vectors: Sequence[Vector], who: str) -> Vector:
    """Vectors that came one by one as the rows of one array.

    Raises:
        EncodingError: they are no vectors of one length.
    """
    try:
        return np.stack(vectors)
    except (ValueError, TypeError) as exc:
        raise EncodingError(
            f"{who} returned vectors of several shapes: {exc}; make encode() return (hidden_dim,)"
        ) from exc


def check_vectors(vectors: Any, count: int, dim: int, who: str) -> Vector:
    """Hold what a model returned against the contract; returns it unchanged.

    Raises:
        EncodingError: with what was expected and what came.
    """
    if not isinstance(vectors, np.ndarray):
        raise EncodingError(f"{who} returned {type(vectors).__name__}; return a numpy float32 array")
    if vectors.shape != (count, dim):
        raise EncodingError(
            f"{who} returned shape {vectors.shape}, expected ({count}, {dim}); "
            "make encode() return (hidden_dim,) and encode_batch() return (n, hidden_dim)"
        )
    if vectors.dtype != np.float32:
        raise EncodingError(f"{who} returned {vectors.dtype}; convert with .astype(numpy.float32)")
    if not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors)).any(axis=1).sum())
        raise EncodingError(f"{who} returned NaN or infinity in {bad} of {count} vectors; nothing was stored")
    return vectors


def check_tokens(found: Any, count: int, dim: int, token_dim: int, who: str) -> list[TokenStates]:
    """The same for `encode_tokens`."""
    if not isinstance(found, list) or len(found) != count:
        raise EncodingError(f"{who} returned no list of {count} TokenStates; make encode_tokens() return one a text")
    for one in found:
        check_vectors(one.vector[np.newaxis], 1, dim, who)
        check_vectors(one.states, len(one.words), token_dim, who)
    return found
