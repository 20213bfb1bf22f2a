"""Reads the head of a GGUF file: enough to refuse a damaged one and to know a good one again.

llama.cpp tells the log, not the caller, what is wrong with a file, and older versions abort the process on
some damage. So the header is read here first, bounds-checked and without any native code; whatever passes
has a complete tensor table and all of its tensor data. The fingerprint is taken from what determines the
vectors (architecture, tensor table, samples of the tensor bytes), never from the name or the date of the
file.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from membank_llama.core.errors import ModelFileError

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
_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")
_MAX_DIMS = 4
_BLOCK = 4096
_BLOCKS = 16
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
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


def read_header(path: str | Path) -> GGUFHeader:
    """Read and check the head of a GGUF file.

    Raises:
        ModelFileError: the file is missing, no GGUF, of an unknown version, damaged or cut short.
    """
    path = Path(path)
    with _mapped(path) as data:
        try:
            return _parse(path, data)
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
            raise ModelFileError(f"{path} ends or breaks within its header ({error}); {_AGAIN}") from error


def fingerprint(path: str | Path) -> str:
    """64 hex digits that name the model: sha256 over its settings, tensor table and sampled tensor bytes.

    Reads a few hundred KiB, however large the file is. All parts of a split model are taken in. The chat
    template, the name and other descriptions do not count: they change no vector.
    """
    digest = hashlib.sha256()
    for part in parts_of(Path(path)):
        header = read_header(part)
        digest.update(repr((header.architecture, sorted(_settings(header)))).encode())
        for tensor in header.tensors:
            digest.update(f"\n{tensor.name} {tensor.shape} {tensor.type}".encode())
        with _mapped(part) as data:
            for start, end in _samples(header):
                digest.update(data[start:end])
    return digest.hexdigest()


def _settings(header: GGUFHeader) -> Iterator[tuple[str, str]]:
    """What beside the tensors decides about the vectors: hyperparameters, and how text becomes tokens."""
    for key, value in header.metadata.items():
        room, _, name = key.rpartition(".")
        if room == "tokenizer.ggml":
            counts = name in ("model", "pre") or name.startswith("add_")
        else:
            counts = room.split(".")[0] == header.architecture and name not in ("context_length", "vocab_size")
        if counts:
            yield key, repr(value)


def parts_of(path: Path) -> list[Path]:
    """The files that a model lies in: itself, or all parts of a split one."""
    found = _SPLIT.search(path.name)
    if found is None:
        return [path]
    stem, count = path.name[: found.start()], int(found[2])
    return [path.with_name(f"{stem}-{n:05d}-of-{count:05d}.gguf") for n in range(1, count + 1)]


def _samples(header: GGUFHeader) -> Iterator[tuple[int, int]]:
    """Byte ranges to hash: evenly spread blocks, and both ends of some tensors."""
    first, last = header.data_start, header.file_size
    for n in range(_BLOCKS):
        start = first + (last - first - _BLOCK) * n // (_BLOCKS - 1)
        yield max(first, start), min(last, max(first, start) + _BLOCK)
    every = max(1, len(header.tensors) // 64)
    for tensor in header.tensors[::every]:
        end = tensor.offset + tensor.nbytes
        yield tensor.offset, min(tensor.offset + 256, last)
        yield max(tensor.offset, end - 256), end


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
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

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0
        self.size = len(data)

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def skip(self, count: int) -> None:
        if count > self.size - self.at:
            raise IndexError(f"{count} bytes wanted, {self.size - self.at} left")
        self.at += count

    def text(self) -> str:
        length = self.take("Q")
        start = self.at
        self.skip(length)
        return self.data[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise IndexError(f"unknown value type {kind}")
        return self.take(_SCALARS[kind])

    def array(self) -> ArrayLength:
        kind, count = self.take("I"), self.take("Q")
        if kind == _STRING:
            unpack, at = _LENGTH.unpack_from, self.at
            for _ in range(count):
                at += 8 + unpack(self.data, at)[0]
            self.skip(at - self.at)
        elif kind in _SCALARS:
            self.skip(count * struct.calcsize("<" + _SCALARS[kind]))
        else:
            raise IndexError(f"unknown array type {kind}")
        return ArrayLength(count)

    def strings(self) -> list[bytes]:
        """The values of an array of strings; none of another array."""
        kind, count = self.take("I"), self.take("Q")
        found: list[bytes] = []
        for _ in range(count if kind == _STRING else 0):
            length = self.take("Q")
            start = self.at
            self.skip(length)
            found.append(self.data[start : self.at])
        return found


def read_strings(path: Path, wanted: str) -> list[bytes]:
    """The array of strings under a key of a file whose header has been read; empty where there is none."""
    with _mapped(path) as data:
        cursor = _Cursor(data)
        cursor.skip(16)
        try:
            for _ in range(cursor.take("Q")):
                key, kind = cursor.text(), cursor.take("I")
                if key == wanted:
                    return cursor.strings() if kind == _ARRAY else []
                cursor.value(kind)
        except (struct.error, IndexError, OverflowError) as error:
            raise ModelFileError(f"{path} was changed while it was read ({error}); try again") from error
    return []


def _parse(path: Path, data: mmap.mmap) -> GGUFHeader:
    if data[:4] != b"GGUF":
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
    return GGUFHeader(path, version, metadata, tensors, min(start, len(data)), len(data))


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
