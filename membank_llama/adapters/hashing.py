"""`HashingAdapter`: vectors of hashed words, without a model.

A hashed bag of words: every word draws one vector from its own hash, and a text is the sum of its words. Texts
with words in common are therefore near, others nearly orthogonal, and the same text gives the same vector in every
process and with every numpy. It knows no meaning: "car" and "automobile" are strangers.

Banks record its ids: ``words-1-N`` where no model encodes, so that recall goes by words alone, and ``mock-1-N`` in
tests, benchmarks and trials. A bank made with either moves to a model with `membank reencode`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import lru_cache

import numpy as np

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Vector

from .base import ModelAdapter

WORDS_PREFIX = "words-1-"
"""What the ids of `WordsAdapter` begin with."""

_WORD = re.compile(r"\w+")
_ENDINGS = ("ing", "ed", "es", "s")


class HashingAdapter(ModelAdapter):
    """Deterministic bag-of-words vectors of unit length; made under one of the names below, which banks record."""

    _name: str
    _prefix: str

    def __init__(self, hidden_dim: int = 256) -> None:
        if hidden_dim < 1:
            raise InvalidInputError(f"hidden_dim must be at least 1, not {hidden_dim}")
        self._dim = hidden_dim

    @property
    def hidden_dim(self) -> int:
        return self._dim

    @property
    def name(self) -> str:
        return self._name

    def model_id(self) -> str:
        return f"{self._prefix}{self._dim}"

    def encode(self, text: str) -> Vector:
        """Sum over the words, each weighted by the root of its count: float32 ``(hidden_dim,)``, unit length."""
        # a text without a word still is something: its characters stand in
        words = Counter(_stem(word) for word in _WORD.findall(text.casefold())) or Counter([text])
        total = np.zeros(self._dim, np.float64)
        for word, count in words.items():
            total += np.sqrt(count) * _word_vector(word, self._dim)
        return (total / np.linalg.norm(total)).astype(np.float32)


class WordsAdapter(HashingAdapter):
    """Encodes where no model does: texts are told apart by their words alone."""

    _name, _prefix = "words alone", WORDS_PREFIX


class MockAdapter(HashingAdapter):
    """Stands for a model in tests, benchmarks and trials."""

    _name, _prefix = "mock", "mock-1-"


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


@lru_cache(maxsize=65536)
def _word_vector(word: str, dim: int) -> Vector:
    drawn = hashlib.shake_128(word.encode("utf-8", "surrogatepass")).digest(2 * dim)
    vector = np.frombuffer(drawn, "<u2").astype(np.float32) - 32767.5
    vector.setflags(write=False)
    return vector
