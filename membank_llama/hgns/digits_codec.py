"""The `digits` codec: leading base-k digits of every dimension, coarse to fine, as HGNS numbers are written.

A coordinate x of a unit vector in d dimensions has x·√d of root mean square 1. It is companded to
u = Φ(x·√d / √3) in (0, 1) and written u = 0.m₁m₂m₃… in base k. For a normal source the best density of points
goes with the cube root of its density, which is again a normal one, √3 times as wide: hence √3, at every
fineness. A digit string stands for an interval and decodes to the mean of N(0, 1) within it.

p digits fill a byte (k = 6: 3, 216 of the 256 values). Level 1 keeps p digits of every dimension, one byte
each, 25 % of float32. Level 2 keeps the first digits of those, so it can be derived from level 1: as many as
fit 8.5 % (k = 6: one, three dimensions to a byte), and where not even one of each fits, the first of as many
leading dimensions as do.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Codes, Vector

from .codec import Codec, check_codes, check_level, cosines, full_decode, full_encode, scaled_to_unit, unit_rows

_SIGMA = math.sqrt(3)
_CELLS = 4096
_BLOCK = 1 << 16


class DigitsCodec(Codec):
    """Leading digits base `k` of every dimension; `k` is 2 to 256."""

    name: ClassVar[str] = "digits"
    default_k: ClassVar[int] = 6

    def __init__(self, dim: int, k: int, gradient_levels: int) -> None:
        super().__init__(dim, k, gradient_levels)
        if not 2 <= k <= 256:
            raise InvalidInputError(f"the digits codec needs k from 2 to 256, got {k}")
        per_byte = next(p for p in range(8, 0, -1) if k**p <= 256)
        budget = max(1, 34 * dim // 100)
        self.digits2 = max(1, per_byte * budget // dim)
        self._dims_per_byte = per_byte // self.digits2
        self._bytes2 = min(budget, -(-dim // self._dims_per_byte))
        self._sizes = (4 * dim, dim, self._bytes2)
        self._dims2 = min(dim, self._bytes2 * self._dims_per_byte)
        self._quantiser = Quantiser(k**per_byte, dim)
        self._centroids1 = centroids(k**per_byte)
        self._lead = (np.arange(k**per_byte) // k ** (per_byte - self.digits2)).astype(np.uint8)
        self._group = _group_table(k**self.digits2, self._dims_per_byte)
        # numpy gathers rows of 4, 8 or 16 bytes several times as fast as rows of 12
        width = 1 << (self._dims_per_byte - 1).bit_length()
        self._wide = np.pad(self._group, ((0, 0), (0, width - self._dims_per_byte)))

    def nbytes(self, level: int) -> int:
        return self._sizes[check_level(level)]

    def encode(self, vectors: Vector) -> tuple[Codes, Codes, Codes]:
        rows = unit_rows(vectors, self.dim)
        fine = self._quantiser(rows)
        return full_encode(rows), fine, self._coarse(fine)

    def decode(self, codes: Codes, level: int) -> Vector:
        if check_level(level) == 0:
            return full_decode(codes, self.dim)
        return scaled_to_unit(self._centres(codes, level))

    def score(self, query: Vector, codes: Codes, level: int) -> Vector:
        unit = self.asked(query)
        if level == 0:
            return cosines(full_decode(codes, self.dim), unit)
        if level == 1:
            return cosines(self._centres(codes, level), unit)
        return self._score_coarse(unit, check_codes(codes, self._sizes[2]))

    def _score_coarse(self, unit: Vector, codes: Codes) -> Vector:
        """Cosines with level 2, as `cosines(self._centres(codes, 2), unit)` gives them but for the order of sums."""
        spare = self._bytes2 * self._dims_per_byte - self._dims2
        query = np.zeros((self._bytes2, self._wide.shape[1]), np.float32)
        query[:, : self._dims_per_byte] = np.pad(unit[: self._dims2], (0, spare)).reshape(self._bytes2, -1)
        rows = np.take(self._wide, codes, axis=0, mode="clip")
        if spare:
            rows[:, -1, self._dims_per_byte - spare :] = 0
        return cosines(rows.reshape(len(codes), -1), query.reshape(-1))

    def _coarse(self, fine: Codes) -> Codes:
        """Level 2 from level 1: the leading digits, several dimensions to a byte."""
        lead = self._lead[fine[:, : self._dims2]]
        width = self._bytes2 * self._dims_per_byte
        if width > self._dims2:
            lead = np.pad(lead, ((0, 0), (0, width - self._dims2)))
        packed = lead[:, 0 :: self._dims_per_byte]
        for part in range(1, self._dims_per_byte):
            packed = packed * np.uint8(self.k**self.digits2) + lead[:, part :: self._dims_per_byte]
        return np.ascontiguousarray(packed)

    def _centres(self, codes: Codes, level: int) -> Vector:
        codes = check_codes(codes, self._sizes[level])
        if level == 1:
            return np.take(self._centroids1, codes, mode="clip")
        rows = np.take(self._group, codes, axis=0, mode="clip").reshape(len(codes), self._bytes2 * self._dims_per_byte)
        if self._dims2 == self.dim:
            return np.ascontiguousarray(rows[:, : self.dim])
        full = np.zeros((len(codes), self.dim), np.float32)
        full[:, : self._dims2] = rows[:, : self._dims2]
        return full


class Quantiser:
    """Which of `bins` intervals each coordinate of variance 1/dim lies in: `searchsorted(thresholds, x, "right")`.

    A grid of cells, each holding one threshold at most, gives the interval but for one comparison. Cell
    numbers rise with x whatever way the machine rounds, and thresholds are put into cells by the same
    arithmetic, so the answer depends on float32 comparisons alone.
    """

    def __init__(self, bins: int, dim: int) -> None:
        self.thresholds = (_edges(bins) * (_SIGMA / math.sqrt(dim))).astype(np.float32)
        limit = float(self.thresholds[-1]) * (1 + 1 / 64)
        self._scale = np.float32(_CELLS / (2 * limit))
        self._shift = np.float32(_CELLS / 2)
        cells = self._cells(self.thresholds)
        below = np.searchsorted(cells, np.arange(_CELLS), "left")
        self._below = below.astype(np.uint8)
        self._next = np.append(self.thresholds, np.float32(np.inf))[below]

    def __call__(self, rows: Vector) -> Codes:
        flat = rows.reshape(-1)
        out = np.empty(flat.shape, np.uint8)
        for start in range(0, flat.size, _BLOCK):
            # a block at a time keeps the temporaries within the processor's cache
            part = flat[start : start + _BLOCK]
            cells = self._cells(part)
            np.add(
                np.take(self._below, cells, mode="clip"),
                part >= np.take(self._next, cells, mode="clip"),
                out=out[start : start + _BLOCK],
            )
        return out.reshape(rows.shape)

    def _cells(self, values: Vector) -> npt.NDArray[np.intp]:
        scaled = values * self._scale
        scaled += self._shift
        np.maximum(scaled, np.float32(0), out=scaled)
        np.minimum(scaled, np.float32(_CELLS - 1), out=scaled)
        return scaled.astype(np.intp)


def _edges(bins: int) -> npt.NDArray[np.float64]:
    """Inner edges of `bins` equal shares of a standard normal, rising; symmetric to the last bit."""
    inverse = NormalDist().inv_cdf
    half = [inverse(j / bins) for j in range(1, (bins + 1) // 2)]
    middle = [0.0] if bins % 2 == 0 else []
    return np.array(half + middle + [-edge for edge in reversed(half)])


def inner_edges(bins: int) -> npt.NDArray[np.float64]:
    """Edges between the companded intervals of a standard normal source, rising, float64 (bins - 1,)."""
    return _edges(bins) * _SIGMA


def centroids(bins: int) -> Vector:
    """Mean of N(0, 1) within each companded interval, float32 (bins,)."""
    edges = [-math.inf, *inner_edges(bins).tolist()]
    half = [_mean_between(low, high) for low, high in pairwise(edges)][: bins // 2]
    middle = [0.0] if bins % 2 else []
    return np.array(half + middle + [-mean for mean in reversed(half)], np.float32)


def _mean_between(low: float, high: float) -> float:
    """E[z | low < z < high] of a standard normal; low < high <= 0, where erfc loses nothing."""

    def density(z: float) -> float:
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def below(z: float) -> float:
        return math.erfc(-z / math.sqrt(2)) / 2

    return (density(low) - density(high)) / (below(high) - below(low))


def _group_table(bins: int, dims_per_byte: int) -> Vector:
    """Centroids of the dimensions that share a byte, float32 (bins ** dims_per_byte, dims_per_byte)."""
    digits = np.indices((bins,) * dims_per_byte).reshape(dims_per_byte, -1).T
    return np.ascontiguousarray(centroids(bins)[digits])
