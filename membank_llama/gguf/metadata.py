"""The key-value part of a GGUF in full, arrays too: `gguf_file` keeps only their length, which is all that it needs.

Reads a file that `gguf_file.read_header` has already accepted. Every count in it is still held against what the file
has left, so that a file that was exchanged meanwhile cannot make one wait or fill the memory.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

from membank_llama.core.errors import ModelFileError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOAT, _STRING, _ARRAY = 6, 8, 9
_DIGITS = 9


def read_metadata(path: Path, *, arrays: bool) -> dict[str, Any]:
    """All keys of a file, as JSON can hold them; an array is a list, or None unless `arrays`.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data, arrays).all()
    except (OSError, ValueError, struct.error, IndexError) as error:
        raise ModelFileError(f"{path} cannot be read as a model: {error}; download it again") from error


class _Reader:
    """Walks over the bytes of the header; never past the end."""

    def __init__(self, data: mmap.mmap, arrays: bool) -> None:
        self.data = data
        self.arrays = arrays
        self.at = 16

    def all(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(self.scalar("Q")):
            key = self.text()
            found[key] = self.value(self.scalar("I"))
        return found

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def skip(self, size: int) -> int:
        """The place before the step."""
        start = self.at
        if size > len(self.data) - start:
            raise IndexError(f"{size} bytes wanted, {len(self.data) - start} left")
        self.at += size
        return start

    def text(self) -> str:
        size = self.scalar("Q")
        start = self.skip(size)
        return self.data[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.array()
        return _plain(kind, self.scalar(_SCALARS[kind]))

    def array(self) -> list[Any] | None:
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind == _STRING:
            texts = []
            for _ in range(count):
                size = self.scalar("Q")
                start = self.skip(size)
                if self.arrays:
                    texts.append(self.data[start : self.at].decode("utf-8", "replace"))
            return texts if self.arrays else None
        code = _SCALARS[kind]
        start = self.skip(count * struct.calcsize("<" + code))
        if not self.arrays:
            return None
        return [_plain(kind, value) for value in struct.unpack_from(f"<{count}{code}", self.data, start)]


def _plain(kind: int, value: Any) -> Any:
    """A number as JSON has it: the shortest spelling of a float of 32 bits, and none for what is no number."""
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
