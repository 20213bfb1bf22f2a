"""The tools that only look: memory_search, memory_recent, memory_show, memory_why, memory_stats."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Memory
from membank_llama.memory.block_lines import on_one_line
from membank_llama.memory.namespace_memories import NamespaceMemories

from .tool_answers import (
    BYTES_OF_A_TOKEN,
    NOTE,
    ToolAnswer,
    clipped,
    fitted,
    harmless,
    lines_for_models,
    lines_under,
    told,
)

DAY = 86_400.0
NEAREST = 3
"""Told where nothing that was found is relevant."""
MOST_COUNTED = 10_000
MOST_TOPICS, MOST_FOR_TOPICS = 12, 5000
"""Topics that are told, and the memories up to which an agent need not wait for them."""
LONGEST_LINE = 160
"""Bytes of a memory's text where it only says which one is meant."""

Given = Mapping[str, Any]


@dataclass(frozen=True)
class AgentCall:
    """Who calls a tool, and for which memories.

    Args:
        client: what the agent's program calls itself.
        recalls: the last recalls of the namespace for chats, where there are any, as ``/membank/why`` tells them.
        writable: whether tools that change something are there.
        zone: whose days are told; None for this machine's.
    """

    memories: NamespaceMemories
    client: str = "agent"
    recalls: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    writable: bool = True
    zone: tzinfo | None = None


def tell_search(call: AgentCall, given: Given) -> ToolAnswer:
    """What belongs to a question; where nothing does, the nearest, and that it is not it."""
    limit, among = int(given.get("limit", 8)), {"conversation": given.get("conversation")}
    options = {"since": _since(given), "topic": given.get("topic")}
    found = call.memories.search(given["query"], limit, among=among, **options)["memories"]
    relevant = [one for one in found if one["relevant"]]
    fits = fitted(relevant or found[:NEAREST], _tokens(given))
    note = NOTE
    if not relevant:
        note = "Nothing that is remembered belongs to this."
        if fits.memories:
            note += f" The nearest there is, which need not be about it. {NOTE}"
        for one in fits.memories:
            one["relevant"] = False
    fields = {"note": note, "memories": fits.memories, "left_out": fits.left_out}
    return ToolAnswer(fields, lines_under(note, lines_for_models(fits.memories, call.zone), fits.left_out))


def tell_recent(call: AgentCall, given: Given) -> ToolAnswer:
    """What was told last, the newest first, page by page."""
    limit, cursor = int(given.get("limit", 10)), given.get("cursor")
    conditions = {"conversation": given.get("conversation"), "since": _since(given)}
    page = call.memories.page(limit, cursor, **conditions)
    fits = fitted(page["memories"], _tokens(given), in_order=True)
    behind = page["cursor"]
    if fits.left_out and fits.memories:
        behind = call.memories.page(len(fits.memories), cursor, **conditions)["cursor"]
    fields = {"note": NOTE, "memories": fits.memories, "left_out": fits.left_out}
    if behind is not None:
        fields["cursor"] = behind
    lines = lines_for_models(fits.memories, call.zone)
    head = f"{NOTE} The newest first." if lines else "Nothing is remembered yet."
    return ToolAnswer(fields, lines_under(head, lines, more=f"(older ones: cursor {behind})" if behind else ""))


def tell_show(call: AgentCall, given: Given) -> ToolAnswer:
    """All of one memory, a long one piece by piece, what it said before and where it was used."""
    memory = call.memories.one(given["id"])
    text, begin = str(memory["text"]), int(given.get("offset", 0))
    if begin and begin >= len(text):
        raise InvalidInputError(f"memory {memory['id']} ends at {len(text):,}; give a smaller offset")
    room = _tokens(given) * BYTES_OF_A_TOKEN
    piece = text[begin:].encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
    end = begin + len(piece)
    fields: dict[str, Any] = {
        "note": NOTE,
        "memory": told(memory, piece if begin or end < len(text) else None),
        "history": [{"text": clipped(harmless(str(one["text"])), LONGEST_LINE)} for one in memory["history"][-3:]],
        "used": [
            {**use, "query": clipped(harmless(str(use["query"])), LONGEST_LINE)} for use in memory["used"][:3]
        ],
    }  # fmt: skip
    if end < len(text):
        fields["next_offset"] = end
    lines = lines_for_models([fields["memory"]], call.zone)
    lines += [f"before it was corrected: {one['text']}" for one in fields["history"]]
    more = f"(goes on: offset {end})" if end < len(text) else ""
    return ToolAnswer(fields, lines_under(NOTE, lines, more=more))


def tell_why(call: AgentCall, given: Given) -> ToolAnswer:
    """How each memory was judged for a question, or for the last one of a chat."""
    query = given.get("query")
    if query is None:
        last = next(iter(call.recalls()), None)
        if last is None:
            raise InvalidInputError("no chat has recalled anything yet; give the query to explain")
        known = call.memories.known(row["id"] for row in last["memories"])
        found = [_as_judged(row, known.get(row["id"])) for row in last["memories"]]
        return _judged(call, str(last["query"]), found, last["injected"])
    found = call.memories.search(query, int(given.get("limit", 5)))["memories"]
    return _judged(call, query, found)


def _as_judged(row: Mapping[str, Any], known: Memory | None) -> dict[str, Any]:
    return {**row, "text": "(forgotten since)" if known is None else known.text, "score": row["fused"]}


def _judged(
    call: AgentCall, query: str, found: Sequence[Mapping[str, Any]], injected: Sequence[int] | None = None
) -> ToolAnswer:
    rows = [
        {
            "id": one["id"],
            "text": clipped(harmless(str(one["text"])), LONGEST_LINE),
            "relevant": one["relevant"] if injected is None else one["id"] in injected,
            "reason": one["reason"],
            "score": round(float(one["score"]), 3),
            "signals": {name: round(float(value), 3) for name, value in one["signals"].items()},
        }
        for one in found
    ]
    lines = []
    for row in rows:
        signals = ", ".join(f"{name} {value:+g}" for name, value in row["signals"].items())
        lines += [f"[{row['id']}] {row['score']:g} {row['reason']}: {on_one_line(row['text'])}", f"    {signals}"]
    asked = clipped(harmless(query), LONGEST_LINE)
    head = f"For {asked!r}:" if rows else f"For {asked!r} nothing was found."
    return ToolAnswer({"query": asked, "memories": rows}, lines_under(head, lines))


def tell_stats(call: AgentCall, given: Given) -> ToolAnswer:
    """How much is remembered, and by which model it is found."""
    memories = call.memories
    newest = memories.page(1)["memories"]
    fields: dict[str, Any] = {
        "memories": memories.count(),
        "pinned": memories.count(pinned=True),
        "conversations": len(memories.conversations(MOST_COUNTED)),
        "namespace": memories.namespace,
        "encoder": memories.bank.model.name,
        "writable": call.writable,
    }
    told_of = ", ".join(f"{name} {value}" for name, value in fields.items())
    if newest:
        fields["newest_at"] = newest[0]["created_at"]
    if fields["memories"] <= MOST_FOR_TOPICS:
        found = memories.bank.topics(memories.namespace)[:MOST_TOPICS]
        fields["topics"] = [{"name": harmless(topic.name), "memories": topic.size} for topic in found]
        told_of += "".join(f"\ntopic {topic['name']}: {topic['memories']}" for topic in fields["topics"])
    return ToolAnswer(fields, told_of)


def _since(given: Given) -> float | None:
    return None if given.get("days") is None else time.time() - DAY * float(given["days"])


def _tokens(given: Given) -> int:
    return int(given.get("max_tokens", 1000))
