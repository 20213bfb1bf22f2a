"""`Axes`: the coordinates a bank measures its vectors in, found in the vectors themselves.

A vector x of unit length becomes y = ((x − mean) @ basis) · scale, brought to unit length: the *corrected* space, in
which cosines are taken. Axes are ordered by energy. Where distinct texts already point apart (an embedding model),
mean is zero and scale one, so the cosine is the plain one and the axes only turn it. Hidden states of a decoder all
point one way: a few dimensions rule the cosine (Timkey & van Schijndel 2021, arXiv:2109.04404). For those the mean is
taken off, the top axis is removed (Mu & Viswanath 2018, arXiv:1702.01417) and the others are standardised in part.

Up to `DENSE` dimensions the basis is a full matrix. Beyond it the leading axes are completed by Householder
reflections, x @ (I − Y·T·Yᵀ): every dimension keeps its coordinate, and the matrices stay a few megabytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from membank_llama.core.errors import BankCorruptError, InvalidInputError
from membank_llama.core.types import Vector

from .codec import scaled_to_unit, unit_rows
from .gradient import Floats

DENSE = 1024
LEADING = 512
FEWEST = 256
"""Distinct vectors from which on axes say more than chance."""

ANISOTROPIC = 0.35
"""Mean cosine between texts about different things from which on a model's vectors are corrected."""

POWER = 0.75
"""How far axes are standardised: their spread is divided by its own power; 1 would make all alike."""

REMOVED = 1
RIDGE = 0.15
"""Energy added to each axis before, in parts of the mean, for each dimension that a sampled vector has to tell of."""

DOUBT = 0.6
"""The same for the spread that digits are spent by: a small sample makes axes look narrower than they are."""

MOST_DIMS = 1 << 17
_MAGIC = b"MBKAXES1"


@dataclass(frozen=True)
class Axes:
    """Axes of vectors of `dim` dimensions, float32.

    `mean`, `scale`, `centre` and `spread` have shape (dim,); the last two are mean and standard deviation of corrected
    unit vectors along each axis. `basis` is (dim, dim), or where reflections stand for it (dim, 0); `reflectors` Y and
    `product` Y·Tᵀ are (dim, m) or (dim, 0).
    """

    mean: Vector
    basis: Vector
    reflectors: Vector
    product: Vector
    scale: Vector
    centre: Vector
    spread: Vector

    @property
    def dim(self) -> int:
        return len(self.mean)

    @cached_property
    def corrects(self) -> bool:
        """Whether cosines differ from those of the vectors as they were encoded."""
        return bool(self.mean.any() or (self.scale != 1).any())

    @cached_property
    def removed(self) -> int:
        """Axes that are left out of the cosine."""
        return int((self.scale == 0).sum())

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits that name these axes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:32]

    def corrected(self, rows: Vector) -> Vector:
        """Unit rows (n, dim) in the corrected space; a row that lies at the mean is zero."""
        centred = rows - self.mean if self.corrects else rows
        turned = self._turned(centred) * self.scale
        return scaled_to_unit(turned.astype(np.float32, copy=False))

    def _turned(self, rows: Vector) -> Vector:
        if self.basis.shape[1]:
            return rows @ self.basis
        reflected = (rows @ self.product) @ self.reflectors.T
        return (rows - reflected).astype(np.float32, copy=False)

    def to_bytes(self) -> bytes:
        """Everything, with a checksum."""
        arrays = [np.ascontiguousarray(getattr(self, field.name), "<f4") for field in fields(self)]
        head = json.dumps([list(array.shape) for array in arrays]).encode()
        body = len(head).to_bytes(4, "little") + head + b"".join(array.tobytes() for array in arrays)
        return _MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Axes:
        """Read axes back.

        Raises:
            BankCorruptError: damaged.
        """
        body = data[len(_MAGIC) + 32 :]
        if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != data[len(_MAGIC) : len(_MAGIC) + 32]:
            raise BankCorruptError("the bank's axes do not match their checksum")
        start = 4 + int.from_bytes(body[:4], "little")
        try:
            shapes = json.loads(body[4:start])
            _check_shapes(shapes, len(body) - start)
        except (ValueError, TypeError, IndexError, RecursionError) as exc:
            raise BankCorruptError(f"the bank's axes have shapes that are none of ours: {exc}") from exc
        arrays: list[Vector] = []
        for shape in shapes:
            count = int(np.prod(shape))
            arrays.append(np.frombuffer(body, "<f4", count, start).reshape(shape).astype(np.float32))
            start += 4 * count
        axes = cls(*arrays)
        if not all(np.isfinite(array).all() for array in arrays) or (axes.spread < 0).any():
            raise BankCorruptError("the bank's axes hold values that are none")
        return axes


def _check_shapes(shapes: Any, room: int) -> None:
    """Raises ValueError or TypeError where these are not the shapes of axes that take up so many bytes."""
    mean, basis, reflectors, product, scale, centre, spread = shapes
    (dim,) = mean
    width, many = basis[1], reflectors[1]
    numbers = (dim, width, many)
    if not all(type(number) is int and 0 <= number <= MOST_DIMS for number in numbers) or not dim:
        raise ValueError(f"{numbers} dimensions")
    if [mean, basis, reflectors, product, scale, centre, spread] != [
        [dim], [dim, width], [dim, many], [dim, many], [dim], [dim], [dim],
    ] or width not in (0, dim):  # fmt: skip
        raise ValueError("they do not fit one another")
    if 4 * (4 * dim + dim * width + 2 * dim * many) != room:
        raise ValueError("they take up another room")


def calibrate(sample: Vector, *, correct: bool | None = None) -> Axes:
    """Find the axes of unit rows (n, dim), n at least 2, all of different texts.

    Args:
        correct: whether to correct; None to decide by how alike the rows are (`anisotropy`).

    Raises:
        InvalidInputError: fewer than 2 rows.
        EncodingError: a row without direction.
    """
    rows = np.asarray(sample, np.float32)
    if rows.ndim != 2 or len(rows) < 2:
        raise InvalidInputError(f"axes need at least 2 vectors, got shape {rows.shape}")
    rows = unit_rows(rows, rows.shape[1])
    wanted = anisotropy(rows) >= ANISOTROPIC if correct is None else correct
    centre = rows.mean(axis=0, dtype=np.float64)
    energy, basis, reflectors, product = _principal(rows, centre)
    mean, scale = np.zeros_like(centre), np.ones_like(centre)
    if wanted:
        mean = centre
        ridge = RIDGE * len(centre) / len(rows) * energy.mean()
        scale = np.maximum(energy + ridge, np.finfo(np.float32).tiny) ** (-POWER / 2)
        scale[:REMOVED] = 0
        if len(scale) > REMOVED:
            scale /= scale.max()
    nothing = np.zeros(len(centre))
    parts = (mean, basis, reflectors, product, scale, nothing, nothing)
    axes = Axes(*(np.asarray(part, np.float32) for part in parts))
    found = axes.corrected(rows).astype(np.float64)
    spread = found.std(axis=0)
    floor = DOUBT * len(centre) / len(rows) * float(np.mean(spread**2))
    spread = np.where(axes.scale == 0, 0, np.sqrt(spread**2 + floor))
    return replace(axes, centre=found.mean(axis=0).astype(np.float32), spread=spread.astype(np.float32))


def anisotropy(rows: Vector) -> float:
    """Mean cosine between different rows, unit rows (n, dim), n at least 2; about 0 where they point anywhere."""
    total = rows.sum(axis=0, dtype=np.float64)
    return float((total @ total - len(rows)) / (len(rows) * (len(rows) - 1)))


def _principal(rows: Vector, centre: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Variance along each axis, and the axes as a matrix or as reflections Y and Y·Tᵀ."""
    dim = rows.shape[1]
    none = np.zeros((dim, 0))
    if dim <= DENSE:
        covariance = np.zeros((dim, dim))
        for start in range(0, len(rows), 4096):
            block = rows[start : start + 4096] - centre
            covariance += block.T @ block
        variance, vectors = np.linalg.eigh(covariance / len(rows))
        return np.maximum(variance[::-1], 0), _signed(vectors[:, ::-1]), none, none
    thin = (rows[:: -(-len(rows) // 2048)] - centre).astype(np.float64)
    _, sizes, right = np.linalg.svd(thin, full_matrices=False)
    count = min(LEADING, len(sizes) - 1)
    variance = sizes[:count] ** 2 / len(thin)
    rest = max(0.0, float((thin**2).sum() / len(thin) - variance.sum())) / (dim - count)
    reflectors, product = _reflections(_signed(right[:count].T))
    return np.concatenate([variance, np.full(dim - count, rest)]), none, reflectors, product


def _signed(vectors: Floats) -> Floats:
    """Columns with their largest entry positive: the sign of an eigenvector is nobody's choice."""
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0, -1.0, 1.0)


def _reflections(columns: Floats) -> tuple[Floats, Floats]:
    """Y and Y·T of an orthogonal matrix H = I − Y·T·Yᵀ whose first columns are ± orthonormal `columns` (dim, m).

    With E the first m columns of I and D a diagonal of signs, Y = E − columns·D and T = Y₁⁻ᵀ (Y₁: its first m rows)
    give H·E = columns·D, and YᵀY = Y₁ + Y₁ᵀ makes H orthogonal. The signs come from elimination with pivots of at
    least 1, so that Y₁ can be inverted (Ballard et al. 2014, doi:10.1109/IPDPS.2014.131).
    """
    dim, count = columns.shape
    work, signs = columns[:count].copy(), np.ones(count)
    for j in range(count):
        signs[j] = -1.0 if work[j, j] >= 0 else 1.0
        work[j, j] -= signs[j]
        work[j + 1 :, j] /= work[j, j]
        work[j + 1 :, j + 1 :] -= np.outer(work[j + 1 :, j], work[j, j + 1 :])
    first = np.eye(dim, count)
    reflectors = first - columns * signs
    inverse = np.linalg.inv(reflectors[:count].T)
    return reflectors, reflectors @ inverse
