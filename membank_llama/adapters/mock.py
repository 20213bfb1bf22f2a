"""`MockAdapter`: vectors without a model, for tests, benchmarks and trying things out.

A hashed bag of words: every word draws one vector from its own hash, and a text is the sum of its words. Texts
with words in common are therefore near, others nearly orthogonal, and the same text gives the same vector in every
process and with every numpy. It knows no meaning: "car" and "automobile" are strangers.
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

_WORD = re.compile(r"\w+")
_ENDINGS = ("ing", "ed", "es", "s")


class MockAdapter(ModelAdapter):
    """Deterministic bag-of-words vectors of unit length."""

    def __init__(self, hidden_dim: int = 256) -> None:
        if hidden_dim < 1:
            raise InvalidInputError(f"hidden_dim must be at least 1, not {hidden_dim}")
        self._dim = hidden_dim

    @property
    def hidden_dim(self) -> int:
        return self._dim

    @property
    def name(self) -> str:
        return "mock"

    def model_id(self) -> str:
        return f"mock-1-{self._dim}"

    def encode(self, text: str) -> Vector:
        """Sum over the words, each weighted by the root of its count: float32 ``(hidden_dim,)``, unit length."""
        # a text without a word still is something: its characters stand in
        words = Counter(_stem(word) for word in _WORD.findall(text.casefold())) or Counter([text])
        total = np.zeros(self._dim, np.float64)
        for word, count in words.items():
            total += np.sqrt(count) * _word_vector(word, self._dim)
        return (total / np.linalg.norm(total)).astype(np.float32)


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
