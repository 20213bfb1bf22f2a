"""Commands about copies of a bank: backup, restore."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from membank_llama.core.errors import InvalidInputError

from .bank_opening import open_bank
from .options import BankOption, JsonOption, bank_path


def backup(
    ctx: typer.Context,
    dest: Annotated[Path, typer.Argument(help="The directory that backups lie in; made where it is missing.")],
    keep: Annotated[
        int | None, typer.Option(help="Keep this many of the bank's backups, the newest.", min=1, show_default=False)
    ] = None,
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a bank into a new directory, also while a chat is open, and verify the copy.

    [dim]membank backup /media/disk/membank --keep 7[/dim]
    """
    from .. import terminal

    if hasattr(os, "nice"):
        # whoever writes the bank goes before
        os.nice(10)
    with open_bank(bank_path(ctx, bank), read_only=True) as opened, terminal.progress_bar() as progress:
        made = opened.backup(dest.expanduser(), keep=keep, progress=progress)
    if as_json:
        removed = [str(path) for path in made.removed]
        terminal.echo_json(
            {
                "backup": str(made.path), "memories": made.memories, "bytes": made.nbytes, "checked": made.checked,
                "removed": removed,
            },
            2,
        )  # fmt: skip
        return
    terminal.done(f"{terminal.counted(made.memories, 'memory')}, {terminal.size(made.nbytes)}, verified: {made.path}")
    if made.removed:
        terminal.note(f"{terminal.counted(len(made.removed), 'older backup')} deleted")


def restore(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="A directory that membank backup made.", metavar="BACKUP")],
    force: Annotated[
        bool, typer.Option("--force", help="Where there is a bank already, set it aside under another name.")
    ] = False,
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a bank of a backup, verified before it is put into its place. Nothing is deleted.

    [dim]membank restore /media/disk/membank/default-20260131-180000[/dim]
    """
    from membank_llama.store.maintenance.restore import restore_backup

    from .. import terminal

    source = source.expanduser()
    if not source.is_dir():
        raise InvalidInputError(f"there is no directory {source}; name one that membank backup made")
    with terminal.progress_bar() as progress:
        made = restore_backup(source, bank_path(ctx, bank, new=True), force=force, progress=progress)
    if as_json:
        aside = None if made.set_aside is None else str(made.set_aside)
        terminal.echo_json(
            {"bank": str(made.path), "memories": made.memories, "checked": made.checked, "set_aside": aside}, 2
        )
        return
    terminal.done(f"{terminal.counted(made.memories, 'memory')} restored and verified: {made.path}")
    if made.set_aside is not None:
        terminal.note(f"the bank that was there is kept as {made.set_aside}")
