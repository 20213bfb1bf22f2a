"""`membank topics`: what the memories of a namespace are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .bank_opening import open_bank
from .options import BankOption, JsonOption, NamespaceOption, bank_path, namespace_of

if TYPE_CHECKING:
    from membank_llama.memory.bank import MemBank
    from membank_llama.recall.topic_finder import Topic


def topics(
    ctx: typer.Context,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    most: Annotated[int, typer.Option("--most", "-k", help="How many topics; 0 for all.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show what the memories are about. Works while a chat has the bank open.

    [dim]membank topics[/dim]

    [dim]membank recall "when was it?" --topic garden[/dim]
    """
    from .. import terminal

    where, name = bank_path(ctx, bank), namespace_of(ctx, namespace)
    with open_bank(where, read_only=True) as opened:
        found, count = opened.topics(name), opened.count(name)
        shown = found[:most] if most else found
        if as_json:
            terminal.echo_json([_fields(opened, topic) for topic in shown], 2)
            return
        if found:
            terminal.out.print(terminal.topics_table(shown, lambda memory_id: opened.get(memory_id).text))
    rest = count - sum(topic.size for topic in found)
    told = f"{terminal.counted(count, 'memory')}, {terminal.counted(len(found), 'topic')}"
    terminal.note(told + (f" · {rest:,} of no topic" if rest and found else ""))


def _fields(bank: MemBank, topic: Topic) -> dict[str, Any]:
    from membank_llama.memory.memory_json import topic_fields

    return {**topic_fields(topic, bank.get(topic.example).text), "ids": list(topic.ids)}
