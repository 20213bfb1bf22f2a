"""`membank why`: what was put into the prompt, what was held back and by how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from membank_llama.core.errors import InvalidInputError, MemoryNotFoundError

from .bank_opening import must_exist, open_bank
from .memories import searched
from .options import BankOption, EncoderOption, JsonOption, NamespaceOption, ThreadsOption, bank_path, namespace_of

if TYPE_CHECKING:
    from membank_llama.core.types import Memory
    from membank_llama.memory.bank import MemBank

ASKED_FOR = 10
"""Memories that a question of one's own is explained by."""


def why(
    ctx: typer.Context,
    query: Annotated[
        str | None,
        typer.Argument(help="A question to ask and explain; without it, the last recall.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Every score of every memory.")] = False,
    encoder: EncoderOption = None,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a recall: what was put into the prompt, what was held back and by how much.

    [dim]membank why[/dim]

    [dim]membank why "where did I park?" --all[/dim]
    """
    from .. import terminal
    from ..last_recall import load_recall, recall_rows, save_recall

    where = bank_path(ctx, bank)
    must_exist(where)
    if query is not None:
        options = {"namespace": namespace_of(ctx, namespace)}
        results, spent, _ = searched(where, query, ASKED_FOR, encoder, threads, options)
        save_recall(where, query, recall_rows(results), tokens=None, recall_ms=spent, program="membank why")
    record = load_recall(where)
    if record is None:
        raise InvalidInputError(f'nothing was recalled from {where} yet; ask something: membank why "QUESTION"')
    with open_bank(where, read_only=True) as opened:
        found = {row["memory_id"]: _memory(opened, row["memory_id"]) for row in record["results"]}
        if as_json:
            rows = [{**_fields(row["memory_id"], found[row["memory_id"]]), **row} for row in record["results"]]
            terminal.echo_json({**record, "results": rows}, 2)
        else:
            _show(record, found, every=every)
            for memory_id, memory in found.items():
                if memory is not None:
                    _show_history(opened, memory_id)
            _show_summary(record, every=every)


def _memory(bank: MemBank, memory_id: int) -> Memory | None:
    """None of one that was forgotten since."""
    try:
        return bank.get(memory_id)
    except MemoryNotFoundError:
        return None


def _fields(memory_id: int, memory: Memory | None) -> dict[str, Any]:
    from membank_llama.memory.memory_json import memory_fields

    return {"id": memory_id, "text": None} if memory is None else memory_fields(memory)


def _show(record: dict[str, Any], found: dict[int, Memory | None], *, every: bool) -> None:
    from rich.text import Text

    from .. import terminal, why_view

    def text_of(memory_id: int) -> str:
        memory = found[memory_id]
        return "(forgotten since)" if memory is None else memory.text

    rows, width = record["results"], terminal.out.width
    terminal.out.print(Text(terminal.visible(record["query"]), "bold"))
    if not rows:
        terminal.out.print("nothing came back", style="dim")
    elif every:
        terminal.out.print(why_view.whole_why(rows, text_of, width))
    else:
        terminal.out.print(why_view.short_why(rows, text_of, _block_of(record, found), record["tokens"], width))


def _block_of(record: dict[str, Any], found: dict[int, Memory | None]) -> str:
    """The block as it was made of these memories; only their ids were kept."""
    from membank_llama.memory.prompt_block import Excerpt, Neutraliser, build_block

    memories = [found[row["memory_id"]] for row in record["results"] if row.get("injected")]
    lines = [
        Excerpt(memory.id, memory.text, memory.role, memory.created_at, memory.source, memory.metadata)
        for memory in memories
        if memory is not None
    ]
    room = sum(len(line.text) for line in lines) + (1 << 20)
    return build_block(lines, room, len, Neutraliser(()), now=record["when"]).text


def _show_history(bank: MemBank, memory_id: int) -> None:
    """What a memory said before it was corrected."""
    from .. import terminal

    for version in bank.history(memory_id):
        said = terminal.visible(" ".join(str(version["text"]).split()))
        terminal.note(f"{memory_id} said before it was corrected: {said[: terminal.LONGEST]}")


def _show_summary(record: dict[str, Any], *, every: bool) -> None:
    from .. import terminal
    from ..why_view import LEGEND

    tokens = "" if record["tokens"] is None else f" · {terminal.counted(record['tokens'], 'token')} injected"
    more = "" if every or not record["results"] else " · --all shows every score"
    terminal.note(f"{record['program']}, {terminal.when(record['when'])} · {record['recall_ms']:.1f} ms{tokens}{more}")
    if every:
        terminal.note(LEGEND)
