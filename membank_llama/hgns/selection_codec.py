"""The `selection` codec, as the seed has it: each vector keeps its own most salient dimensions.

A level keeps the m dimensions with the largest |∇ᴸ|: their numbers as rising uint16, then their values as
float16, little-endian, 4 bytes a dimension; m is 33 % and 8.5 % of the dimensions, at least one. Two vectors
are compared over the dimensions that both kept, the query being reduced like the rest. It is here for
comparison: positions differ from vector to vector, so a coarse level tells little (see docs/hgns.md).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Codes, Vector

from .codec import (
    Codec,
    check_codes,
    check_level,
    cosines,
    full_decode,
    full_encode,
    row_lengths,
    scaled_to_unit,
    unit_rows,
)
from .gradient import DEFAULT_K, check_base, salient_dims


class SelectionCodec(Codec):
    """Each vector's most salient dimensions; `k` and `gradient_levels` are those of the gradient."""

    name: ClassVar[str] = "selection"
    default_k: ClassVar[int] = DEFAULT_K

    def __init__(self, dim: int, k: int, gradient_levels: int) -> None:
        super().__init__(dim, k, gradient_levels)
        if dim > 1 << 16:
            raise InvalidInputError(f"the selection codec numbers dimensions in 16 bits; {dim} are too many")
        check_base(k, gradient_levels)
        self._kept = (dim, max(1, 33 * dim // 100), max(1, 85 * dim // 1000))

    def nbytes(self, level: int) -> int:
        return 4 * self._kept[check_level(level)]

    def encode(self, vectors: Vector) -> tuple[Codes, Codes, Codes]:
        rows = unit_rows(vectors, self.dim)
        return full_encode(rows), self._reduce(rows, 1), self._reduce(rows, 2)

    def decode(self, codes: Codes, level: int) -> Vector:
        if check_level(level) == 0:
            return full_decode(codes, self.dim)
        dims, values = self._parts(codes, level)
        rows = np.zeros((len(codes), self.dim), np.float32)
        np.put_along_axis(rows, dims, values, axis=1)
        return scaled_to_unit(rows)

    def score(self, query: Vector, codes: Codes, level: int) -> Vector:
        unit = unit_rows(np.asarray(query)[np.newaxis], self.dim)
        if check_level(level) == 0:
            return cosines(full_decode(codes, self.dim), unit[0])
        reduced = self.decode(self._reduce(unit, level), level)[0]
        dims, values = self._parts(codes, level)
        # the dot over shared dimensions: the query is zero at all others
        dots: Vector = np.einsum("ij,ij->i", reduced[dims], values)
        return dots / row_lengths(values)

    def _reduce(self, rows: Vector, level: int) -> Codes:
        kept = self._kept[level]
        codes = np.empty((len(rows), 4 * kept), np.uint8)
        if len(rows) == 0:
            return codes
        dims = salient_dims(rows, kept, self.k, self.gradient_levels)
        codes[:, : 2 * kept] = dims.astype("<u2").view(np.uint8)
        codes[:, 2 * kept :] = np.take_along_axis(rows, dims, axis=1).astype("<f2").view(np.uint8)
        return codes

    def _parts(self, codes: Codes, level: int) -> tuple[npt.NDArray[np.intp], Vector]:
        kept = self._kept[level]
        codes = check_codes(codes, 4 * kept)
        dims = codes[:, : 2 * kept].view("<u2").astype(np.intp)
        if dims.size and int(dims.max()) >= self.dim:
            raise InvalidInputError(f"codes name dimension {int(dims.max())} of {self.dim}: not made by this codec")
        return dims, codes[:, 2 * kept :].view("<f2").astype(np.float32)
