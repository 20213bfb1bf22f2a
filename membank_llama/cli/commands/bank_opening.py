"""Opening a bank: for writing, for looking, and brought up to date first where it is of an earlier format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from membank_llama.core.errors import BankLockedError, BankNotFoundError, BankStorageError

from .bank_choice import is_bank

if TYPE_CHECKING:
    from membank_llama.core.types import Progress
    from membank_llama.memory.bank import MemBank

MANY = 256
"""New memories from which on a command finishes what a long-lived process leaves to its background."""


def must_exist(path: Path) -> None:
    """Raises BankNotFoundError rather than make a bank where none was."""
    if not is_bank(path):
        raise BankNotFoundError(
            f"there is no bank at {path}; membank chat makes one, membank ingest FILE --model model.gguf as well, or "
            "name another with --bank DIR"
        )


@contextmanager
def open_bank(path: Path, adapter: Any = None, **options: Any) -> Iterator[MemBank]:
    """A bank that exists already; long work on opening shows a bar."""
    from membank_llama.memory.bank import MemBank

    from ..terminal import progress_bar

    must_exist(path)
    if options.get("read_only"):
        bring_up_to_date(path)
    with progress_bar() as progress, MemBank(adapter, path, progress=progress, **options) as bank:
        yield bank


def bring_up_to_date(path: Path) -> None:
    """Open a bank of an earlier format for writing once, without which it cannot be read."""
    from membank_llama.memory.bank import MemBank
    from membank_llama.store.model_record import is_outdated

    from ..terminal import progress_bar

    if is_outdated(path):
        with progress_bar() as progress:
            MemBank(None, path, progress=progress).close()


@contextmanager
def open_for_looking(path: Path) -> Iterator[MemBank]:
    """The bank for writing where that is possible, or else for reading beside whoever writes."""
    try:
        opened = open_bank(path)
        bank = opened.__enter__()
    except (BankLockedError, BankStorageError):
        opened = open_bank(path, read_only=True)
        bank = opened.__enter__()
    try:
        yield bank
    finally:
        opened.__exit__(None, None, None)


def finish(bank: MemBank, new: int, progress: Progress | None) -> None:
    """Leave a bank that the next recall need not wait for, after so many new memories."""
    if new >= MANY:
        bank.flush(progress)
    else:
        prepare(bank)


def prepare(bank: MemBank, namespace: str = "default") -> None:
    """Do now what the first recall would wait for: load the index, learn what unrelated texts look like."""
    bank.recall("good morning", 1, namespace=namespace)
