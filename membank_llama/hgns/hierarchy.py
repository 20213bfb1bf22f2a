"""`HGNSHierarchy`: one vector at three levels, in a slot of fixed size, by a codec chosen by name.

A slot holds level 0, then level 1, then level 2. `spec()` is what a bank records; a hierarchy built from it
reads every byte that was written with it, and one that could not is refused with what to do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import BankFormatError, InvalidInputError
from ..types import LEVELS, Codes, Vector
from .base import Codec
from .digits import DigitsCodec
from .gradient import DEFAULT_LEVELS, check_base
from .selection import SelectionCodec

SPEC_FORMAT = 1
CODECS: dict[str, type[Codec]] = {codec.name: codec for codec in (DigitsCodec, SelectionCodec)}
"""Every codec by the name under which banks record it."""

_SPEC_KEYS = {"format", "codec", "dim", "k", "gradient_levels", "bytes"}


class HGNSHierarchy:
    """Three levels of vectors of `dim` dimensions."""

    def __init__(
        self, dim: int, codec: str = "digits", *, k: int | None = None, gradient_levels: int = DEFAULT_LEVELS
    ) -> None:
        """`k` of None takes the codec's own base (digits 6, selection 10).

        Raises:
            InvalidInputError: an unknown codec, or parameters it cannot work with.
        """
        kind = CODECS.get(codec)
        if kind is None:
            raise InvalidInputError(f"unknown codec {codec!r}; use one of {', '.join(sorted(CODECS))}")
        base = kind.default_k if k is None else k
        check_base(base, 1)
        check_base(2, gradient_levels)
        self._codec = kind(dim, base, gradient_levels)
        self.dim = dim

    @property
    def codec_name(self) -> str:
        return self._codec.name

    @property
    def k(self) -> int:
        """The base of the digits, or of the gradient's steps."""
        return self._codec.k

    @property
    def slot_bytes(self) -> int:
        """Bytes of the three levels together."""
        return sum(self.nbytes(level) for level in LEVELS)

    @property
    def tag(self) -> bytes:
        """16 bytes that differ where the spec does."""
        text = json.dumps(self.spec(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()[:16]

    def nbytes(self, level: int) -> int:
        """Bytes of one vector at `level`."""
        return self._codec.nbytes(level)

    def offsets(self, level: int) -> tuple[int, int]:
        """Where a level lies within a slot: start and stop."""
        stop = sum(self.nbytes(lower) for lower in range(level + 1))
        return stop - self.nbytes(level), stop

    def compress(self, vectors: Vector) -> tuple[Codes, Codes, Codes]:
        """The codes of levels 0, 1 and 2 of rows (n, dim); rows of another length are brought to 1.

        Raises:
            EncodingError: another shape, NaN, infinity or a zero row.
        """
        return self._codec.encode(vectors)

    def slots(self, vectors: Vector) -> Codes:
        """Rows (n, dim) as slots, uint8 (n, slot_bytes); raises as `compress`."""
        return np.concatenate(self.compress(vectors), axis=1)

    def decode(self, codes: Codes, level: int) -> Vector:
        """Unit rows, float32 (n, dim), of codes (n, nbytes(level)); level 0 may be a view of them."""
        return self._codec.decode(codes, level)

    def score(self, query: Vector, codes: Codes, level: int) -> Vector:
        """Cosine of `query` (dim,) with each row of codes (n, nbytes(level)), float32 (n,)."""
        return self._codec.score(query, codes, level)

    def spec(self) -> dict[str, Any]:
        """What a bank records of its encoding, as plain JSON values."""
        return {
            "format": SPEC_FORMAT,
            "codec": self.codec_name,
            "dim": self.dim,
            **self._codec.params(),
            "bytes": [self.nbytes(level) for level in LEVELS],
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> HGNSHierarchy:
        """Build the hierarchy that a bank records.

        Raises:
            BankFormatError: a format, codec or key this version does not know, or values that do not fit.
        """
        if spec.get("format") != SPEC_FORMAT or set(spec) != _SPEC_KEYS:
            odd = sorted(set(spec) ^ _SPEC_KEYS)
            raise BankFormatError(
                f"encoding of format {spec.get('format')!r}, this program reads {SPEC_FORMAT}"
                + (f"; unknown or missing: {', '.join(odd)}" if odd else "")
                + "; upgrade membank-llama, or re-encode the bank with `membank reencode`"
            )
        try:
            hierarchy = cls(spec["dim"], spec["codec"], k=spec["k"], gradient_levels=spec["gradient_levels"])
        except (InvalidInputError, TypeError) as error:
            raise BankFormatError(
                f"the bank's encoding cannot be used: {error}; upgrade membank-llama, "
                "or re-encode the bank with `membank reencode`"
            ) from error
        if hierarchy.spec() != dict(spec):
            raise BankFormatError(
                f"the bank records levels of {spec['bytes']} bytes, this program writes "
                f"{hierarchy.spec()['bytes']}; re-encode the bank with `membank reencode`"
            )
        return hierarchy
