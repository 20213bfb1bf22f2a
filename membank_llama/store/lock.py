"""`WriterLock`: one writing process a bank.

The lock is the operating system's own (through filelock), so it goes away with the process that held it,
`kill -9` included. Where the system can, the directory itself is locked too: a lock file that somebody deletes lets
nobody in. A note beside it names the holder for the error message; the note proves nothing.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import filelock

from membank_llama.core.errors import BankFormatError, BankLockedError, BankStorageError, MembankError

from .bank_files import HANDS_NOTE, WRITER_LOCK, WRITER_NOTE, read_limited, write_private

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger("membank_llama")

LOCK_NAME = WRITER_LOCK
NOTE_NAME = WRITER_NOTE
_NOTE_LIMIT = 4096


class WriterLock:
    """Held from `acquire()` to `release()`; never waits.

    Args:
        shares: whether whoever gets it serves other processes, which its note tells them.

    Raises:
        BankLockedError: another process (or another object of this one) writes to the bank.
        BankStorageError: the lock file cannot be made, as on a read-only disk.
    """

    def __init__(self, directory: Path, *, shares: bool = False) -> None:
        self._directory = directory
        self._shares = shares
        self._note = directory / NOTE_NAME
        self._lock = filelock.FileLock(directory / LOCK_NAME, timeout=0, thread_local=False, mode=0o600)
        self._held = -1

    def acquire(self) -> None:
        """Get it; nothing where this object has it already."""
        if self._lock.is_locked:
            return
        try:
            self._lock.acquire()
            self._hold_directory()
        except (filelock.Timeout, BlockingIOError) as exc:
            self._lock.release()
            raise BankLockedError(
                f"{self._directory} is being written by {self.holder()}. Close it there, or open the bank here "
                "with read_only=True (membank recall, why, stats and export do so by themselves)"
                + ("" if self._shares else ". Programs that open it by membank_llama.open_shared write side by side")
            ) from exc
        except OSError as exc:
            self._lock.release()
            raise BankStorageError(
                f"cannot write to {self._directory}: {exc.strerror or exc}. On a read-only disk open the bank with "
                "read_only=True; otherwise check the directory's permissions"
            ) from exc
        self._write_note()
        if not self._shares:
            # of one who served others and was killed, or a stranger's: nobody is to knock where it leads
            with suppress(OSError):
                (self._directory / HANDS_NOTE).unlink(missing_ok=True)

    def _hold_directory(self) -> None:
        """Lock the directory as well; not every file system can, and the lock file does without."""
        if sys.platform == "win32":
            # a file in use cannot be deleted there
            return
        held = os.open(self._directory, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(held)
            if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise BlockingIOError(exc.errno, exc.strerror) from exc
            return
        self._held = held

    def serves_nobody(self) -> None:
        """Say in the note that whoever holds it lets nobody else in after all: others need not wait for it."""
        self._shares = False
        with suppress(OSError, MembankError):
            write_private(self._note, self._said())

    def _said(self) -> bytes:
        note = {
            "pid": os.getpid(),
            "program": " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]).strip() or "python",
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "shares": self._shares,
        }
        return json.dumps(note).encode()

    def _write_note(self) -> None:
        try:
            write_private(self._note, self._said())
        except BankFormatError:
            self._let_go()
            raise
        except OSError as exc:
            self._let_go()
            raise BankStorageError(
                f"cannot write to {self._directory}: {exc.strerror or exc}. Free some space or check the "
                "directory's permissions; nothing was changed"
            ) from exc

    def holder(self) -> str:
        """Who holds the lock, as a person would say it."""
        try:
            note = self._read_note()
            return f"process {note['pid']} ({note['program']}) on {note['host']} since {note['since']}"
        except (OSError, ValueError, KeyError, TypeError, RecursionError, MembankError):
            return "another process"

    def is_shared(self) -> bool:
        """Whether whoever holds the lock says that it serves others."""
        try:
            return self._read_note()["shares"] is True
        except (OSError, ValueError, KeyError, TypeError, RecursionError, MembankError):
            return False

    def _read_note(self) -> Any:
        return json.loads(read_limited(self._note, _NOTE_LIMIT))

    def release(self) -> None:
        if self._lock.is_locked:
            try:
                self._note.unlink(missing_ok=True)
            except OSError:
                logger.warning("could not remove %s; it means nothing once the lock is free", self._note)
            finally:
                self._let_go()

    def _let_go(self) -> None:
        held, self._held = self._held, -1
        if held >= 0 and sys.platform != "win32":
            # closing alone would leave it to a child process that was forked meanwhile
            fcntl.flock(held, fcntl.LOCK_UN)
            os.close(held)
        self._lock.release()


def writer_of(bank: Path) -> str | None:
    """Who writes a bank now, as a person would say it; None where nobody does.

    Raises:
        OSError: the system lets nobody ask, as on a read-only disk.
    """
    if not (bank / LOCK_NAME).exists():
        return None
    asked = filelock.FileLock(bank / LOCK_NAME, timeout=0, thread_local=False, mode=0o600)
    try:
        asked.acquire()
    except filelock.Timeout:
        return WriterLock(bank).holder()
    asked.release()
    return None
