"""`CopiedVectors`: the copy of a file of vectors, which follows what is written to the file.

Which bytes stand for what is for the registry to know: the rows whose names are others than when the copy was last
brought up to date are copied again.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..bank_files import HEADER_BYTES, open_plain
from ..registry import Registry
from ..token_runs import TOKENS

SLOTS = "SELECT slot, 1, substr(digest, 1, 8) FROM pointers WHERE ref_count > 0 ORDER BY slot"
RUNS = f"SELECT first, count, substr(pointer, 1, 8) FROM {TOKENS} WHERE count > 0 ORDER BY first"
"""First row, how many, and the name of what they hold, of everything in a file that is in use."""

MOST_ROWS = 4096
_SLOT_BYTES = struct.Struct("<12xI")

Names = npt.NDArray[np.int64]


class CopiedVectors:
    """One file of a bank, and its copy, which somebody makes after this: it knows what the file held before.

    Args:
        rows: `SLOTS` or `RUNS`.
    """

    def __init__(self, registry: Registry, source: Path, target: Path, rows: str) -> None:
        self._registry = registry
        self.source = source
        self.target = target
        self._rows = rows
        self._known = self._names()

    def _names(self) -> Names:
        """(first row, count, the beginning of the name as a number) of everything, in order of the first row."""
        found = [
            (first, count, int.from_bytes(name, "little", signed=True))
            for first, count, name in self._registry.rows(self._rows)
            if isinstance(first, int) and isinstance(count, int) and isinstance(name, bytes)
        ]
        return np.array(found, np.int64).reshape(-1, 3)

    def follow(self) -> None:
        """Copy again what stands for something else than before; raises OSError.

        To be called within `registry.snapshot()`.
        """
        now = self._names()
        known = set(map(bytes, np.ascontiguousarray(self._known)))
        changed = [row for row in now if bytes(row) not in known]
        self._known = now
        if not changed:
            return
        reading = os.fdopen(open_plain(self.source, os.O_RDONLY), "rb", buffering=0)
        writing = os.fdopen(open_plain(self.target, os.O_WRONLY), "wb", buffering=0)
        with reading, writing:
            (slot_bytes,) = _SLOT_BYTES.unpack(reading.read(_SLOT_BYTES.size))
            for first, count in _joined(changed):
                reading.seek(HEADER_BYTES + first * slot_bytes)
                writing.seek(HEADER_BYTES + first * slot_bytes)
                left = count * slot_bytes
                while left and (data := reading.read(min(left, MOST_ROWS * slot_bytes))):
                    writing.write(data)
                    left -= len(data)
            os.fsync(writing.fileno())


def _joined(rows: list[Names]) -> list[tuple[int, int]]:
    """Runs of rows that touch, as one each: (first, count)."""
    joined: list[list[int]] = []
    for first, count, _ in (map(int, row) for row in rows):
        if joined and joined[-1][0] + joined[-1][1] == first:
            joined[-1][1] += count
        else:
            joined.append([first, count])
    return [(first, count) for first, count in joined]
