"""`WriterLock`: one writing process a bank.

The lock is the operating system's own (through filelock), so it goes away with the process that held it,
`kill -9` included. A note beside it names the holder for the error message; the note proves nothing.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from pathlib import Path

import filelock

from .errors import BankLockedError, BankStorageError

logger = logging.getLogger("membank_llama")

LOCK_NAME = "writer.lock"
NOTE_NAME = "writer.json"


class WriterLock:
    """Held from `acquire()` to `release()`; never waits.

    Raises:
        BankLockedError: another process (or another object of this one) writes to the bank.
        BankStorageError: the lock file cannot be made, as on a read-only disk.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._note = directory / NOTE_NAME
        self._lock = filelock.FileLock(directory / LOCK_NAME, timeout=0, thread_local=False, mode=0o600)

    def acquire(self) -> None:
        try:
            self._lock.acquire()
        except filelock.Timeout as exc:
            raise BankLockedError(
                f"{self._directory} is being written by {self.holder()}. Close it there, or open the bank here "
                "with read_only=True (membank recall, why, stats and export do so by themselves)"
            ) from exc
        except OSError as exc:
            raise BankStorageError(
                f"cannot write to {self._directory}: {exc.strerror or exc}. On a read-only disk open the bank with "
                "read_only=True; otherwise check the directory's permissions"
            ) from exc
        self._write_note()

    def _write_note(self) -> None:
        note = {
            "pid": os.getpid(),
            "program": " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]).strip() or "python",
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        try:
            self._note.write_text(json.dumps(note), encoding="utf-8")
            self._note.chmod(0o600)
        except OSError as exc:
            self._lock.release()
            raise BankStorageError(
                f"cannot write to {self._directory}: {exc.strerror or exc}. Free some space or check the "
                "directory's permissions; nothing was changed"
            ) from exc

    def holder(self) -> str:
        """Who holds the lock, as a person would say it."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return f"process {note['pid']} ({note['program']}) on {note['host']} since {note['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def release(self) -> None:
        if self._lock.is_locked:
            try:
                self._note.unlink(missing_ok=True)
            except OSError:
                logger.warning("could not remove %s; it means nothing once the lock is free", self._note)
            finally:
                self._lock.release()
