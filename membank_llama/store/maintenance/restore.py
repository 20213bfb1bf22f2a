"""A bank out of a backup: copied beside its place, verified there, and put into it by a rename.

What stood in the place is set aside under another name and never deleted. Killed anywhere, either the old bank or the
restored one is in the place, or, for the moment between two renames, the old one beside it.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from membank_llama.core.errors import BankCorruptError, BankError, BankStorageError, InvalidInputError
from membank_llama.core.types import Progress

from ..bank_files import (
    CHATS,
    DATABASE,
    HISTORY,
    INDEX,
    NOTE,
    WRITER_NOTE,
    activation_files,
    chat_files,
    check_files,
    index_files,
    is_plain,
    make_directory,
    size_of,
    sync_directory,
    token_files,
)
from ..lock import WriterLock
from .backup_directory import (
    BACKUP_NOTE,
    BackupDirectory,
    BackupNote,
    check_room,
    discard,
    read_backup_note,
    writing_below,
)
from .bank_copy import copy_file, telling, verified


@dataclass(frozen=True)
class RestoreReport:
    """What was restored: where it lies, what it holds, and where the bank went that was there before."""

    path: Path
    memories: int
    checked: int
    set_aside: Path | None = None


def restore_backup(backup: Path, bank: Path, *, force: bool = False, progress: Progress | None = None) -> RestoreReport:
    """Make a bank of a backup.

    Args:
        force: where a bank is in the place already, set it aside.

    Raises:
        InvalidInputError: this is no whole backup, or something is in the place and `force` is false.
        BankLockedError: the bank in the place is being written.
        BankCorruptError: the backup is damaged; nothing was changed.
        BankStorageError: the system refused.
    """
    note = _note_of_whole(backup)
    # a link to another disk stays one: the bank is made where it leads to
    bank, source = bank.resolve(), backup.resolve()
    if bank.is_relative_to(source) or source.is_relative_to(bank):
        raise InvalidInputError(f"{bank} and {backup} lie in each other; name another directory with --bank")
    occupied = _is_occupied(bank)
    if occupied and not force:
        raise InvalidInputError(
            f"there is a bank at {bank} already; name another directory with --bank, or set it aside with --force"
        )
    check_files(backup)
    place = BackupDirectory(bank.parent)
    with writing_below(bank.parent), place.held(tidy=True):
        place.clear()
        part = place.begin(replace(note, name=bank.name, whole=False))
        try:
            checked = _copied(backup, part, progress)
            set_aside = _put_in_place(part, bank, occupied=occupied)
        except BaseException:
            if part.exists():
                discard(part)
            raise
    return RestoreReport(bank, note.memories, checked, set_aside)


def _note_of_whole(backup: Path) -> BackupNote:
    note = read_backup_note(backup)
    if note is not None and note.whole:
        return note
    inner = BackupDirectory(backup).backups() if is_plain(backup, directory=True) else []
    if inner:
        raise InvalidInputError(f"{backup} holds backups and is none; name one of them, the newest is {inner[0][0]}")
    raise InvalidInputError(f"{backup} is no backup that membank backup made; name the directory that it printed")


def _is_occupied(bank: Path) -> bool:
    """Whether there is a bank in the place; raises InvalidInputError where something else is."""
    if not bank.exists() or (bank.is_dir() and not any(bank.iterdir())):
        return False
    if not (bank / DATABASE).exists():
        raise InvalidInputError(f"{bank} is no bank and is left alone; name another directory with --bank")
    return True


def _copied(backup: Path, part: Path, progress: Progress | None) -> int:
    """Copy a backup, bring it up to date and verify it; returns how many activations it holds."""
    names = [DATABASE, f"{DATABASE}-wal", NOTE, HISTORY]
    files = [backup / name for name in names if is_plain(backup / name)]
    files += [*activation_files(backup), *token_files(backup), *index_files(backup / INDEX), *chat_files(backup)]
    total = sum(map(size_of, files))
    check_room(part, total)
    copied = telling(total, progress)
    for directory in (INDEX, CHATS):
        if is_plain(backup / directory, directory=True):
            make_directory(part / directory)
    for path in files:
        copy_file(path, part / path.relative_to(backup), copied)
    try:
        report = verified(part, progress)
    except BankStorageError:
        raise
    except BankError as exc:
        raise _damaged(backup, str(exc).replace(os.fspath(part), os.fspath(backup))) from exc
    if not report.ok:
        raise _damaged(backup, f"{report.problems[0]}.")
    return report.checked


def _damaged(backup: Path, why: str) -> BankCorruptError:
    return BankCorruptError(f"{backup} is damaged and was not restored; take an earlier one. What is wrong: {why}")


def _put_in_place(part: Path, bank: Path, *, occupied: bool) -> Path | None:
    """Switch; returns where the bank went that was there."""
    set_aside = None
    if occupied:
        set_aside = _set_bank_aside(bank)
    elif bank.exists():
        bank.rmdir()
    (part / BACKUP_NOTE).unlink()
    try:
        part.replace(bank)
    except OSError:
        if set_aside is not None:
            set_aside.replace(bank)
        raise
    sync_directory(bank.parent)
    return set_aside


def _set_bank_aside(bank: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (f"{bank.name}.before-{stamp}{again}" for again in ("", *(f"-{count}" for count in range(2, 1000))))
    set_aside = next(path for path in map(bank.with_name, names) if not path.exists())
    lock = WriterLock(bank)
    lock.acquire()
    try:
        if sys.platform == "win32":
            # a directory with an open file in it cannot be renamed there
            lock.release()
        bank.replace(set_aside)
    finally:
        lock.release()
        with suppress(OSError):
            (set_aside / WRITER_NOTE).unlink(missing_ok=True)
    return set_aside
