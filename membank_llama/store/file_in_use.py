"""`FileInUse`: a file that SQLite has open here, read beside it by a descriptor that is closed last.

Where a process closes any descriptor of a file, POSIX drops every lock it has on that file, those of SQLite's
connections among them. Another process that closes the database then takes itself for the last one and deletes the
log, which is still written here, and what is written from then on is lost.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from membank_llama.core.plain_files import open_unfollowed


class _Shared:
    """One file in this process, whoever has it open."""

    def __init__(self) -> None:
        self.users = 0
        self.reading = threading.Lock()
        self.file: FileIO | None = None


_guard = threading.Lock()
_files: dict[tuple[int, int], _Shared] = {}


class FileInUse:
    """From here to `leave()`, which comes after the last connection is closed.

    Raises:
        OSError: the file is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = path.stat()
        self._key = (found.st_dev, found.st_ino)
        with _guard:
            self._shared = _files.setdefault(self._key, _Shared())
            self._shared.users += 1

    @contextmanager
    def read(self) -> Iterator[FileIO]:
        """The file from its beginning; one reads it at a time.

        Raises:
            OSError: it cannot be read.
        """
        with self._shared.reading:
            if self._shared.file is None:
                self._shared.file = FileIO(open_unfollowed(self._path, os.O_RDONLY))
            self._shared.file.seek(0)
            yield self._shared.file

    def leave(self) -> None:
        """Nothing is open here any more; call it once."""
        with _guard:
            self._shared.users -= 1
            if self._shared.users:
                return
            del _files[self._key]
            if self._shared.file is not None:
                self._shared.file.close()
