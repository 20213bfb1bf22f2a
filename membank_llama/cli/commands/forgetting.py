"""`membank forget`: a person sees what goes and is asked, a program is taken at its word."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from membank_llama.core.errors import InvalidInputError

from .bank_opening import open_bank
from .options import BankOption, NamespaceOption, bank_path, named_namespace, parse_time

if TYPE_CHECKING:
    from membank_llama.core.types import Memory
    from membank_llama.memory.bank import MemBank

SHOWN = 10
"""Memories shown ahead of the question; of the others it is said how many there are."""


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

    In a terminal what goes is shown, you are asked, and for ten seconds Ctrl-C brings it back. Replies of the model
    that only repeat it go with it.

    [dim]membank forget 12 13[/dim]

    [dim]membank forget --before 90d --namespace work[/dim]
    """
    from .. import terminal

    where = bank_path(ctx, bank, sure=True)
    named = named_namespace(ctx, namespace)
    conditions = {
        "conversation": conversation,
        "before": parse_time(before, time.time(), name="--before"),
        "namespace": None if ids else named,
    }
    given = any(value is not None for value in conditions.values())
    if bool(ids) == given:
        raise InvalidInputError("name either ids, or --conversation, --before or --namespace: nothing was forgotten")
    with open_bank(where) as opened:
        chosen = list(dict.fromkeys(ids)) if ids else opened.select(**conditions)  # type: ignore[arg-type]
        memories = [_memory(opened, memory_id, named) for memory_id in chosen]
        if not memories:
            terminal.note("there is nothing like that in the bank")
            return
        repeated = [] if keep_replies else opened.repeats(chosen)
        if not yes and not _agreed(memories, repeated, by_ids=bool(ids)):
            terminal.note("nothing was forgotten")
            raise typer.Exit(1)
        asked = not yes and terminal.can_ask()
        if not asked:
            _show_repeated(repeated)
        gone = [*memories, *repeated]
        if asked and not _let_go(opened, gone):
            terminal.done(f"{terminal.counted(len(gone), 'memory')} brought back")
            return
        opened.forget([memory.id for memory in gone])
    terminal.done(f"{terminal.counted(len(gone), 'memory')} forgotten")


def _memory(bank: MemBank, memory_id: int, namespace: str | None) -> Memory:
    """The memory of an id; of a namespace alone where one was named.

    Raises:
        MemoryNotFoundError: there is none.
    """
    from membank_llama.memory.bank_editing import not_there

    memory = bank.get(memory_id)
    if namespace not in (None, memory.namespace):
        raise not_there(memory_id, bank.path)
    return memory


def _let_go(bank: MemBank, memories: Sequence[Memory]) -> bool:
    """Hide what was agreed upon for as long as it can be brought back; whether it was left to go."""
    from membank_llama.memory.bank_undo import GRACE_SECONDS, is_hidden

    from .. import terminal
    from ..status_line import StatusLine

    ids = [memory.id for memory in memories]
    change = bank.hide(ids, GRACE_SECONDS)
    until = time.monotonic() + GRACE_SECONDS
    try:
        with StatusLine() as line:
            while (left := until - time.monotonic()) > 0.5:
                line.say(f"forgotten; Ctrl-C brings it back ({left:.0f} s), membank undo in another terminal too")
                time.sleep(min(0.25, left))
    except KeyboardInterrupt:
        with suppress(InvalidInputError):
            bank.undo(change.id)
            return False
        if not bank.exists(ids):
            terminal.note("too late: they went for good with the process that held the bank, which has closed it")
    # brought back in another terminal, or gone
    return all(is_hidden(memory) for memory in bank.store.registry.get(ids).values())


def _agreed(memories: Sequence[Memory], repeated: Sequence[Memory], *, by_ids: bool) -> bool:
    """Whether all of this is to go: ids that a program gives are, and a person is asked.

    Raises:
        InvalidInputError: it is a program that names no ids, and did not say --yes.
    """
    from .. import terminal

    if not terminal.can_ask():
        if by_ids:
            return True
        raise InvalidInputError(
            f"this would forget {terminal.counted(len(memories), 'memory')} for good, and there is no terminal to ask "
            "in: nothing was forgotten; say --yes to go on"
        )
    terminal.err.print(terminal.memories_table(memories[:SHOWN]))
    if len(memories) > SHOWN:
        terminal.note(f"and {len(memories) - SHOWN:,} more")
    _show_repeated(repeated)
    return terminal.confirmed(f"Forget {terminal.counted(len(memories) + len(repeated), 'memory')} for good?")


def _show_repeated(repeated: Sequence[Memory]) -> None:
    from .. import terminal

    for reply in repeated[:SHOWN]:
        terminal.err.print(terminal.plain(f"with it goes what repeats it: {reply.text}", "dim", terminal.LONGEST))
    if len(repeated) > SHOWN:
        terminal.note(f"and {len(repeated) - SHOWN:,} more that repeat it")
