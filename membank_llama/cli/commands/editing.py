"""Commands that change memories: correct, forget, pin, unpin."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from membank_llama.core.errors import InvalidInputError

from .bank_opening import must_exist, open_bank
from .encoders import needed_encoder
from .options import (
    BankOption,
    EncoderOption,
    GpuOption,
    NamespaceOption,
    ThreadsOption,
    bank_path,
    named_namespace,
    parse_time,
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
    with (
        needed_encoder(where, encoder, threads=threads, gpu_layers=gpu_layers) as adapter,
        open_bank(where, adapter) as opened,
    ):
        stored = opened.correct(memory_id, text)
    terminal.done(f"memory {memory_id} is now {stored.memory_id}")


def forget(
    ctx: typer.Context,
    ids: Annotated[list[int] | None, typer.Argument(help="Ids, as recall shows them.", show_default=False)] = None,
    conversation: Annotated[str | None, typer.Option(help="All of one conversation.", show_default=False)] = None,
    before: Annotated[str | None, typer.Option(help="All older than: 2025-01-31, or 90d.", show_default=False)] = None,
    keep_replies: Annotated[
        bool, typer.Option("--keep-replies", help="Keep the model's replies that only repeat them.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
) -> None:
    """Forget for good: text, index entry and activation are overwritten.

    Replies of the model that only repeat what is forgotten are shown, and go with it.

    [dim]membank forget 12 13[/dim]

    [dim]membank forget --before 90d --namespace work[/dim]
    """
    from .. import terminal
    from ..last_recall import scrub

    where = bank_path(ctx, bank, sure=True)
    conditions = {
        "conversation": conversation,
        "before": parse_time(before, time.time(), name="--before"),
        "namespace": named if (named := named_namespace(ctx, namespace)) is not None and not ids else None,
    }
    given = any(value is not None for value in conditions.values())
    if bool(ids) == given:
        raise InvalidInputError("name either ids, or --conversation, --before or --namespace: nothing was forgotten")
    with open_bank(where) as opened:
        chosen = list(dict.fromkeys(ids)) if ids else opened.select(**conditions)  # type: ignore[arg-type]
        texts = [opened.get(memory_id).text for memory_id in chosen]
        if not chosen:
            terminal.note("there is nothing like that in the bank")
            return
        if not ids and not yes:
            terminal.err.print(f"This forgets {terminal.counted(len(chosen), 'memory')} for good, the first being:")
            terminal.err.print(terminal.plain(texts[0], "dim", terminal.LONGEST))
            typer.confirm("Go on?", abort=True, err=True)
        repeated = [] if keep_replies else opened.repeats(chosen)
        for reply in repeated:
            terminal.err.print(terminal.plain(f"with it goes what repeats it: {reply.text}", "dim", terminal.LONGEST))
        count = opened.forget([*chosen, *(reply.id for reply in repeated)])
        texts += [reply.text for reply in repeated]
    scrub(where, texts)
    terminal.done(f"{terminal.counted(count, 'memory')} forgotten")


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
