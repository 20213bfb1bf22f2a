"""Opening a bank: for writing, for looking, and brought up to date first where it is of an earlier format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from membank_llama.core.errors import BankLockedError, BankNotFoundError, BankStorageError

from .bank_choice import is_bank
from .encoders import Capture, made_it, needed_encoder

if TYPE_CHECKING:
    from membank_llama.adapters.base import ModelAdapter
    from membank_llama.core.types import Progress
    from membank_llama.memory.bank import MemBank

MANY = 256
"""New memories from which on a command finishes what a long-lived process leaves to its background."""


def must_exist(path: Path) -> None:
    """See that there is a bank, rather than make one where none was.

    Raises:
        BankNotFoundError: there is none.
        BankStorageError: this user may not look into it.
    """
    if not is_bank(path):
        raise BankNotFoundError(
            f"there is no bank at {path}; membank chat makes one, membank ingest FILE --model model.gguf as well, or "
            "name another with --bank DIR"
        )
    if not os.access(path, os.R_OK | os.X_OK):
        raise BankStorageError(
            f"this user may not look into {path}; membank doctor says what mends that, --bank DIR names another"
        )


@contextmanager
def open_bank(path: Path, adapter: Any = None, **options: Any) -> Iterator[MemBank]:
    """A bank that exists already; long work on opening shows a bar. Others may have it open: whoever holds it does what
    is written here. To be repaired it must be held by nobody."""
    from membank_llama.memory.bank import MemBank
    from membank_llama.memory.sharing.shared_bank import open_shared

    from ..terminal import progress_bar

    must_exist(path)
    with progress_bar() as progress:
        if options.get("read_only"):
            bring_up_to_date(path)
            bank = MemBank(adapter, path, progress=progress, **options)
        else:
            bank = open_shared(adapter, path, join=not options.get("repair"), progress=progress, **options)
        with bank:
            yield bank


@contextmanager
def open_telling(
    path: Path, ref: str | None, *, threads: int | None, gpu_layers: int, wanted: Capture | None = None
) -> Iterator[MemBank]:
    """A bank that something is told, which may be a new one.

    Where another process holds it, that one encodes, and no model is loaded here; another model than the one that made
    the bank, named with `ref`, is refused as ever.
    """
    from membank_llama.memory.sharing.shared_bank import open_shared

    from ..terminal import progress_bar

    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar())

        def encoder() -> ModelAdapter:
            found = needed_encoder(path, ref, threads=threads, gpu_layers=gpu_layers, wanted=wanted)
            return stack.enter_context(found)

        own = wanted is None and (ref is None or made_it(path, ref))
        yield stack.enter_context(open_shared(encoder if own else encoder(), path, progress=progress))


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
    """Leave a bank that the next recall need not wait for, after so many new memories. Whoever holds it does so."""
    from membank_llama.memory.sharing.shared_bank import SharedBank

    if isinstance(bank, SharedBank) and not bank.holds:
        return
    if new >= MANY:
        bank.flush(progress)
    else:
        prepare(bank)


def encoder_name(bank: MemBank) -> str:
    """What encodes for a bank, as it is shown."""
    return f"none ({bank.model.name} is gone)" if bank.adapter is None else bank.adapter.name


def prepare(bank: MemBank, namespace: str = "default") -> None:
    """Do now what the first recall would wait for: load the index, learn what unrelated texts look like."""
    bank.recall("good morning", 1, namespace=namespace)
