"""`PointerRecord`: what it takes to find one level of one stored activation, in exactly 64 bytes.

A pointer is content-addressed: its name is the SHA-256 of the encoded bytes, so equal activations have
equal pointers and damaged bytes betray themselves. All numbers are little-endian:

    bytes   field     meaning
    0–31    digest    SHA-256 of the level's bytes
    32–39   offset    u64, position of those bytes in the activation file
    40–47   model     first 8 bytes of the SHA-256 of the model's id
    48–51   dims      u32, dimensions of the vector that was encoded
    52–55   nbytes    u32, length of the level's bytes
    56–57   flags     u16, none defined yet
    58      level     u8, 0 (full), 1 or 2 (coarse)
    59      dtype     u8, 1 float32, 2 digits, 3 selection, 4 axes, 5 tokens, 6 int8
    60–61   version   u16, 1
    62–63   –         zero
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from membank_llama.core.errors import BankCorruptError, InvalidInputError
from membank_llama.core.types import LEVELS, Codes
from membank_llama.hgns.hierarchy import HGNSHierarchy

POINTER_BYTES = 64
POINTER_VERSION = 1
MOST_UNPACKED = 8192
"""Pointers that are kept as they were read."""

_LAYOUT = struct.Struct("<32sQ8sIIHBBHH")
_DTYPES = {"float32": 1, "digits": 2, "selection": 3, "axes": 4, "tokens": 5, "int8": 6}
_DTYPE_NAMES = {code: name for name, code in _DTYPES.items()}


def model_tag(model_id: str) -> bytes:
    """The 8 bytes by which a pointer knows its model."""
    return hashlib.sha256(model_id.encode()).digest()[:8]


@dataclass(frozen=True)
class PointerRecord:
    """A pointer to the bytes of one level; `dtype` is "float32", "digits", "selection", "axes", "tokens" or "int8"."""

    digest: bytes
    offset: int
    dims: int
    dtype: str
    level: int
    model: bytes
    nbytes: int
    flags: int = 0

    @classmethod
    def of(
        cls, row: Codes, *, offset: int, dims: int, dtype: str, level: int, model_id: str, flags: int = 0
    ) -> PointerRecord:
        """Point at `row` (uint8, 1-D), which lies at byte `offset` of the activation file.

        Raises:
            InvalidInputError: an unknown dtype or level, or a number that does not fit its field.
        """
        data = _bytes_of(row)
        record = cls(
            digest=hashlib.sha256(data.data).digest(),
            offset=offset,
            dims=dims,
            dtype=dtype,
            level=level,
            model=model_tag(model_id),
            nbytes=data.nbytes,
            flags=flags,
        )
        record.pack()
        return record

    @property
    def ptr_id(self) -> str:
        """The pointer's name: the digest in 64 hexadecimal digits."""
        return self.digest.hex()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the decoded vector."""
        return (self.dims,)

    def matches(self, row: Codes) -> bool:
        """Whether `row` (uint8, 1-D) still is what was pointed at."""
        data = _bytes_of(row)
        return data.nbytes == self.nbytes and hashlib.sha256(data.data).digest() == self.digest

    def pack(self) -> bytes:
        """The record as 64 bytes.

        Raises:
            InvalidInputError: a field does not fit.
        """
        code = _check(self.dtype, self.level)
        try:
            return _LAYOUT.pack(
                _exactly(self.digest, 32, "digest"), self.offset, _exactly(self.model, 8, "model"),
                self.dims, self.nbytes, self.flags, self.level, code, POINTER_VERSION, 0,
            )  # fmt: skip
        except struct.error as error:
            raise InvalidInputError(f"pointer field out of range: {error}; see the table in pointers.py") from error

    @classmethod
    def unpack(cls, data: bytes) -> PointerRecord:
        """Read a record back.

        Raises:
            BankCorruptError: not 64 bytes, another version, or a field without meaning.
        """
        return _unpacked(data)


def pack_many(
    rows: Codes, offsets: Iterable[int], *, dims: int, dtype: str, level: int, model_id: str, flags: int = 0
) -> list[bytes]:
    """Pack the pointers of one level of a batch: the same bytes as `PointerRecord.of(...).pack()`, faster.

    Args:
        rows: uint8, shape (n, nbytes), one level's codes.
        offsets: n byte positions in the activation file.

    Returns:
        n records of 64 bytes; the first 32 of each are its digest.

    Raises:
        InvalidInputError: as `PointerRecord.of`, or the counts differ.
    """
    code, model = _check(dtype, level), model_tag(model_id)
    data = np.ascontiguousarray(rows, np.uint8)
    if data.ndim != 2:
        raise InvalidInputError(f"rows must have shape (n, nbytes), got {data.shape}")
    nbytes, sha, pack = data.shape[1], hashlib.sha256, _LAYOUT.pack
    try:
        records = [
            pack(sha(row.data).digest(), offset, model, dims, nbytes, flags, level, code, POINTER_VERSION, 0)
            for row, offset in zip(data, offsets, strict=True)
        ]
    except struct.error as error:
        raise InvalidInputError(f"pointer field out of range: {error}; see the table in pointers.py") from error
    except ValueError as error:
        raise InvalidInputError(f"{len(data)} rows need as many offsets: {error}") from error
    return records


def unpack_many(records: Iterable[bytes]) -> list[PointerRecord]:
    """`PointerRecord.unpack` of each, and as it raises."""
    return list(map(_unpacked, records))


@lru_cache(maxsize=MOST_UNPACKED)
def _unpacked(data: bytes) -> PointerRecord:
    if not isinstance(data, bytes) or len(data) != POINTER_BYTES:
        raise BankCorruptError(f"a pointer is {POINTER_BYTES} bytes, got {str(data)[:20]!r}; run `membank verify`")
    digest, offset, model, dims, nbytes, flags, level, code, version, zero = _LAYOUT.unpack(data)
    if version != POINTER_VERSION:
        raise BankCorruptError(
            f"pointer of version {version}, this program reads {POINTER_VERSION}; "
            "upgrade membank-llama, or run `membank verify` if the bank is not newer"
        )
    dtype = _DTYPE_NAMES.get(code)
    if dtype is None or level not in LEVELS or zero != 0:
        raise BankCorruptError(
            f"pointer with dtype {code}, level {level}, padding {zero} is damaged; run `membank verify`"
        )
    return PointerRecord(
        digest=digest,
        offset=offset,
        dims=dims,
        dtype=dtype,
        level=level,
        model=model,
        nbytes=nbytes,
        flags=flags,
    )


def pack_levels(levels: Sequence[Codes], hierarchy: HGNSHierarchy, model_id: str) -> list[tuple[bytes, ...]]:
    """Packed pointers of the levels of n vectors, one tuple a vector, their offsets still 0."""
    nowhere = [0] * len(levels[0])
    packed = [
        pack_many(codes, nowhere, dims=hierarchy.dim, dtype=hierarchy.dtypes[level], level=level, model_id=model_id)
        for level, codes in enumerate(levels)
    ]
    return list(zip(*packed, strict=True))


def placed_at(records: Sequence[bytes], starts: Sequence[int], base: int) -> tuple[bytes, ...]:
    """The same pointers, to bytes that begin `base` after `starts`, one a level."""
    return tuple(relocate(record, base + start) for record, start in zip(records, starts, strict=True))


def relocate(record: bytes, offset: int) -> bytes:
    """The same packed pointer to the same bytes at another place in the file."""
    return record[:32] + offset.to_bytes(8, "little") + record[40:]


def _check(dtype: str, level: int) -> int:
    if dtype not in _DTYPES:
        raise InvalidInputError(f"unknown pointer dtype {dtype!r}; use one of {', '.join(_DTYPES)}")
    if level not in LEVELS:
        raise InvalidInputError(f"unknown level {level!r}; use 0, 1 or 2")
    return _DTYPES[dtype]


def _exactly(value: bytes, size: int, name: str) -> bytes:
    # struct pads or cuts byte strings without a word
    if len(value) != size:
        raise InvalidInputError(f"pointer {name} must be {size} bytes, got {len(value)}")
    return value


def _bytes_of(row: Codes) -> Codes:
    if row.dtype != np.uint8 or row.ndim != 1:
        raise InvalidInputError(f"a level's bytes must be a 1-D uint8 array, got {row.dtype} {row.shape}")
    return np.ascontiguousarray(row)
