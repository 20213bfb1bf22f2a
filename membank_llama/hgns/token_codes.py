"""The leading digit of every dimension of every token, and late interaction over such digits.

A token's standardised state (adapters/token_states.py) keeps one digit base 2 a dimension: its sign. Of the question's
tokens a second digit is kept, whether a coordinate is large. A dot product is then a few exclusive-ors and bit counts:

    y · sign(x) ≈ a (d − 2·|s ⊕ t|) + b (|m| − 2·|(s ⊕ t) ∧ m|)

with s and t the signs of question and memory, m the question's large coordinates, a the mean size of its small ones
and a + b that of its large ones. Each of the question's tokens takes the memory's nearest one: MaxSim, as in ColBERT
(Khattab and Zaharia 2020, doi:10.1145/3397271.3401075).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from membank_llama.core.types import Codes, Vector

WORD_BYTES = 8
_Words = npt.NDArray[np.uint64]


def token_bytes(dim: int) -> int:
    """Bytes of one token's digits: whole words of 64 bits."""
    return WORD_BYTES * -(-dim // (8 * WORD_BYTES))


def token_codes(states: Vector) -> Codes:
    """The leading digits of token states (n, dim), uint8 (n, token_bytes(dim))."""
    return _packed(states > 0)


def _packed(bits: npt.NDArray[np.bool_]) -> Codes:
    packed = np.packbits(bits, axis=1)
    return np.pad(packed, ((0, 0), (0, token_bytes(bits.shape[1]) - packed.shape[1])))


@dataclass(frozen=True)
class AskedTokens:
    """The tokens of a question, as `best_matches` compares them; shapes (n, words) and (n, 1)."""

    signs: _Words
    large: _Words
    small_size: Vector
    more: Vector
    dim: int

    @classmethod
    def of(cls, states: Vector) -> AskedTokens:
        """Of standardised states (n, dim), rows of unit length."""
        sizes = np.abs(states)
        large = sizes > sizes.mean(axis=1, keepdims=True)
        counts = np.maximum(large.sum(axis=1, keepdims=True), 1)
        small = np.where(large, 0, sizes).sum(axis=1, keepdims=True) / np.maximum(states.shape[1] - counts, 1)
        more = np.where(large, sizes, 0).sum(axis=1, keepdims=True) / counts - small
        signs, masks = (_packed(bits).view(np.uint64) for bits in (states > 0, large))
        return cls(signs, masks, small.astype(np.float32), more.astype(np.float32), states.shape[1])

    def __len__(self) -> int:
        return len(self.signs)

    def only(self, kept: npt.NDArray[np.bool_]) -> AskedTokens:
        """Some of the tokens."""
        return AskedTokens(self.signs[kept], self.large[kept], self.small_size[kept], self.more[kept], self.dim)


def best_matches(asked: AskedTokens, codes: Codes, counts: npt.NDArray[np.integer]) -> Vector:
    """How near each of the question's tokens comes to some memories: float32 (tokens, memories), 1 for the same state.

    Args:
        codes: the digits of all tokens of the memories, one memory after the other, (n, token_bytes).
        counts: how many of them are each memory's; a memory of none is near to nothing, 0.
    """
    found = np.zeros((len(asked), len(counts)), np.float32)
    some = np.flatnonzero(counts)
    if len(some) and len(asked):
        starts = np.cumsum(counts[some]) - counts[some]
        found[:, some] = np.maximum.reduceat(_cosines(asked, codes), starts, axis=1)
    return found


def _cosines(asked: AskedTokens, codes: Codes) -> Vector:
    """About the cosine of each of the question's tokens with each of some memories', (tokens, n)."""
    # a question has few tokens; laid out by words, what is summed lies together
    words = np.ascontiguousarray(np.ascontiguousarray(codes).view(np.uint64).T)
    differ = np.empty((len(asked), len(codes)), np.uint16)
    differ_large, odd = np.empty_like(differ), np.empty_like(words)
    for place, (signs, large) in enumerate(zip(asked.signs, asked.large, strict=True)):
        np.bitwise_xor(words, signs[:, np.newaxis], out=odd)
        np.add.reduce(bit_counts(odd), axis=0, dtype=np.uint16, out=differ[place])
        np.bitwise_and(odd, large[:, np.newaxis], out=odd)
        np.add.reduce(bit_counts(odd), axis=0, dtype=np.uint16, out=differ_large[place])
    many = bit_counts(asked.large).sum(axis=1, dtype=np.int64)[:, np.newaxis]
    sums: Vector = (asked.small_size * (asked.dim - 2 * differ.astype(np.float32))).astype(np.float32)
    sums += asked.more * (many - 2 * differ_large.astype(np.float32))
    sums /= np.float32(np.sqrt(asked.dim))
    return sums


def _counted_by_table(words: _Words) -> npt.NDArray[np.uint8]:
    bytes_ = np.ascontiguousarray(words).view(np.uint8)
    counted: npt.NDArray[np.uint8] = _ONES[bytes_].reshape(*words.shape, WORD_BYTES).sum(axis=-1, dtype=np.uint8)
    return counted


_ONES = np.array([number.bit_count() for number in range(256)], np.uint8)
bit_counts = getattr(np, "bitwise_count", _counted_by_table)
"""How many bits of each word are set; numpy has it from 2.0 on."""
