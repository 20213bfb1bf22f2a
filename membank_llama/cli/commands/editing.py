"""Commands that change memories: correct, pin, unpin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .bank_opening import must_exist, open_bank, open_telling
from .options import (
    BankOption,
    EncoderOption,
    GpuOption,
    ThreadsOption,
    bank_path,
)


def correct(
    ctx: typer.Context,
    memory_id: Annotated[int, typer.Argument(help="The id, as recall shows it.", metavar="ID")],
    text: Annotated[str, typer.Argument(help="What it should say.")],
    encoder: EncoderOption = None,
    bank: BankOption = None,
    threads: ThreadsOption = None,
    gpu_layers: GpuOption = 0,
) -> None:
    """Say better what a memory says: the new text takes its place, as of now.

    What it said before is not found any more; membank why shows it.

    [dim]membank correct 12 "My dentist is Dr Moreno."[/dim]
    """
    from .. import terminal

    where = bank_path(ctx, bank)
    must_exist(where)
    with open_telling(where, encoder, threads=threads, gpu_layers=gpu_layers) as opened:
        stored = opened.correct(memory_id, text)
    terminal.done(f"memory {memory_id} is now {stored.memory_id}")


def pin(
    ctx: typer.Context,
    ids: Annotated[list[int], typer.Argument(help="Ids, as recall shows them.")],
    bank: BankOption = None,
) -> None:
    """Keep memories past their expiry."""
    _pin(bank_path(ctx, bank), ids, True)


def unpin(
    ctx: typer.Context,
    ids: Annotated[list[int], typer.Argument(help="Ids, as recall shows them.")],
    bank: BankOption = None,
) -> None:
    """Let memories expire again."""
    _pin(bank_path(ctx, bank), ids, False)


def _pin(where: Path, ids: list[int], pinned: bool) -> None:
    from .. import terminal

    with open_bank(where) as opened:
        for memory_id in ids:
            opened.get(memory_id)
        for memory_id in ids:
            opened.pin(memory_id, pinned)
    terminal.done(f"{terminal.counted(len(ids), 'memory')} {'pinned' if pinned else 'no longer pinned'}")
