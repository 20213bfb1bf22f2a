"""The `axes` codec: leading digits along a bank's own axes, more of them where the vectors differ more.

Along axis j a corrected unit vector has mean cⱼ and spread sⱼ. (yⱼ − cⱼ) / sⱼ is companded to u = Φ(· / √3) in
(0, 1), as in the `digits` codec, and written in base k. `spending` says how many digits an axis gets at each level.

Level 1 is counted in bytes, digits base 256: the first cuts u into 256 cells, the second each cell into 256 equal
parts; most axes get one byte, those of most energy two, those of little none. Level 2 is counted in digits base k (2, 4
or 16), the leading ones of that first byte, so that it can be derived from level 1; axes share bytes, none is cut in
two. A byte of level 2 therefore stands for a few coordinates, and a score is a sum of look-ups: one a byte.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Codes, Vector

from .axes import Axes
from .bit_allocation import BITS, spend, spend_packed
from .codec import Codec, check_codes, check_level, cosines, full_decode, full_encode, scaled_to_unit, unit_rows
from .digits_codec import Quantiser, centroids, inner_edges
from .gradient import Floats

WIDTHS = {2: 1, 4: 2, 16: 4}
"""Bits of a digit, by base."""

CELLS = 256
FINE = 132
"""Hundredths of a byte a dimension that level 1 takes: 33 % of float32."""


class AxesCodec(Codec):
    """Leading digits base `k` along `axes`; `k` is 2, 4 or 16."""

    name: ClassVar[str] = "axes"
    default_k: ClassVar[int] = 2

    def __init__(self, dim: int, k: int, gradient_levels: int, axes: Axes, fine: int = FINE) -> None:
        """`fine` is the budget of level 1, in hundredths of a byte a dimension."""
        super().__init__(dim, k, gradient_levels)
        self._width = check_digit(k)
        if axes.dim != dim:
            raise InvalidInputError(f"axes of {axes.dim} dimensions do not fit vectors of {dim}")
        self.axes = axes
        self._quantiser = Quantiser(CELLS, 1)
        edges, means = inner_edges(CELLS), centroids(CELLS).astype(np.float64)
        bounds = np.concatenate([[2 * means[0] - edges[0]], edges, [2 * means[-1] - edges[-1]]])
        self._low, self._step = bounds[:-1].astype(np.float32), (np.diff(bounds) / CELLS).astype(np.float32)
        self._means = means.astype(np.float32)
        self._last: tuple[Vector, Vector] | None = None
        self._plan_fine(max(1, fine * dim // 100))
        self._plan_coarse()

    def _plan_fine(self, room: int) -> None:
        one = left_after(CELLS)
        bytes_ = spend(self.axes.spread, np.array([1.0, one, one / CELLS**2]), room)
        self._first = np.flatnonzero(bytes_ >= 1)
        self._second = np.flatnonzero(bytes_ >= 2)
        self._bytes1 = len(self._first) + len(self._second)
        # where the second bytes' axes stand among the first bytes
        self._finer = np.searchsorted(self._first, self._second)

    def _plan_coarse(self) -> None:
        """Which axes each byte of level 2 holds, and what each value of it stands for."""
        room = max(1, 34 * self.dim // 100)
        most = BITS // self._width
        left = np.array([left_after(1 << (self._width * n)) for n in range(most + 1)])
        spread = np.zeros_like(self.axes.spread)
        spread[self._first] = self.axes.spread[self._first]
        digits, shared = spend_packed(spread, left, self._width, room)
        self.digits = digits
        shared = shared or [[0]]
        self._bytes2 = len(shared)
        self._kept = np.array([axis for axes in shared for axis in axes], np.intp)
        self._byte = np.repeat(np.arange(self._bytes2), [len(axes) for axes in shared])
        self._starts = np.searchsorted(self._byte, np.arange(self._bytes2))
        bits = digits[self._kept].astype(np.intp) * self._width
        before = np.cumsum(bits) - bits
        self._up = (before - before[self._starts][self._byte]).astype(np.uint8)
        self._down = (BITS - bits).astype(np.uint8)
        cells = (np.arange(CELLS) >> self._up[:, np.newaxis]) & ((1 << bits) - 1)[:, np.newaxis]
        stands = np.stack([centroids(1 << count)[row] for count, row in zip(bits.tolist(), cells, strict=True)])
        centre, spread = self.axes.centre[self._kept], self.axes.spread[self._kept]
        self._values: Vector = centre[:, np.newaxis] + spread[:, np.newaxis] * stands
        rest = np.ones(self.dim, np.bool_)
        rest[self._kept] = False
        self._rest = np.where(rest, self.axes.centre, 0).astype(np.float32)
        # with no digit of its own an axis stands at its mean; added to the first byte's look-ups
        self._squares = np.add.reduceat(np.square(self._values), self._starts, axis=0)
        self._squares[0] += float(np.square(self._rest).sum())
        place = np.arange(len(self._kept)) - self._starts[self._byte]
        # the second axis of every byte that has one, then the third …: summing them so is several times as fast
        further = [np.flatnonzero(place == nth) for nth in range(1, int(place.max()) + 1)]
        self._further = [(entries, self._byte[entries]) for entries in further]
        self._base = CELLS * np.arange(self._bytes2, dtype=np.int32)

    def nbytes(self, level: int) -> int:
        return (4 * self.dim, self._bytes1, self._bytes2)[check_level(level)]

    def params(self) -> dict[str, Any]:
        return super().params() | {"axes": self.axes.digest}

    def encode(self, vectors: Vector) -> tuple[Codes, Codes, Codes]:
        rows = unit_rows(vectors, self.dim)
        along = self.axes.corrected(rows)[:, self._first]
        first = self._first
        along -= self.axes.centre[first]
        along /= self.axes.spread[first]
        cells = self._quantiser(along)
        lead = cells[:, self._finer]
        within = (along[:, self._finer] - self._low[lead]) / self._step[lead]
        parts = np.clip(within, 0, CELLS - 1).astype(np.uint8)
        return full_encode(rows), np.concatenate([cells, parts], axis=1), self._coarse(cells)

    def _coarse(self, cells: Codes) -> Codes:
        """Level 2 from level 1: leading digits, several axes to a byte."""
        every = np.zeros((len(cells), self.dim), np.uint8)
        every[:, self._first] = cells
        # a shift by all eight bits is not defined for bytes
        digits = (every[:, self._kept].astype(np.uint16) >> self._down) << self._up
        return np.bitwise_or.reduceat(digits, self._starts, axis=1).astype(np.uint8)

    def decode(self, codes: Codes, level: int) -> Vector:
        if check_level(level) == 0:
            return full_decode(codes, self.dim)
        rows = self._centres(check_codes(codes, self.nbytes(level)), level)
        return scaled_to_unit(rows)

    def _centres(self, codes: Codes, level: int) -> Vector:
        if level == 2:
            rows = np.tile(self._rest, (len(codes), 1))
            rows[:, self._kept] = self._values[np.arange(len(self._kept)), codes[:, self._byte]]
            return rows
        rows = np.tile(self.axes.centre, (len(codes), 1))
        cells, parts = codes[:, : len(self._first)], codes[:, len(self._first) :]
        along = self._means[cells]
        lead = cells[:, self._finer]
        along[:, self._finer] = self._low[lead] + (parts + np.float32(0.5)) * self._step[lead]
        rows[:, self._first] += along * self.axes.spread[self._first]
        return rows

    def leading(self, codes: Codes, count: int) -> Vector:
        """Level 2 along the first `count` axes, from their means, float32 (n, count): enough to rank by."""
        return self.decode(codes, 2)[:, :count] - self.axes.centre[:count]

    def corrected(self, rows: Vector) -> Vector:
        return self.axes.corrected(rows)

    def score(self, query: Vector, codes: Codes, level: int) -> Vector:
        check_codes(codes, self.nbytes(check_level(level)))
        if level == 0:
            rows = full_decode(codes, self.dim)
            if not self.axes.corrects:
                return cosines(rows, unit_rows(np.asarray(query)[np.newaxis], self.dim)[0])
            return cosines(self.corrected(rows), self.asked(query))
        asked = self.asked(query)
        if level == 1:
            return cosines(self._centres(codes, 1), asked)
        return self._score_coarse(asked, codes)

    def _score_coarse(self, asked: Vector, codes: Codes) -> Vector:
        """Cosines with level 2, as `cosines(self._centres(codes, 2), asked)` gives them but for the order of sums."""
        last = self._last
        if last is None or last[0] is not asked:
            parts = self._values * asked[self._kept, np.newaxis]
            dots = parts[self._starts]
            for entries, bytes_ in self._further:
                dots[bytes_] += parts[entries]
            dots[0] += self._rest @ asked
            self._last = last = (asked, dots)
        dots = last[1]
        at = codes + self._base
        lengths = np.take(self._squares, at).sum(axis=1)
        scores: Vector = np.take(dots, at).sum(axis=1) / np.sqrt(np.maximum(lengths, np.finfo(np.float32).tiny))
        return scores


def check_digit(k: int) -> int:
    """Bits of a digit base k.

    Raises:
        InvalidInputError: a base whose digits do not fill a byte evenly.
    """
    if k not in WIDTHS:
        raise InvalidInputError(f"the axes codec needs k of {', '.join(map(str, WIDTHS))}, got {k}")
    return WIDTHS[k]


def left_after(cells: int) -> float:
    """The part of a normal source's variance that is left when one of so many companded cells is known."""
    means = centroids(cells).astype(np.float64)
    return max(0.0, 1.0 - float((means**2 * _shares(cells)).sum()))


def _shares(cells: int) -> Floats:
    """How much of a standard normal lies in each companded interval."""
    below = [math.erfc(-edge / math.sqrt(2)) / 2 for edge in inner_edges(cells)]
    return np.diff(np.array([0.0, *below, 1.0]))
