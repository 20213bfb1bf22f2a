"""`BackupDirectory`: where the backups of banks lie, each a directory with a note that says it is one.

A backup is made in a hidden directory and gets its name when it is whole, so whatever has a name here is whole. What a
kill left is cleared away by the next backup. Nothing is deleted that does not carry our note.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from membank_llama._version import __version__
from membank_llama.core.byte_sizes import size
from membank_llama.core.errors import BankLockedError, BankStorageError, MembankError

from ..bank_files import is_plain, open_plain, read_limited, sync_directory

BACKUP_NOTE = "backup.json"
BACKUP_FORMAT = 1
SPARE = 32 << 20
"""Bytes that are left on the disk beside a backup."""

_LOCK = ".membank-backup.lock"
_NOTE_LIMIT = 1 << 16
_STAMP = r"[0-9]{8}-[0-9]{6}(?:-[0-9]{1,4})?"


@dataclass(frozen=True)
class BackupNote:
    """What a backup says of itself: the bank it is of, when it was made, and how much it holds.

    Args:
        name: of the bank's directory.
        origin: when that bank was made, which tells it from another one of the same name.
        whole: false while the backup is made, and while it is deleted.
    """

    name: str
    origin: float
    created: float = 0.0
    memories: int = 0
    whole: bool = False

    def write(self, backup: Path) -> None:
        """Put the note into a backup; raises OSError."""
        fields = {"format": BACKUP_FORMAT, "membank": __version__, **vars(self)}
        with os.fdopen(open_plain(backup / BACKUP_NOTE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(json.dumps(fields, indent=2).encode())
            file.flush()
            os.fsync(file.fileno())


def read_backup_note(backup: Path) -> BackupNote | None:
    """The note of a backup; None where a directory is none of ours."""
    try:
        found: Any = json.loads(read_limited(backup / BACKUP_NOTE, _NOTE_LIMIT))
        if found["format"] != BACKUP_FORMAT:
            return None
        return BackupNote(
            str(found["name"]), float(found["origin"]), float(found["created"]), int(found["memories"]),
            found["whole"] is True,
        )  # fmt: skip
    except (OSError, MembankError, ValueError, KeyError, TypeError, RecursionError):
        return None


class BackupDirectory:
    """One directory of backups."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self, *, tidy: bool = False) -> Iterator[None]:
        """The directory, made where it is missing, and no second backup into it meanwhile.

        Args:
            tidy: leave no file for the lock behind, in a directory that is none of backups.

        Raises:
            BankLockedError: one is being made.
            OSError: the system refused.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / _LOCK, timeout=0, thread_local=False, mode=0o600)
        try:
            lock.acquire()
        except filelock.Timeout as exc:
            raise BankLockedError(f"another backup into {self.path} is being made; wait for it and try again") from exc
        except NotImplementedError:
            # a network drive that knows no locks: it does without
            yield
            return
        try:
            yield
        finally:
            if tidy:
                # where a file that is open cannot be deleted it stays
                with suppress(OSError):
                    (self.path / _LOCK).unlink(missing_ok=True)
            lock.release()

    def clear(self) -> list[Path]:
        """Delete what interrupted backups and deletions left; returns it."""
        left = [path for path in self.path.glob(".*.part") if re.fullmatch(rf"\..+-{_STAMP}\.part", path.name)]
        found = [path for path in left if is_plain(path, directory=True) and _is_leftover(path)]
        for path in found:
            discard(path)
        return found

    def begin(self, note: BackupNote) -> Path:
        """An empty hidden directory, mode 0700, for the next backup; raises OSError."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        names = (f"{note.name}-{stamp}{again}" for again in ("", *(f"-{count}" for count in range(2, 1000))))
        name = next(name for name in names if not (self.path / name).exists())
        part = self.path / f".{name}.part"
        part.mkdir(mode=0o700)
        note.write(part)
        return part

    def finish(self, part: Path) -> Path:
        """Give a backup that is whole its name; raises OSError."""
        sync_directory(part)
        whole = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
        part.replace(whole)
        sync_directory(self.path)
        return whole

    def backups(self) -> list[tuple[Path, BackupNote]]:
        """The whole backups that lie here, the newest first."""
        found = []
        for path in self.path.iterdir():
            note = read_backup_note(path) if is_plain(path, directory=True) else None
            if note is not None and note.whole and re.fullmatch(rf"{re.escape(note.name)}-{_STAMP}", path.name):
                found.append((path, note))
        return sorted(found, key=lambda pair: (pair[1].created, pair[0].name), reverse=True)

    def rotate(self, of: BackupNote, keep: int) -> list[Path]:
        """Delete all but the newest `keep` backups of a bank; returns those that went."""
        same = [path for path, note in self.backups() if (note.name, note.origin) == (of.name, of.origin)]
        for path in same[keep:]:
            # a kill in the middle leaves nothing that looks like a backup
            hidden = path.with_name(f".{path.name}.part")
            path.replace(hidden)
            discard(hidden)
        return same[keep:]


@contextmanager
def writing_below(where: Path) -> Iterator[None]:
    """Turn what the system refuses into the package's own error."""
    try:
        yield
    except OSError as exc:
        raise BankStorageError(
            f"cannot write below {where}: {exc.strerror or exc}; nothing was left there. Check disk and permissions"
        ) from exc


def check_room(where: Path, needed: int) -> None:
    """Raises BankStorageError where the disk has no room for so many bytes."""
    free = shutil.disk_usage(where).free
    if free < needed + SPARE:
        raise BankStorageError(
            f"{size(needed + SPARE)} are needed at {where.parent}, of which {size(SPARE)} are left free; there are "
            f"{size(free)}: make room, or name another disk"
        )


def empty(directory: Path) -> None:
    """Delete what is in a backup that is being made, all but its note; raises OSError."""
    for path in directory.iterdir():
        if path.name != BACKUP_NOTE:
            shutil.rmtree(path) if is_plain(path, directory=True) else path.unlink()


def discard(directory: Path) -> None:
    """Delete a backup, or what there is of one.

    Raises:
        BankStorageError: the system refused.
    """
    try:
        # the note goes last: until then it says whose this is
        empty(directory)
        shutil.rmtree(directory)
    except OSError as exc:
        raise BankStorageError(f"could not delete {directory}: {exc.strerror or exc}; delete it by hand") from exc


def _is_leftover(part: Path) -> bool:
    """Whether a hidden directory is of ours: it carries the note, or a kill came before anything was in it."""
    with suppress(OSError):
        return read_backup_note(part) is not None or not any(part.iterdir())
    return False
