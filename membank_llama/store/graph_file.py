"""Whether a saved graph can be given to hnswlib.

hnswlib believes what a file says: an entry point, a link or an offset that leads beyond it ends the process, and a
checksum is no help where a stranger wrote it. So the file is read once and every number that hnswlib would follow is
held against what it can be. A graph that passes may find poor neighbours; it cannot lead out of itself. (The other way
would be a key of this machine's over the file: it would refuse every bank that was copied, and in a container, where
no key outlives the day, make the index anew at every start.)

    bytes       field (hnswlib 0.8, little-endian)
    0–47        u64 offset of level 0, room, elements, bytes an element, offset of the label, offset of the vector
    48–55       i32 highest level, u32 entry point
    56–95       u64 links a level, links at level 0, M; f64 level factor; u64 width of construction
    96–         elements: u16 links, u8 removed, u8 0, links, float32 vector, u64 label
    then        for each element u32 bytes of its upper levels, and for each of these u32 links, links
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import BankCorruptError

from .bank_files import open_plain

_HEAD = struct.Struct("<6QiI3QdQ")
_PIECE = 1 << 22
_MOST_LINKS = 256
_MOST_WIDTH = 1 << 16
_LARGEST = 1e15
"""No component of a vector is larger; products of two are finite."""

_MARK_AT, _REMOVED = 2, b"\x01"
"""Where in an element's links hnswlib notes that it is removed, and how."""

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class GraphFacts:
    """What a checked file holds: labels, shape ``(n,)``, which of them are removed, M, and the file's CRC-32."""

    labels: npt.NDArray[np.int64]
    removed: npt.NDArray[np.bool_]
    links: int
    crc32: int


def checked_graph(path: Path, dim: int) -> GraphFacts:
    """Read a graph of vectors of `dim` dimensions and check all that hnswlib would follow.

    Raises:
        BankCorruptError: it is none, or leads out of itself.
        OSError: it cannot be read.
    """
    with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
        return _Graph(path, file, dim).read()


def blank_vectors(path: Path, labels: Iterable[int]) -> int:
    """Mark labels as removed and overwrite their vectors with zeros, down to the disk; returns how many the file holds.

    The file's labels must rise, as those of a graph do that was filled in order.

    Raises:
        BankCorruptError: the file is no saved graph.
        OSError: the system refused.
    """
    with os.fdopen(open_plain(path, os.O_RDWR), "r+b") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise BankCorruptError(f"{path} is cut")
        links_at, _, count, each, label_at, vector_at, *_ = _HEAD.unpack(head)
        room = os.fstat(file.fileno()).st_size - _HEAD.size
        if not (links_at + _MARK_AT < vector_at < label_at and label_at + 8 <= each and 0 < count <= room // each):
            raise BankCorruptError(f"{path} is damaged")
        elements = np.memmap(path, np.uint8, "r", _HEAD.size, (count, each))
        held = elements[:, label_at : label_at + 8].view("<u8")[:, 0]
        blanked = 0
        for label in labels:
            row = bisect_left(held, label)
            if row < count and int(held[row]) == label:
                for at, data in ((links_at + _MARK_AT, _REMOVED), (vector_at, bytes(label_at - vector_at))):
                    file.seek(_HEAD.size + row * each + at)
                    file.write(data)
                blanked += 1
        file.flush()
        os.fsync(file.fileno())
    return blanked


class _Graph:
    def __init__(self, path: Path, file: IO[bytes], dim: int) -> None:
        self._path = path
        self._file = file
        self._dim = dim
        self._crc = 0
        self._size = os.fstat(file.fileno()).st_size

    def read(self) -> GraphFacts:
        head = self._take(_HEAD.size)
        (_, _, count, each, _, _, top, entry, _, _, links, _, _) = values = _HEAD.unpack(head)
        self._check_head(values)
        labels = np.empty(count, np.int64)
        removed = np.empty(count, np.bool_)
        step = max(1, _PIECE // each)
        for start in range(0, count, step):
            stop = min(count, start + step)
            self._elements(self._take((stop - start) * each), count, links, labels[start:stop], removed[start:stop])
        if count != len(np.unique(labels)) or int(labels.min()) < 1:
            self._refuse("labels that are none or come twice")
        levels = self._upper(self._take(self._size - _HEAD.size - count * each), count, links)
        if int(levels[entry]) != top or int(levels.max()) != top:
            self._refuse("an entry point that is not at the top")
        return GraphFacts(labels, removed, links, self._crc)

    def _check_head(self, values: tuple[int | float, ...]) -> None:
        start, _, count, each, label, vector, top, entry, most, most_below, links, factor, width = values
        below = 4 + 8 * links
        fits = (
            2 <= links <= _MOST_LINKS
            and (start, most, most_below) == (0, links, 2 * links)
            and (vector, label, each) == (below, below + 4 * self._dim, below + 4 * self._dim + 8)
            and 1 <= width <= _MOST_WIDTH
            and math.isclose(factor, 1 / math.log(links), rel_tol=1e-9)
        )
        if not fits:
            self._refuse("a header that is not that of such a graph")
        # every element has four bytes more behind them all
        if not 1 <= count <= (self._size - _HEAD.size) // (each + 4) or not (0 <= entry < count and 0 <= top < 64):
            self._refuse("another number of elements than it says")

    def _elements(
        self, data: bytes, count: int, links: int, labels: npt.NDArray[np.int64], removed: npt.NDArray[np.bool_]
    ) -> None:
        words: Words = np.frombuffer(data, "<u4").reshape(len(labels), -1)
        heads, lists = words[:, 0], words[:, 1 : 1 + 2 * links]
        self._check_lists(heads & 0xFFFF, lists, count, 2 * links)
        if (heads >> 17).any():
            self._refuse("marks that mean nothing")
        vectors = words[:, 1 + 2 * links : -2].view(np.float32)
        if not (np.abs(vectors) <= _LARGEST).all():
            self._refuse("vectors that are none")
        removed[:] = (heads >> 16) & 1
        labels[:] = np.ascontiguousarray(words[:, -2:]).view("<i8")[:, 0]

    def _check_lists(self, counts: npt.NDArray[Any], lists: Words, count: int, most: int) -> npt.NDArray[np.bool_]:
        """Which entries of the lists are in use; all of them lead to an element."""
        used: npt.NDArray[np.bool_] = np.arange(most) < counts[:, np.newaxis]
        if (counts > most).any() or (lists[used] >= count).any():
            self._refuse("links that lead nowhere")
        return used

    def _upper(self, data: bytes, count: int, links: int) -> npt.NDArray[np.int64]:
        """The level of each element; the links of levels above 0 are checked."""
        if len(data) % 4:
            self._refuse("upper levels that end too early")
        words: Words = np.frombuffer(data, "<u4")
        each = 1 + links
        levels = np.zeros(count, np.int64)
        filled = np.flatnonzero(words)
        starts: list[int] = []
        owners: list[int] = []
        at = number = 0
        while number < count:
            # most elements are at level 0 alone and are a zero each: on to the next that is not
            place = int(np.searchsorted(filled, at))
            skip = (int(filled[place]) if place < len(filled) else len(words)) - at
            number, at = number + skip, at + skip
            if number >= count or at >= len(words):
                break
            high, rest = divmod(int(words[at]), 4 * each)
            if rest or high >= 64 or at + 1 + high * each > len(words):
                self._refuse("upper levels that do not fit")
            levels[number] = high
            starts += range(at + 1, at + 1 + high * each, each)
            owners += [number] * high
            number, at = number + 1, at + 1 + high * each
        if number != count or at != len(words):
            self._refuse("other upper levels than elements")
        if starts:
            self._check_upper(words, np.array(starts), np.array(owners), levels, links)
        return levels

    def _check_upper(
        self,
        words: Words,
        starts: npt.NDArray[np.int64],
        owners: npt.NDArray[np.int64],
        levels: npt.NDArray[np.int64],
        links: int,
    ) -> None:
        counts = words[starts]
        lists = words[starts[:, np.newaxis] + np.arange(1, 1 + links)]
        used = self._check_lists(counts, lists, len(levels), links)
        # an element's own lists follow one another, from level 1 up
        height = 1 + np.arange(len(owners)) - np.searchsorted(owners, owners)
        if (levels[lists[used]] < np.broadcast_to(height[:, np.newaxis], lists.shape)[used]).any():
            self._refuse("links to elements that are not so high")

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            self._refuse("less than it says")
        self._crc = zlib.crc32(data, self._crc)
        return data

    def _refuse(self, what: str) -> NoReturn:
        raise BankCorruptError(f"{self._path} is damaged: it holds {what}")
