"""The tools that change something: memory_save, memory_correct, memory_forget, memory_undo, memory_pin.

Each can be told twice with the same effect or says that it cannot, and what was done can be undone. What an agent
concludes by itself is kept as what a tool says: it is found, and outweighs nothing that a person said.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from membank_llama.core.errors import EmptyTextError, ModelError
from membank_llama.core.provenance import KEY, Provenance
from membank_llama.memory.block_lines import on_one_line
from membank_llama.memory.prompt_block import strip_block

from .reading_tools import DAY, LONGEST_LINE, AgentCall, Given
from .tool_answers import ToolAnswer, clipped, harmless

UNDO_SECONDS = 600.0
"""How long what an agent forgets can be brought back."""
MOST_SHOWN = 20
AGENT = "agent"
"""The role of what an agent says of itself."""


def do_save(call: AgentCall, given: Given) -> ToolAnswer:
    """Remember a text; one that is known already is told again and no new one."""
    text = _said(given["text"])
    own = given["said_by"] == AGENT
    days = given.get("expires_in_days")
    with _encoding(call):
        stored = call.memories.create(
            text,
            role=AGENT if own else "user",
            metadata={KEY: Provenance.TOOL.name.lower()} if own else None,
            source=f"mcp:{call.client}",
            conversation=given.get("conversation"),
            pinned=bool(given.get("pinned", False)),
            expires_at=None if days is None else time.time() + DAY * float(days),
        )
    if given.get("pinned") and not stored["pinned"]:
        stored = call.memories.pin(stored["id"]) | {"is_new": stored["is_new"]}
    fields = {name: stored[name] for name in ("id", "is_new", "provenance", "pinned")}
    known = "" if stored["is_new"] else ", which was known already"
    return ToolAnswer(fields, f"Saved as memory {stored['id']}{known}.")


def do_correct(call: AgentCall, given: Given) -> ToolAnswer:
    """Put a better text in a memory's place."""
    with _encoding(call):
        new = call.memories.correct(given["id"], _said(given["text"]))
    fields = {"id": new["id"], "replaces": new["replaces"]}
    undo = ""
    if new["change"] is not None:
        fields["change"] = new["change"]
        undo = f" memory_undo with change {new['change']} takes it back."
    return ToolAnswer(fields, f"Memory {new['replaces']} is now {new['id']}.{undo}")


def do_forget(call: AgentCall, given: Given) -> ToolAnswer:
    """Forget memories by their ids, or say which ones fit and forget them when that is confirmed."""
    conditions: dict[str, Any] = {name: given.get(name) for name in ("text", "conversation")}
    if given.get("older_than_days") is not None:
        conditions["until"] = time.time() - DAY * float(given["older_than_days"])
    ids = given.get("ids")
    chosen = call.memories.forgettable(ids, **conditions)
    shown: list[dict[str, Any]] = [
        {"id": one.id, "text": clipped(harmless(one.text), LONGEST_LINE)} for one in chosen[:MOST_SHOWN]
    ]  # fmt: skip
    fields: dict[str, Any] = {"done": False, "count": len(chosen), "memories": shown}
    lines = [f"[{one['id']}] {on_one_line(one['text'])}" for one in shown]
    if len(chosen) > len(shown):
        lines.append(f"and {len(chosen) - len(shown):,} more")
    if not chosen:
        return ToolAnswer(fields, "Nothing fits; nothing was forgotten.")
    if ids is None and not given.get("confirm"):
        head = f"Nothing is forgotten yet; {len(chosen):,} would be. To do it, call again with confirm true:"
        return ToolAnswer(fields, "\n".join([head, *lines]))
    change = call.memories.forget([one.id for one in chosen], UNDO_SECONDS)
    fields |= {"done": True, "change": change.id}
    if change.until is not None:
        fields["until"] = change.until
    head = f"Forgotten: {len(chosen):,}. For {UNDO_SECONDS / 60:.0f} minutes memory_undo with change {change.id} brings"
    return ToolAnswer(fields, "\n".join([f"{head} {'it' if len(chosen) == 1 else 'them'} back.", *lines]))


def do_undo(call: AgentCall, given: Given) -> ToolAnswer:
    """Take back the last change, or the one named."""
    change = call.memories.undo(given.get("change"))
    fields = {"change": change["id"], "kind": change["kind"], "ids": change["ids"]}
    ids = ", ".join(map(str, change["ids"][:MOST_SHOWN]))
    return ToolAnswer(fields, f"Undone: {change['kind']}. There are now the memories {ids}.")


def do_pin(call: AgentCall, given: Given) -> ToolAnswer:
    """Keep a memory past its expiry, or no longer."""
    memory = call.memories.pin(given["id"], bool(given.get("pinned", True)))
    state = "pinned" if memory["pinned"] else "no longer pinned"
    return ToolAnswer({"id": memory["id"], "pinned": memory["pinned"]}, f"Memory {memory['id']} is {state}.")


@contextmanager
def _encoding(call: AgentCall) -> Iterator[None]:
    """Says what to do where nothing encodes; another process that holds the bank may."""
    try:
        yield
    except ModelError as exc:
        bank = call.memories.bank
        if bank.adapter is not None:
            raise
        raise ModelError(
            f"{bank.model.name}, which made these memories, is gone, and nothing new can be saved. The person can say "
            "where it is (membank mcp --encoder FILE) or move to another model (membank reencode MODEL)"
        ) from exc


def _said(text: str) -> str:
    """The text to remember, without any block of memories that stood in the agent's prompt.

    Raises:
        EmptyTextError: nothing else is in it.
    """
    said = strip_block(text).strip()
    if not said:
        raise EmptyTextError("there is nothing to remember in the text; give a sentence that says something new")
    return said
