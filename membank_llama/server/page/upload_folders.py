"""`UploadFolders`: where a file lies while the page reads it, a private directory each, and not longer.

A directory is locked for as long as its process lives, so what a kill has left is told from what another server reads
just now, and the next one takes it away.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import filelock

from membank_llama.core.errors import BankStorageError
from membank_llama.store.bank_files import is_plain

PREFIX = "membank-import-"
LOCK = ".lock"


class UploadFolders:
    """Those of one page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Path, filelock.BaseFileLock] = {}

    def make(self) -> Path:
        """A new one, mode 0700.

        Raises:
            BankStorageError: the system refused.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            held = filelock.FileLock(folder / LOCK, timeout=0, thread_local=False, mode=0o600)
            with suppress(NotImplementedError):
                held.acquire()
        except OSError as exc:
            raise no_room(exc) from exc
        with self._lock:
            self._held[folder] = held
        return folder

    def remove(self, folder: Path) -> None:
        """Delete one with what is in it."""
        with self._lock:
            held = self._held.pop(folder, None)
        if held is not None:
            held.release()
        shutil.rmtree(folder, ignore_errors=True)

    def clear_left(self) -> None:
        """Delete those of servers that were killed."""
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            if folder not in self._held and _is_ours(folder) and _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """While the page is served: what others left is taken away before, what is there yet after it."""
        with suppress(OSError):
            self.clear_left()
        try:
            yield
        finally:
            for folder in list(self._held):
                self.remove(folder)


def no_room(error: OSError) -> BankStorageError:
    """What to say where a file cannot be taken in."""
    where = tempfile.gettempdir()
    return BankStorageError(
        f"the file could not be taken in at {where}: {error.strerror or error}; free some space there, set $TMPDIR, or "
        "use membank import"
    )


def _is_ours(folder: Path) -> bool:
    if not is_plain(folder, directory=True) or not is_plain(folder / LOCK):
        return False
    return not hasattr(os, "geteuid") or folder.lstat().st_uid == os.geteuid()


def _is_left(folder: Path) -> bool:
    """Whether nobody holds it."""
    asked = filelock.FileLock(folder / LOCK, timeout=0, thread_local=False, mode=0o600)
    try:
        asked.acquire()
    except (filelock.Timeout, NotImplementedError, OSError):
        return False
    asked.release()
    return True
