"""Reads the head of a GGUF file: what it says of the model, and whether the file is whole.

llama.cpp tells the log, not the caller, what is wrong with a file, and older versions abort the process on
some damage. So the header is read here first, bounds-checked and without any native code; whatever passes
has a complete tensor table and all of its tensor data. `read_header` keeps only the length of an array, as a
vocabulary takes long to read and a lot of memory; `read_metadata` and `read_strings` read arrays too.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from membank_llama.core.errors import ModelFileError, ModelNotFoundError

# ggml type -> (values in a block, bytes of a block); a type that is not here is checked by its offset alone
_TYPES = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
# GGUF value type -> struct code; 8 is a string, 9 an array
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOAT, _STRING, _ARRAY = 6, 8, 9
_LENGTH = struct.Struct("<Q")
_MAGIC = b"GGUF"
_METADATA_AT = 16
_DIGITS = 9
_MAX_DIMS = 4
_AGAIN = "download it again, or copy it again from where it came"


class ArrayLength(int):
    """What stands in a header's metadata in the place of an array: how many values it has."""


@dataclass(frozen=True)
class TensorInfo:
    """One row of the tensor table; `offset` counts from the start of the file, `nbytes` is 0 if unknown."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class GGUFHeader:
    """What the head of the file says. `metadata` holds scalars and strings; of an array, only its length."""

    path: Path
    version: int
    metadata: dict[str, Any]
    tensors: tuple[TensorInfo, ...]
    data_start: int
    file_size: int

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))


def checked_gguf(path: Path) -> Path:
    """The path itself, when a file that begins as a GGUF does is there.

    Raises:
        ModelNotFoundError, ModelFileError: there is none, or it is something else.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"there is no file {path}; check the path") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}; check its owner and mode") from error
    if magic != _MAGIC:
        raise ModelFileError(
            f"{path} is not a GGUF file (it begins with {magic!r}); convert the model with llama.cpp's "
            "convert_hf_to_gguf.py, or download a .gguf"
        )
    return path


def file_state(path: Path) -> tuple[Path, int, int]:
    """A file with its date and size: what was read from it is good for as long as these stay.

    Raises:
        ModelFileError: there is no such file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ModelFileError(f"there is no model file at {path}; check the path") from error
    return path, status.st_mtime_ns, status.st_size


def read_header(path: str | Path) -> GGUFHeader:
    """Read and check the head of a GGUF file.

    Raises:
        ModelFileError: the file is missing, no GGUF, of an unknown version, damaged or cut short.
    """
    path = Path(path)
    with mapped(path) as data:
        try:
            return _parse(path, data)
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
            raise ModelFileError(f"{path} ends or breaks within its header ({error}); {_AGAIN}") from error


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file's bytes, as far as they are looked at.

    Raises:
        ModelFileError: it is missing, a directory, empty, or cannot be read.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except FileNotFoundError as error:
        raise ModelFileError(f"there is no model file at {path}; check the path") from error
    except IsADirectoryError as error:
        raise ModelFileError(f"{path} is a directory; name the .gguf file in it") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error
    except ValueError as error:  # mmap of nothing
        raise ModelFileError(f"{path} cannot be read as a model: {error}; {_AGAIN}") from error


class _Cursor:
    """Walks over the bytes of the header; never past the end."""

    def __init__(self, data: mmap.mmap, at: int = 0) -> None:
        self.data = data
        self.at = at
        self.size = len(data)

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def skip(self, count: int) -> int:
        """Go on by so many bytes; returns the place before the step."""
        start = self.at
        if count > self.size - start:
            raise IndexError(f"{count} bytes wanted, {self.size - start} left")
        self.at += count
        return start

    def string(self) -> bytes:
        length = self.take("Q")
        start = self.skip(length)
        return self.data[start : self.at]

    def text(self) -> str:
        return self.string().decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """A value of the metadata: a scalar, a text, or the length of an array, which is skipped."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.skip_array()
        return self.take(_code(kind))

    def skip_array(self) -> ArrayLength:
        kind, count = self.take("I"), self.take("Q")
        if kind == _STRING:
            unpack, at = _LENGTH.unpack_from, self.at
            for _ in range(count):
                at += 8 + unpack(self.data, at)[0]
            self.skip(at - self.at)
        else:
            self.skip(count * struct.calcsize("<" + _code(kind)))
        return ArrayLength(count)

    def array(self) -> tuple[int, list[Any]]:
        """The type of an array's values, and all of them; strings as bytes."""
        kind, count = self.take("I"), self.take("Q")
        if kind == _STRING:
            return kind, [self.string() for _ in range(count)]
        code = _code(kind)
        start = self.skip(count * struct.calcsize("<" + code))
        return kind, list(struct.unpack_from(f"<{count}{code}", self.data, start))


def _code(kind: int) -> str:
    if kind not in _SCALARS:
        raise IndexError(f"unknown value type {kind}")
    return _SCALARS[kind]


@contextmanager
def _metadata_of(path: Path) -> Iterator[Iterator[tuple[str, int, _Cursor]]]:
    """Key and type of each value, with the cursor before it, of a file whose header was read already."""

    def keys(cursor: _Cursor) -> Iterator[tuple[str, int, _Cursor]]:
        for _ in range(cursor.take("Q")):
            yield cursor.text(), cursor.take("I"), cursor

    with mapped(path) as data:
        try:
            yield keys(_Cursor(data, _METADATA_AT))
        except (struct.error, IndexError, OverflowError) as error:
            raise ModelFileError(f"{path} was changed while it was read ({error}); try again") from error


def read_strings(path: Path, wanted: str) -> list[bytes]:
    """The array of strings under a key of a file whose header has been read; empty where there is none."""
    with _metadata_of(path) as keys:
        for key, kind, cursor in keys:
            if key == wanted:
                inner, values = cursor.array() if kind == _ARRAY else (kind, [])
                return values if inner == _STRING else []
            cursor.value(kind)
    return []


def read_metadata(path: Path, *, arrays: bool) -> dict[str, Any]:
    """All keys of a file whose header has been read, as JSON can hold them; an array is None unless `arrays`.

    Raises:
        ModelFileError: it cannot be read.
    """
    found: dict[str, Any] = {}
    with _metadata_of(path) as keys:
        for key, kind, cursor in keys:
            if kind != _ARRAY:
                found[key] = _as_json(kind, cursor.value(kind))
            elif arrays:
                inner, values = cursor.array()
                found[key] = [_as_json(inner, value) for value in values]
            else:
                cursor.skip_array()
                found[key] = None
    return found


def _as_json(kind: int, value: Any) -> Any:
    """A value as JSON has it: the shortest spelling of a float of 32 bits, and none for what is no number."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    if value.is_integer() and abs(value) < 2**53:
        return int(value)
    if kind != _FLOAT:
        return value
    for digits in range(1, _DIGITS):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return value


def _parse(path: Path, data: mmap.mmap) -> GGUFHeader:
    if data[:4] != _MAGIC:
        raise ModelFileError(
            f"{path} is not a GGUF file (it starts with {bytes(data[:4])!r}); "
            "give a .gguf model, or convert it with llama.cpp's convert_hf_to_gguf.py"
        )
    cursor = _Cursor(data)
    cursor.skip(4)
    version = cursor.take("I")
    if version not in (2, 3):
        raise ModelFileError(f"{path} is GGUF version {version}; versions 2 and 3 can be read, convert it again")
    n_tensors, n_values = cursor.take("Q"), cursor.take("Q")
    metadata = {}
    for _ in range(n_values):
        key = cursor.text()
        if not key or key in metadata:
            raise IndexError(f"key {key[:64]!r} is empty or there twice")
        metadata[key] = cursor.value(cursor.take("I"))
    rows = [_tensor(cursor) for _ in range(n_tensors)]
    align = metadata.get("general.alignment", 32)
    if not isinstance(align, int) or align < 1 or align & (align - 1):
        raise ModelFileError(f"{path} has an impossible alignment of {align!r}; {_AGAIN}")
    start = -(-cursor.at // align) * align
    tensors = tuple(TensorInfo(t.name, t.shape, t.type, t.offset + start, t.nbytes) for t in rows)
    _check_complete(path, tensors, len(data))
    return GGUFHeader(
        path=path,
        version=version,
        metadata=metadata,
        tensors=tensors,
        data_start=min(start, len(data)),
        file_size=len(data),
    )


def _tensor(cursor: _Cursor) -> TensorInfo:
    name, n_dims = cursor.text(), cursor.take("I")
    if not name or n_dims > _MAX_DIMS:
        raise IndexError(f"tensor {name[:64]!r} has {n_dims} dimensions")
    shape = tuple(int(cursor.take("Q")) for _ in range(n_dims))
    kind, offset = cursor.take("I"), cursor.take("Q")
    block, size = _TYPES.get(kind, (1, 0))
    count = 1
    for side in shape:
        count *= side
    return TensorInfo(name, shape, kind, offset, count // block * size)


def _check_complete(path: Path, tensors: tuple[TensorInfo, ...], size: int) -> None:
    if not tensors:
        raise ModelFileError(f"{path} holds no tensors (a vocabulary alone?); give a complete model")
    end = max(t.offset + t.nbytes for t in tensors)
    if end > size:
        raise ModelFileError(f"{path} is cut short: its tensors need {end:,} bytes, the file has {size:,}; {_AGAIN}")
