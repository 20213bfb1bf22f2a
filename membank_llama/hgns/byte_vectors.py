"""Level 0 in a byte a dimension: for banks whose tokens say what the last bits of a pooled vector would.

    bytes 0–3   float32, little-endian: the largest coordinate's size
    bytes 4–    int8 a dimension: the coordinate in 127ths of that

A cosine differs by less than a thousandth from that of the vector itself, and axes are found as well in such vectors.
"""

from __future__ import annotations

import numpy as np

from membank_llama.core.types import Codes, Vector

from .codec import check_codes, scaled_to_unit

SCALE_BYTES, STEPS = 4, 127


def byte_vector_bytes(dim: int) -> int:
    """Bytes of one vector."""
    return SCALE_BYTES + dim


def to_bytes(rows: Vector) -> Codes:
    """Unit rows (n, dim) as uint8 (n, byte_vector_bytes(dim))."""
    size = np.abs(rows).max(axis=1, keepdims=True, initial=0).astype("<f4")
    steps = np.rint(rows * (STEPS / np.maximum(size, np.finfo(np.float32).tiny))).astype(np.int8)
    return np.concatenate([size.view(np.uint8), steps.view(np.uint8)], axis=1)


def from_bytes(codes: Codes, dim: int) -> Vector:
    """Unit rows, float32 (n, dim), of what `to_bytes` made."""
    codes = check_codes(codes, byte_vector_bytes(dim))
    size = np.ascontiguousarray(codes[:, :SCALE_BYTES]).view("<f4").astype(np.float32)
    steps = np.ascontiguousarray(codes[:, SCALE_BYTES:]).view(np.int8).astype(np.float32)
    with np.errstate(all="ignore"):
        rows: Vector = steps * (size / np.float32(STEPS))
        return scaled_to_unit(rows)
