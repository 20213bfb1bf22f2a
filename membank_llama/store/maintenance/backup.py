"""Backups of a live bank: each is verified before it is said to be there.

A backup is a bank: it can be opened, and restore.py puts it back into its place. It holds memories, vectors, graphs and
chats, and not `kv/`, which is derived and signed for one machine.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from membank_llama.core.errors import BankClosedError, BankCorruptError, BankError, BankStorageError, InvalidInputError
from membank_llama.core.types import Progress

from ..store import Store
from .backup_directory import BackupDirectory, BackupNote, check_room, discard, empty, writing_below
from .bank_copy import Cut, copied_bytes, copy_bank, cut_of, telling, verified

TRIES = 4
"""Copies made at most where the files are switched again and again while one is made."""


@dataclass(frozen=True)
class BackupReport:
    """What was made: where it lies, what it holds, and which older ones went for it."""

    path: Path
    memories: int
    nbytes: int
    checked: int
    removed: tuple[Path, ...] = ()


def back_up(store: Store, dest: Path, *, keep: int | None = None, progress: Progress | None = None) -> BackupReport:
    """Copy a bank into a new directory below `dest`, as it is at one moment of the copying.

    Other threads and processes may write meanwhile; only what is forgotten waits until the database is copied.

    Args:
        keep: how many backups of this bank stay, the newest; None for all.

    Raises:
        InvalidInputError: `keep` is below 1, or `dest` lies in the bank.
        BankLockedError: another backup into `dest` is being made.
        BankCorruptError: the bank is damaged; there is no backup.
        BankStorageError: the system refused, or the bank did not hold still; there is no backup.
    """
    if keep is not None and keep < 1:
        raise InvalidInputError(f"keep is {keep}; keep 1 backup or more")
    if dest.resolve().is_relative_to(store.path.resolve()):
        raise InvalidInputError(f"{dest} lies in the bank itself; name a directory outside it, on another disk at best")
    place = BackupDirectory(dest)
    with writing_below(dest), place.held():
        place.clear()
        part = place.begin(_note_of(store.path, cut_of(store.registry)))
        try:
            cut, checked = _copy_that_verifies(store, part, progress)
            note = replace(_note_of(store.path, cut), created=time.time(), memories=cut.memories, whole=True)
            note.write(part)
            nbytes = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
            path = place.finish(part)
        except BaseException:
            discard(part)
            raise
        removed = [] if keep is None else place.rotate(note, keep)
    return BackupReport(path, cut.memories, nbytes, checked, tuple(removed))


def _note_of(bank: Path, cut: Cut) -> BackupNote:
    return BackupNote(bank.resolve().name or "bank", cut.created)


def _copy_that_verifies(store: Store, part: Path, progress: Progress | None) -> tuple[Cut, int]:
    """Copy a bank until a copy is whole; returns its moment and how many activations it holds."""
    registry = store.registry
    for _ in range(TRIES):
        empty(part)
        before = cut_of(registry)
        check_room(part, copied_bytes(store.path, before))
        try:
            cut = copy_bank(store.path, registry, part, telling(copied_bytes(store.path, before), progress))
            report = verified(part, progress)
            if report.ok:
                return cut, report.checked
            wrong = report.problems[0]
        except (BankClosedError, BankStorageError):
            raise
        except (FileNotFoundError, BankError) as exc:
            wrong = str(exc).replace(os.fspath(part), os.fspath(store.path))
        if before.holds(cut_of(registry)):
            raise BankCorruptError(
                f"{store.path} is damaged and was not backed up: {wrong}. Earlier backups are kept; membank verify "
                "names all that is wrong"
            )
    raise BankStorageError(
        f"{store.path} was packed, or written anew, while it was copied, {TRIES} times; there is no backup. Try again "
        "when that is over"
    )
