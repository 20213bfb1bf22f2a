"""What `membank doctor` looks at in a bank: where it is, who writes it, whether it opens, its disk and permissions."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import closing
from pathlib import Path

from membank_llama.core.errors import BankCorruptError, MembankError
from membank_llama.kv.piece_store import pieces_nbytes
from membank_llama.memory.bank import MemBank
from membank_llama.store.bank_files import DATABASE
from membank_llama.store.lock import writer_of
from membank_llama.store.model_record import is_outdated
from membank_llama.store.registry import Registry

from .commands.bank_choice import is_bank
from .health_table import GOOD, NOTE, WRONG, HealthCheck
from .terminal import counted, size

FEWEST_FREE = 500_000_000
"""Bytes on the bank's disk below which it is nearly full."""


def checks_of_bank(bank: Path, why: str) -> list[HealthCheck]:
    """Everything about a bank; `why` says why it is this one."""
    place = HealthCheck("bank", "place", f"{bank} ({why})")
    if not is_bank(bank):
        if bank.exists() and not bank.is_dir():
            return [HealthCheck("bank", "place", f"{bank} is a file", WRONG, "name a directory with --bank")]
        none = HealthCheck(
            "bank", "memories", "there is no bank yet", NOTE, "membank chat, or membank ingest, makes one"
        )
        return [place, none, disk_check(bank)]
    found = [place, memories_check(bank), writer_check(bank), disk_check(bank)]
    return [*found, *permission_checks(bank)]


def memories_check(bank: Path) -> HealthCheck:
    """Whether it opens, and what it holds."""
    where = quoted(bank)
    try:
        if is_outdated(bank):
            return HealthCheck("bank", "memories", "of an earlier format", NOTE, f"membank stats --bank {where}")
        with MemBank(None, bank, read_only=True) as opened:
            facts = opened.stats()
    except BankCorruptError as exc:
        mend = (
            f"membank reencode --bank {where}" if _has_texts(bank) else f"membank restore BACKUP --bank {where} --force"
        )
        return HealthCheck("bank", "memories", str(exc), WRONG, mend)
    except MembankError as exc:
        return HealthCheck("bank", "memories", str(exc), WRONG)
    value = f"{counted(facts['memories'], 'memory')}, {size(sum(facts['bytes'].values()))}"
    kept = pieces_nbytes(bank)
    value += f", and {size(kept)} of KV state" if kept else ""
    free, total = facts["slots"]["free"], facts["slots"]["total"]
    if free > max(1000, total // 4):
        return HealthCheck(
            "bank", "memories", f"{value}; {counted(free, 'slot')} free", NOTE, f"membank gc --bank {where}"
        )
    return HealthCheck("bank", "memories", f"{value}; opens well (membank verify checks every byte)")


def _has_texts(bank: Path) -> bool:
    """Whether its texts can be read, from which all the rest can be made again."""
    try:
        with closing(Registry(bank / DATABASE, read_only=True)) as registry:
            return all(memory.text for memory in registry.iterate())
    except MembankError:
        return False


def writer_check(bank: Path) -> HealthCheck:
    """Who writes it now."""
    try:
        holder = writer_of(bank)
    except OSError as exc:
        return HealthCheck("bank", "written by", f"not known: {exc.strerror or exc}", NOTE)
    return HealthCheck("bank", "written by", holder or "nobody now")


def disk_check(bank: Path) -> HealthCheck:
    """Room on its disk."""
    there = next(path for path in (bank.absolute(), *bank.absolute().parents) if path.exists())
    try:
        free = shutil.disk_usage(there).free
    except OSError as exc:
        return HealthCheck("bank", "disk", f"cannot be asked: {exc.strerror or exc}", NOTE)
    if free < FEWEST_FREE:
        return HealthCheck("bank", "disk", f"{size(free)} free", WRONG, "free some space; membank gc, membank kv gc")
    return HealthCheck("bank", "disk", f"{size(free)} free")


def permission_checks(bank: Path) -> list[HealthCheck]:
    """Whether this user may write it, and nobody else may read it."""
    if not os.access(bank, os.W_OK) or not os.access(bank / DATABASE, os.W_OK):
        value, mend = "this user may not write it", f"ls -ld {quoted(bank)}"
        if sys.platform != "win32":
            mend = f"sudo chown -R $(id -u) {quoted(bank)}"
        return [HealthCheck("bank", "permissions", value, WRONG, mend)]
    if sys.platform == "win32":
        return [HealthCheck("bank", "permissions", "this user may write it")]
    mode = stat.S_IMODE(bank.stat().st_mode)
    if mode & 0o077:
        value = f"others may look into the directory (mode {mode:04o})"
        return [HealthCheck("bank", "permissions", value, WRONG, f"chmod -R go= {quoted(bank)}")]
    return [HealthCheck("bank", "permissions", "only this user reads and writes it", GOOD)]


def quoted(path: Path) -> str:
    """A path as it is typed in a terminal."""
    return f'"{path}"' if " " in str(path) else str(path)
