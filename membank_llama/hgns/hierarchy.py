"""`HGNSHierarchy`: one vector at three levels, in a slot of fixed size, by a codec chosen by name.

A slot holds level 0, then level 1, then level 2. `spec()` is what a bank records; a hierarchy built from it, and from
the axes it names, reads every byte that was written with it, and one that could not is refused with what to do.

Level 0 is the vector as it was encoded, or a byte of each dimension (`byte_vectors.py`). Levels 1 and 2, and every
cosine, are those of the corrected space where the bank has axes (`axes.py`); before it has, it is the space of the
vectors, and `axes` writes as `digits` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from membank_llama.core.errors import BankFormatError, InvalidInputError
from membank_llama.core.types import LEVELS, Codes, Vector

from .axes import Axes
from .axes_codec import FINE, AxesCodec, check_digit
from .byte_vectors import byte_vector_bytes, from_bytes, to_bytes
from .codec import Codec, full_encode, scaled_to_unit, unit_rows
from .digits_codec import DigitsCodec
from .gradient import DEFAULT_LEVELS, check_base
from .selection_codec import SelectionCodec

SPEC_FORMAT = 1
CODECS: dict[str, type[Codec]] = {codec.name: codec for codec in (AxesCodec, DigitsCodec, SelectionCodec)}
"""Every codec by the name under which banks record it."""

DEFAULT_CODEC = AxesCodec.name
FLOAT32, INT8 = FULL = ("float32", "int8")
"""What level 0 is."""
LEAN = 90
"""Hundredths of a byte a dimension of level 1 where level 0 is a byte: between the levels around it."""

_BOUNDS = {"dim": 1 << 17, "k": 256, "gradient_levels": 64}
_SPEC_KEYS = {"format", "codec", "dim", "k", "gradient_levels", "bytes"}


class HGNSHierarchy:
    """Three levels of vectors of `dim` dimensions."""

    def __init__(
        self,
        dim: int,
        codec: str = DEFAULT_CODEC,
        *,
        k: int | None = None,
        gradient_levels: int = DEFAULT_LEVELS,
        axes: Axes | None = None,
        full: str = FLOAT32,
    ) -> None:
        """`k` of None takes the codec's own base (axes 2, digits 6, selection 10).

        Args:
            axes: for the codec of that name, once the bank's vectors are known.
            full: what level 0 is, "float32" or "int8".

        Raises:
            InvalidInputError: an unknown codec, or parameters it cannot work with.
        """
        kind = CODECS.get(codec)
        if kind is None:
            raise InvalidInputError(f"unknown codec {codec!r}; use one of {', '.join(sorted(CODECS))}")
        base = kind.default_k if k is None else k
        check_base(base, 1)
        check_base(2, gradient_levels)
        self._codec, self._turned = _build(kind, dim, base, gradient_levels, axes, LEAN if full == INT8 else FINE)
        if full not in FULL:
            raise InvalidInputError(f"level 0 is one of {', '.join(FULL)}, not {full!r}")
        self.full, self.dim = full, dim
        sizes = [self.nbytes(level) for level in LEVELS]
        self.spans: Sequence[tuple[int, int]] = [(sum(sizes[:level]), sum(sizes[: level + 1])) for level in LEVELS]
        """Where each level lies within a slot: start and stop."""
        self.slot_bytes = sum(sizes)
        """Bytes of the three levels together."""
        self.codec_name = codec
        self.dtypes = (full, codec, codec)
        """How pointers call the bytes of each level: level 0 by what it is, the others by the codec."""
        self.k = base
        """The base of the digits, or of the gradient's steps."""

    @property
    def axes(self) -> Axes | None:
        """The axes in use; None before there are any, and in codecs that have none."""
        return None if self._turned is None else self._turned.axes

    @property
    def adapts(self) -> bool:
        """Whether the codec takes axes."""
        return self.codec_name == AxesCodec.name

    def corrected(self, rows: Vector) -> Vector:
        """Rows (n, dim) as unit rows of the space that cosines are taken in; raises as `compress`."""
        unit = unit_rows(rows, self.dim)
        return self._codec.corrected(unit)

    def asked(self, query: Vector) -> Vector:
        """A question, (dim,), of unit length in the space that cosines are taken in; computed once for the levels of
        one search."""
        return self._codec.asked(query)

    def axes_holding(self, share: float) -> int:
        """How many leading axes hold this share of the variance; all dimensions where there are no axes."""
        if self.axes is None:
            return self.dim
        held = np.cumsum(np.square(self.axes.spread.astype(np.float64)))
        return min(self.dim, 1 + int(np.searchsorted(held, share * held[-1])))

    def index_rows(self, codes: Codes, count: int) -> Vector:
        """What to index of level 2, float32 (n, count): inner products with `index_query` rank as `score` does.

        `count` is `dim`, or with axes any number of the leading ones.
        """
        with np.errstate(all="ignore"):
            rows = self.decode(codes, 2) if self._turned is None else self._turned.leading(codes, count)
        if not np.isfinite(rows).all():
            # damage: a graph with a row of no distance to others would lose its way
            rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.float32(0))
        return rows

    def index_query(self, query: Vector, count: int) -> Vector:
        """The question, (dim,), as `index_rows` are to be asked, (count,)."""
        return np.ascontiguousarray(self.asked(query)[:count])

    @property
    def tag(self) -> bytes:
        """16 bytes that differ where the spec does."""
        text = json.dumps(self.spec(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()[:16]

    def nbytes(self, level: int) -> int:
        """Bytes of one vector at `level`."""
        return byte_vector_bytes(self.dim) if level == 0 and self.full == INT8 else self._codec.nbytes(level)

    def compress(self, vectors: Vector) -> tuple[Codes, Codes, Codes]:
        """The codes of levels 0, 1 and 2 of rows (n, dim); rows of another length are brought to 1.

        Raises:
            EncodingError: another shape, NaN, infinity or a zero row.
        """
        levels = self._codec.encode(vectors)
        if self.full == INT8:
            return to_bytes(self._codec.decode(levels[0], 0)), *levels[1:]
        return levels

    def slots(self, vectors: Vector) -> Codes:
        """Rows (n, dim) as slots, uint8 (n, slot_bytes); raises as `compress`."""
        return np.concatenate(self.compress(vectors), axis=1)

    def decode(self, codes: Codes, level: int) -> Vector:
        """Unit rows, float32 (n, dim), of codes (n, nbytes(level)); level 0 may be a view of them.

        Those of levels 1 and 2 lie in the corrected space.
        """
        if level == 0 and self.full == INT8:
            return from_bytes(codes, self.dim)
        return self._codec.decode(codes, level)

    def score(self, query: Vector, codes: Codes, level: int) -> Vector:
        """Cosine of `query` (dim,) with each row of codes (n, nbytes(level)), float32 (n,).

        Codes come from a file: what damage made of them is near to nothing, 0.
        """
        if level == 0 and self.full == INT8:
            codes = full_encode(from_bytes(codes, self.dim))
        with np.errstate(all="ignore"):
            scores = self._codec.score(query, codes, level)
        return scores if np.isfinite(scores).all() else np.where(np.isfinite(scores), scores, np.float32(0))

    def full_scores(self, asked: Vector, codes: Codes) -> Vector:
        """Cosines of several questions, (m, dim), as `asked` gives each, with level 0 of many vectors, float32 (m, n);
        0 for what is damaged, as in `score`."""
        with np.errstate(all="ignore"):
            rows = self._codec.corrected(scaled_to_unit(self.decode(codes, 0).copy()))
            scores = asked @ rows.T
        return np.where(np.isfinite(scores), scores, np.float32(0))

    def spec(self) -> dict[str, Any]:
        """What a bank records of its encoding, as plain JSON values."""
        return {
            "format": SPEC_FORMAT,
            "codec": self.codec_name,
            "dim": self.dim,
            **self._codec.params(),
            "k": self.k,
            "bytes": [self.nbytes(level) for level in LEVELS],
            **({} if self.full == FLOAT32 else {"full": self.full}),
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], axes: Axes | None = None) -> HGNSHierarchy:
        """Build the hierarchy that a bank records.

        Args:
            axes: those that the spec names, where it names any.

        Raises:
            BankFormatError: a format, codec or key this version does not know, or values that do not fit.
        """
        if not isinstance(spec, Mapping):
            raise BankFormatError("the bank's encoding is no list of its parameters; use another copy of the bank")
        odd = sorted((set(spec) - {"axes", "full"}) ^ _SPEC_KEYS)
        if spec.get("format") != SPEC_FORMAT or odd:
            raise BankFormatError(
                f"encoding of format {spec.get('format')!r}, this program reads {SPEC_FORMAT}"
                + (f"; unknown or missing: {', '.join(odd)}" if odd else "")
                + "; upgrade membank-llama, or re-encode the bank with `membank reencode`"
            )
        if spec.get("axes") != (None if axes is None else axes.digest):
            raise BankFormatError(
                f"the bank's levels lie along axes {spec.get('axes')}, not along those at hand; "
                "re-encode the bank with `membank reencode`"
            )
        try:
            for key, most in _BOUNDS.items():
                if type(spec[key]) is not int or not 0 < spec[key] <= most:
                    raise InvalidInputError(f"{key} of {str(spec[key])[:40]}, where at most {most} makes sense")
            given = {name: spec[name] for name in ("k", "gradient_levels", "full") if name in spec}
            hierarchy = cls(spec["dim"], spec["codec"], axes=axes, **given)
        except (InvalidInputError, ArithmeticError, TypeError, ValueError, IndexError) as error:
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


def _build(
    kind: type[Codec], dim: int, base: int, gradient_levels: int, axes: Axes | None, fine: int
) -> tuple[Codec, AxesCodec | None]:
    """The codec, and once more where it has axes."""
    if kind is not AxesCodec:
        if axes is not None:
            raise InvalidInputError(f"the {kind.name} codec takes no axes; use {AxesCodec.name}")
        return kind(dim, base, gradient_levels), None
    check_digit(base)
    if axes is None:
        return DigitsCodec(dim, DigitsCodec.default_k, gradient_levels), None
    turned = AxesCodec(dim, base, gradient_levels, axes, fine)
    return turned, turned
