"""Commands that look at single memories and take changes back: list, show, undo."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from membank_llama.core.errors import InvalidInputError

from .bank_opening import must_exist, open_bank, open_telling
from .options import (
    BankOption,
    EncoderOption,
    GpuOption,
    JsonOption,
    NamespaceOption,
    ThreadsOption,
    bank_path,
    named_namespace,
    namespace_of,
    parse_time,
)

if TYPE_CHECKING:
    from rich.table import Table


def listing(
    ctx: typer.Context,
    conversation: Annotated[str | None, typer.Option(help="Of one conversation.", show_default=False)] = None,
    role: Annotated[str | None, typer.Option(help="Said by: user, assistant, note, …", show_default=False)] = None,
    source: Annotated[str | None, typer.Option(help="From this source.", show_default=False)] = None,
    text: Annotated[str | None, typer.Option(help="That hold these letters.", show_default=False)] = None,
    pinned: Annotated[
        bool | None,
        typer.Option("--pinned/--unpinned", help="Only those that are, or that are not.", show_default=False),
    ] = None,
    since: Annotated[str | None, typer.Option(help="Not older than: 2025-01-31, or 7d.", show_default=False)] = None,
    until: Annotated[str | None, typer.Option(help="Older than: 2025-01-31, or 12h.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", "-k", help="How many.", min=1, max=500)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.", show_default=False)] = None,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Leaf through memories, the newest first. Works while a chat is open.

    [dim]membank list --since 7d[/dim]

    [dim]membank list --conversation boats --json | jq -r '.memories[].text'[/dim]
    """
    from membank_llama.memory.namespace_memories import NamespaceMemories

    from .. import terminal

    now = time.time()
    conditions = {
        "conversation": conversation,
        "role": role,
        "source": source,
        "text": text,
        "pinned": pinned,
        "since": parse_time(since, now, name="--since"),
        "until": parse_time(until, now, name="--until"),
    }
    with open_bank(bank_path(ctx, bank), read_only=True) as opened:
        page = NamespaceMemories(opened, namespace_of(ctx, namespace)).page(limit, cursor, **conditions)
    if as_json:
        terminal.echo_json(page, 2)
        return
    memories = page["memories"]
    if memories:
        terminal.out.print(_memories(memories))
    more = f" · go on with --cursor {page['cursor']}" if page["cursor"] else ""
    terminal.note((terminal.counted(len(memories), "memory") if memories else "there is nothing like that") + more)


def show(
    ctx: typer.Context,
    memory_id: Annotated[int, typer.Argument(help="The id, as recall and list show it.", metavar="ID")],
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all of a memory: what it says and said before, and where it was used.

    [dim]membank show 12[/dim]
    """
    from membank_llama.memory.namespace_memories import NamespaceMemories

    from .. import terminal

    with open_bank(bank_path(ctx, bank), read_only=True) as opened:
        space = named_namespace(ctx, namespace) or opened.get(memory_id).namespace
        memory = NamespaceMemories(opened, space).one(memory_id)
    if as_json:
        terminal.echo_json(memory, 2)
        return
    terminal.out.print(terminal.plain(memory["text"], "bold") if "\n" not in memory["text"] else _whole(memory["text"]))
    terminal.out.print(terminal.facts_table(_facts(memory)))
    for version in reversed(memory["history"]):
        terminal.out.print(terminal.plain(f"before: {version['text']}", "dim"))
    for use in memory["used"]:
        terminal.out.print(terminal.plain(f"used {terminal.when(use['at'])}: {use['query']}", "dim", terminal.LONGEST))


def undo(
    ctx: typer.Context,
    change: Annotated[
        str | None, typer.Argument(help="The change, as --list shows it. Default: the newest.", show_default=False)
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show what can be taken back.")] = False,
    encoder: EncoderOption = None,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    threads: ThreadsOption = None,
    gpu_layers: GpuOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Take back what was done to memories: a correction, a pin, or what was forgotten a moment ago.

    [dim]membank undo[/dim]

    [dim]membank undo --list[/dim]
    """
    from membank_llama.memory.namespace_memories import change_fields

    from .. import terminal

    where, space = bank_path(ctx, bank), named_namespace(ctx, namespace)
    must_exist(where)
    if listed:
        if change is not None:
            raise InvalidInputError("name a change or ask for the --list, not both")
        _list_changes(where, space, as_json)
        return
    with open_telling(where, encoder, threads=threads, gpu_layers=gpu_layers) as opened:
        undone = opened.undo(change, namespace=space)
    if as_json:
        terminal.echo_json(change_fields(undone), 2)
        return
    ids = ", ".join(map(str, undone.ids[:10])) + (" …" if len(undone.ids) > 10 else "")
    terminal.done(terminal.undone(undone.kind), f" · {ids}" if ids else "")


def _list_changes(where: Path, space: str | None, as_json: bool) -> None:
    from membank_llama.memory.namespace_memories import change_fields

    from .. import terminal

    with open_bank(where, read_only=True) as opened:
        changes = opened.changes(space)
    if as_json:
        terminal.echo_json([change_fields(one) for one in changes], 2)
        return
    if changes:
        table = terminal.plain_table(("change", terminal.FIXED), ("what", {}), ("when", {}), ("memories", {}))
        for one in changes:
            left = "" if one.until is None else f" ({max(0, one.until - time.time()):.0f} s left)"
            shown = ", ".join(map(str, one.ids[:6])) + (" …" if len(one.ids) > 6 else "")
            table.add_row(one.id, f"{one.kind}{left}", terminal.when(one.at), shown)
        terminal.out.print(table)
    terminal.note(f"{terminal.counted(len(changes), 'change')} that can be taken back")


def _memories(memories: Sequence[Mapping[str, Any]]) -> Table:
    """Memories, each on a line where the terminal has room for it; a filled mark for what is pinned."""
    from rich.text import Text

    from .. import terminal

    table = terminal.plain_table(
        ("", terminal.FIXED), ("id", terminal.NUMBER), ("when", terminal.FIXED), ("who", terminal.FIXED),
        ("memory", {"ratio": 1, "overflow": "fold"}),
    )  # fmt: skip
    for one in memories:
        mark = Text("●", style=terminal.ACCENT) if one["pinned"] else Text(" ")
        text = terminal.plain(one["text"], limit=terminal.LONGEST // 2)
        table.add_row(
            mark, str(one["id"]), terminal.day(one["created_at"]), terminal.plain(one["role"], limit=12), text
        )
    return table


def _whole(text: str) -> Any:
    from rich.text import Text

    from .. import terminal

    return Text(terminal.visible(text), style="bold")


def _facts(memory: Mapping[str, Any]) -> list[tuple[str, str]]:
    from .. import terminal

    told = terminal.when(memory["created_at"])
    if memory["first_told_at"] != memory["created_at"]:
        told += f", first {terminal.when(memory['first_told_at'])}"
    facts = [
        ("id", str(memory["id"])),
        ("said by", f"{memory['role']} ({memory['provenance']})"),
        ("told", told),
        ("conversation", memory["conversation"]),
        ("source", memory["source"]),
        ("namespace", memory["namespace"]),
        ("pinned", "yes" if memory["pinned"] else None),
        ("expires", None if memory["expires_at"] is None else terminal.when(memory["expires_at"])),
    ]
    return [(name, terminal.visible(value)) for name, value in facts if value is not None]
