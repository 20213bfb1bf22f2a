"""`Shelf`: the pieces of one directory, as they were last seen and as they are about to be."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from membank_llama.core.errors import BankCorruptError

from .cover import ByPrefix
from .piece import StoredPiece

_OWNER = re.compile(r"\A[0-9a-f]{24}\Z")
_FILE = re.compile(r"\A\d{8}-\d{8}-[0-9a-f]{32}\.kv\Z")
_DRAFT = re.compile(r"\A\.\d{8}-\d{8}-[0-9a-f]{32}\.kv-\w{1,32}\Z")


class Shelf:
    """Knows what lies in a directory, and looks again where something was put there or taken away.

    Args:
        directory: where the files are; it need not be there.
        read: a file's piece; raises BankCorruptError where it is none that belongs here.
    """

    def __init__(self, directory: Path, read: Callable[[Path], StoredPiece]) -> None:
        self._directory = directory
        self._read = read
        self._seen = -1
        self._pieces: dict[str, StoredPiece] = {}
        self.by_prefix: ByPrefix = {}

    def look(self) -> Shelf:
        """Bring it up to date."""
        try:
            stamp = self._directory.lstat().st_mtime_ns
        except OSError:
            stamp = 0
        if stamp == self._seen:
            return self
        known = self._pieces
        found = {one.path.name: one for one in self.waiting()}
        for path in piece_files(self._directory):
            if path.name in known and known[path.name].waiting is None:
                found[path.name] = known[path.name]
                continue
            with suppress(BankCorruptError):
                found[path.name] = self._read(path)
        self._seen, self._pieces = stamp, found
        self._index()
        return self

    def waiting(self) -> list[StoredPiece]:
        """The pieces on their way into files."""
        return [one for one in self._pieces.values() if one.waiting is not None]

    def paths(self, ids: Iterable[str]) -> list[Path]:
        """The files of some pieces, by their ids."""
        found = {one.piece.id: one.path for one in self._pieces.values()}
        return [found[one] for one in ids if one in found]

    def put(self, stored: StoredPiece) -> None:
        """There is this piece now, in the place of one of the same name."""
        self._pieces[stored.path.name] = stored
        self._index()

    def remove(self, name: str) -> None:
        """There is none of this name any more."""
        if self._pieces.pop(name, None) is not None:
            self._index()

    def _index(self) -> None:
        by_prefix: dict[int, dict[bytes, list[StoredPiece]]] = {}
        for stored in self._pieces.values():
            piece = stored.piece
            by_prefix.setdefault(piece.start, {}).setdefault(piece.prefix, []).append(stored)
        self.by_prefix = by_prefix


def piece_directories(root: Path) -> list[Path]:
    """The directories of namespaces and keys; what else lies there is nothing of ours."""
    if root.is_symlink():
        return []
    try:
        return sorted(p for p in root.iterdir() if _OWNER.match(p.name) and p.is_dir() and not p.is_symlink())
    except OSError:
        return []


def nbytes_in(root: Path) -> int:
    """Bytes of all pieces."""
    total = 0
    for path in (path for directory in piece_directories(root) for path in piece_files(directory)):
        # another process may delete it at this moment
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def piece_files(directory: Path) -> list[Path]:
    """The files of pieces in a directory; links and what else lies there are nothing of ours."""
    return list(_matching(directory, _FILE))


def draft_files(directory: Path) -> list[Path]:
    """Files that were being written when something ended."""
    return list(_matching(directory, _DRAFT))


def _matching(directory: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(e.name for e in entries if pattern.match(e.name) and e.is_file(follow_symlinks=False))
    except OSError:
        return
    yield from (directory / name for name in names)
