"""`Codec`: how one way of writing vectors at three levels looks from outside.

Level 0 is the float32 bytes themselves, little-endian, in every codec. Level 1 takes at most 33 % and level 2
at most 8.5 % of that. A codec is a pure function of its parameters: the same vector gives the same bytes on
every machine, and `params()` is all it takes to build an equal codec again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from membank_llama.core.errors import EncodingError, InvalidInputError
from membank_llama.core.types import LEVELS, Codes, Vector

MAX_DIM = 1 << 20
_UNIT_TOLERANCE = 1e-5


class Codec(ABC):
    """Writes unit vectors of `dim` dimensions at three levels."""

    name: ClassVar[str]
    default_k: ClassVar[int]

    def __init__(self, dim: int, k: int, gradient_levels: int) -> None:
        if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= MAX_DIM:
            raise InvalidInputError(f"dim must be a whole number from 1 to {MAX_DIM}, got {dim!r}")
        self.dim = dim
        self.k = k
        self.gradient_levels = gradient_levels
        self._asked: tuple[Vector, Vector] | None = None

    def asked(self, query: Vector) -> Vector:
        """A question (dim,) of unit length in the space that cosines are taken in; the levels of one search ask for the
        same one."""
        last = self._asked
        if last is None or last[0] is not query:
            unit = unit_rows(np.asarray(query)[np.newaxis], self.dim)
            self._asked = last = (query, self.corrected(unit)[0])
        return last[1]

    def corrected(self, rows: Vector) -> Vector:
        """Unit rows (n, dim) in that space: as they are, where a codec corrects nothing."""
        return rows

    @abstractmethod
    def nbytes(self, level: int) -> int:
        """Bytes of one vector at `level`."""

    @abstractmethod
    def encode(self, vectors: Vector) -> tuple[Codes, Codes, Codes]:
        """Codes of levels 0, 1 and 2 of unit rows (n, dim), each uint8 of shape (n, nbytes(level))."""

    @abstractmethod
    def decode(self, codes: Codes, level: int) -> Vector:
        """Rows of unit length, float32 (n, dim); a row of which nothing was kept is zero."""

    @abstractmethod
    def score(self, query: Vector, codes: Codes, level: int) -> Vector:
        """Cosine of `query` (dim,) with each encoded row, float32 (n,), as far as the level can tell."""

    def params(self) -> dict[str, Any]:
        """What identifies the encoding, as plain JSON values."""
        return {"k": self.k, "gradient_levels": self.gradient_levels}


def unit_rows(vectors: Vector, dim: int) -> Vector:
    """Check rows (n, dim) and bring them to unit length; rows that have it already are not changed by a bit.

    Raises:
        EncodingError: another shape, NaN or infinity, or a row of zeros.
    """
    rows = np.ascontiguousarray(vectors, np.float32)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise EncodingError(f"expected vectors of shape (n, {dim}), got {rows.shape}")
    squares = np.einsum("ij,ij->i", rows, rows)
    off = ~(np.abs(squares - 1) <= _UNIT_TOLERANCE)
    if not off.any():
        return rows
    exact = rows[off].astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise EncodingError("a vector is zero or holds NaN or infinity and has no direction; nothing was encoded")
    rows = rows.copy()
    rows[off] = (exact / norms[:, np.newaxis]).astype(np.float32)
    return rows


def scaled_to_unit(rows: Vector) -> Vector:
    """Divide rows (n, dim) by their lengths, in place; zero rows stay zero."""
    rows /= row_lengths(rows)[:, np.newaxis]
    return rows


def cosines(rows: Vector, unit: Vector) -> Vector:
    """Cosine of each row (n, dim) with the unit vector (dim,); 0 for a row of zeros."""
    dots: Vector = rows @ unit
    return dots / row_lengths(rows)


def row_lengths(rows: Vector) -> Vector:
    """Lengths of rows (n, dim), and never zero, so that they can be divided by."""
    squares: Vector = np.einsum("ij,ij->i", rows, rows)
    return np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))


def full_encode(rows: Vector) -> Codes:
    """Level 0: float32, little-endian."""
    return np.ascontiguousarray(rows, "<f4").view(np.uint8)


def full_decode(codes: Codes, dim: int) -> Vector:
    """The rows of level 0, exactly as they were encoded; may be a view of `codes`."""
    return check_codes(codes, 4 * dim).view("<f4").astype(np.float32, copy=False)


def check_codes(codes: Codes, nbytes: int) -> Codes:
    """Hold codes against the shape (n, nbytes); returns them with rows that lie contiguous.

    Raises:
        InvalidInputError: another shape or dtype.
    """
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != nbytes:
        raise InvalidInputError(f"expected uint8 codes of shape (n, {nbytes}), got {codes.dtype} {codes.shape}")
    return codes if codes.strides[1] == 1 else np.ascontiguousarray(codes)


def check_level(level: int) -> int:
    """The level itself.

    Raises:
        InvalidInputError: not 0, 1 or 2.
    """
    if level not in LEVELS:
        raise InvalidInputError(f"unknown level {level!r}; use 0 (full), 1 or 2 (coarse)")
    return level
