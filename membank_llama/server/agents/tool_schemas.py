"""What the tools take and answer, as JSON Schema: short, as every agent carries it in its prompt."""

from __future__ import annotations

from typing import Any

ToolSchema = dict[str, Any]

TOKENS = {"type": "integer", "minimum": 200, "maximum": 20_000, "default": 1000, "description": "Most tokens answered."}
ID = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1, "description": "Id of a memory, as a search shows it."}
CONVERSATION = {"type": "string", "minLength": 1, "maxLength": 200, "description": "Of this conversation only."}
TOPIC = {
    "type": "string",
    "minLength": 1,
    "maxLength": 200,
    "description": "Of this topic only; memory_stats has them.",
}
DAYS = {
    "type": "number", "exclusiveMinimum": 0, "maximum": 100_000, "description": "Told in the last so many days only."
}  # fmt: skip

_NUMBER, _TEXT, _WHOLE, _YES_OR_NO = {"type": "number"}, {"type": "string"}, {"type": "integer"}, {"type": "boolean"}

MEMORY: ToolSchema = {
    "type": "object",
    "properties": {
        "id": _WHOLE,
        "text": _TEXT,
        "role": _TEXT,
        "provenance": {"enum": ["person", "document", "import", "tool", "model"]},
        "created_at": {"type": "integer", "description": "Seconds since 1970."},
        "conversation": _TEXT,
        "source": _TEXT,
        "pinned": _YES_OR_NO,
        "cut": {"type": "boolean", "description": "There is more: memory_show tells all of it."},
        "relevant": _YES_OR_NO,
    },
    "required": ["id", "text", "role", "provenance", "created_at"],
}
MEMORIES: ToolSchema = {"type": "array", "items": MEMORY}


def takes(required: tuple[str, ...] = (), **properties: ToolSchema) -> ToolSchema:
    """What a tool takes, and nothing else."""
    return {
        "type": "object", "properties": properties, "required": list(required), "additionalProperties": False
    }  # fmt: skip


def gives(required: tuple[str, ...] = (), **properties: ToolSchema) -> ToolSchema:
    """What a tool answers."""
    return {"type": "object", "properties": properties, "required": list(required)}


FOUND = gives(("note", "memories", "left_out"), note=_TEXT, memories=MEMORIES, left_out=_WHOLE)
RECENT = gives(
    ("note", "memories", "left_out"), note=_TEXT, memories=MEMORIES, left_out=_WHOLE, cursor=_TEXT
)  # fmt: skip
SHOWN = gives(
    ("note", "memory", "history", "used"),
    note=_TEXT,
    memory=MEMORY,
    next_offset=_WHOLE,
    history={"type": "array", "items": gives(text=_TEXT)},
    used={"type": "array", "items": gives(conversation=_TEXT, at=_NUMBER, query=_TEXT)},
)
WHY = gives(
    ("query", "memories"),
    query=_TEXT,
    memories={
        "type": "array",
        "items": gives(
            ("id", "relevant", "reason"),
            id=_WHOLE, text=_TEXT, relevant=_YES_OR_NO, reason=_TEXT, score=_NUMBER,
            signals={"type": "object", "additionalProperties": _NUMBER},
        ),
    },
)  # fmt: skip
STATS = gives(
    ("memories", "pinned", "conversations", "namespace"),
    memories=_WHOLE, pinned=_WHOLE, conversations=_WHOLE, namespace=_TEXT, encoder=_TEXT, newest_at=_NUMBER,
    writable=_YES_OR_NO,
    topics={"type": "array", "items": gives(("name", "memories"), name=_TEXT, memories=_WHOLE)},
)  # fmt: skip
SAVED = gives(
    ("id", "is_new", "provenance"), id=_WHOLE, is_new=_YES_OR_NO, provenance=_TEXT, pinned=_YES_OR_NO
)  # fmt: skip
CORRECTED = gives(("id", "replaces"), id=_WHOLE, replaces=_WHOLE, change=_TEXT)
FORGOTTEN = gives(
    ("done", "count", "memories"),
    done=_YES_OR_NO, count=_WHOLE, memories={"type": "array", "items": gives(("id",), id=_WHOLE, text=_TEXT)},
    change=_TEXT, until=_NUMBER,
)  # fmt: skip
UNDONE = gives(("change", "kind", "ids"), change=_TEXT, kind=_TEXT, ids={"type": "array", "items": _WHOLE})
PINNED = gives(("id", "pinned"), id=_WHOLE, pinned=_YES_OR_NO)
