"""JSON schemas of what REST takes and gives: the one shape of a memory, and what stands around it."""

from __future__ import annotations

from typing import Any

from membank_llama.core.days import FIRST_SECOND, LAST_SECOND
from membank_llama.core.provenance import NAMES
from membank_llama.memory.bank_undo import GRACE_SECONDS, LONGEST_GRACE
from membank_llama.memory.namespace_memories import MOST_FORGOTTEN_AT_ONCE
from membank_llama.store.memory_pages import MOST_LETTERS, MOST_ON_A_PAGE

MOST_CHARACTERS = 65_536
MOST_ASKED_FOR = 100
MOST_SHOWN = 50
"""Of the memories that would go, so many are shown."""


def ref(name: str) -> dict[str, Any]:
    """Where a schema stands in the description."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(name: str, what: dict[str, Any], **beside: dict[str, Any]) -> dict[str, Any]:
    """An object with a list of such."""
    return whole({name: {"type": "array", "items": what}, **beside})


def whole(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """An object of these and no others."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _text(most: int = 512, **more: Any) -> dict[str, Any]:
    return {"type": "string", "maxLength": most, **more}


def _or_none(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": [kind, "null"], **more}


ID = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
_IDS = {"type": "array", "items": ID}
_AT = {"type": "number", "description": "Seconds since 1970."}
TIME = {
    "anyOf": [
        {"type": "number", "minimum": FIRST_SECOND, "maximum": LAST_SECOND},
        {"type": "string", "minLength": 1, "maxLength": 64, "examples": ["2025-01-31T18:00:00Z"]},
    ],
    "description": "Seconds since 1970, or ISO 8601; without an offset it is of X-Membank-Timezone, or of the server.",
}
FLAG = {"type": "boolean", "default": False}
SECONDS = {
    "type": "number",
    "minimum": 0,
    "maximum": LONGEST_GRACE,
    "default": GRACE_SECONDS,
    "description": "How long it can be brought back.",
}
LIMIT = {"type": "integer", "minimum": 1, "maximum": MOST_ON_A_PAGE, "default": 50}
CONDITIONS = {
    "conversation": _text(description="Of this one; empty: of none."),
    "role": _text(64, minLength=1),
    "source": _text(1024, minLength=1),
    "text": _text(MOST_LETTERS, minLength=1, description="Holds these letters."),
    "pinned": {"type": "boolean"},
    "since": TIME,
    "until": TIME,
}
QUESTION = {
    "q": _text(8192, minLength=1, description="What to look for, in words."),
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_ASKED_FOR, "default": 10},
    **CONDITIONS,
    "topic": _text(200, minLength=1, description="The id or name of a topic: only among its memories."),
}

_MEMORY = {
    "id": ID,
    "text": {"type": "string"},
    "role": {"type": "string"},
    "namespace": {"type": "string"},
    "conversation": _or_none("string"),
    "created_at": {"type": "number", "description": "When it was told last, seconds since 1970."},
    "first_told_at": _AT,
    "source": _or_none("string"),
    "provenance": {"type": "string", "enum": list(NAMES)},
    "metadata": {"type": "object"},
    "pinned": {"type": "boolean"},
    "expires_at": _or_none("number"),
    "text_hash": {"type": "string"},
}
_FULL = {
    **_MEMORY,
    "history": {
        "type": "array",
        "items": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        "description": "What it said before, oldest first.",
    },
    "used": {
        "type": "array",
        "items": whole({"conversation": _or_none("string"), "at": _AT, "query": {"type": "string"}}),
        "description": "Where it was put into a prompt, newest first.",
    },
}
_JUDGED = {
    "relevant": {"type": "boolean", "description": "Whether the gate would let it into a prompt."},
    "reason": {"type": "string"},
    "score": {"type": "number"},
    "cosine": _or_none("number"),
    "passage": _or_none("string", description="Of a long text, the part that was found."),
    "signals": {"type": "object", "additionalProperties": {"type": "number"}},
    "levels": {"type": "array", "items": _or_none("number"), "minItems": 3, "maxItems": 3},
    "words": {"type": "number"},
    "duplicates": _IDS,
}
_NUMBERS = {"type": "object", "additionalProperties": {"type": "number"}}

ANSWERS: dict[str, dict[str, Any]] = {
    "Error": whole({"error": {"type": "string"}}),
    "Memory": whole(_MEMORY),
    "MemoryInFull": whole(_FULL),
    "StoredMemory": whole({**_MEMORY, "is_new": {"type": "boolean", "description": "False: it was known already."}}),
    "ChangedMemory": whole({**_FULL, "replaces": _or_none("integer"), "change": _or_none("string")}),
    "FoundMemory": whole({**_MEMORY, **_JUDGED}),
    "Page": list_of("memories", ref("Memory"), cursor=_or_none("string", description="Of the next page.")),
    "Found": list_of("memories", ref("FoundMemory"), query={"type": "string"}),
    "Change": whole(
        {
            "id": {"type": "string"},
            "kind": {"type": "string"},
            "at": _AT,
            "namespace": _or_none("string"),
            "ids": _IDS,
            "until": _or_none("number", description="When it becomes final; null: not by itself."),
        }
    ),
    "Changes": list_of("changes", ref("Change")),
    "Forgetting": whole(
        {
            "dry_run": {"type": "boolean", "description": "True: this is what would go; nothing was changed."},
            "count": {"type": "integer", "minimum": 0},
            "ids": _IDS,
            "memories": {"type": "array", "items": ref("Memory"), "description": f"The first {MOST_SHOWN} of them."},
            "token": {"type": "string", "description": "Stands for just these; send it with what is to be done."},
            "change": {"anyOf": [ref("Change"), {"type": "null"}], "description": "What undo takes back."},
        }
    ),
    "Conversations": list_of(
        "conversations",
        whole({"conversation": {"type": "string"}, "memories": {"type": "integer"}, "first": _AT, "last": _AT}),
    ),
    "Topics": list_of(
        "topics",
        whole(
            {
                "id": {"type": "string"},
                "name": {"type": "string"},
                "words": {"type": "array", "items": {"type": "string"}},
                "memories": {"type": "integer"},
                "oldest": _AT,
                "newest": _AT,
                "example": whole({"id": ID, "text": {"type": "string"}}),
            }
        ),
    ),
    "Namespaces": list_of("namespaces", whole({"namespace": {"type": "string"}, "memories": {"type": "integer"}})),
    "Stats": whole(
        {
            "namespace": {"type": "string"},
            "memories": {"type": "integer"},
            "pinned": {"type": "integer"},
            "encoder": whole(
                {
                    "id": {"type": "string"},
                    "name": {"type": "string"},
                    "dim": {"type": "integer"},
                    "at_hand": {"type": "boolean", "description": "False: by words alone, and nothing new is stored."},
                }
            ),
            "read_only": {"type": "boolean"},
            "bank": {
                "anyOf": [
                    whole(
                        {
                            "name": {"type": "string"},
                            "memories": {"type": "integer"},
                            "namespaces": {"type": "integer"},
                            "bytes": _NUMBERS,
                            "level_bytes": _NUMBERS,
                            "level_share": _NUMBERS,
                            "kv_bytes": {"type": "integer"},
                        }
                    ),
                    {"type": "null"},
                ],
                "description": "The whole bank, for whoever may see all namespaces.",
            },
        }
    ),
    "Status": {"type": "object", "required": ["version", "bank", "namespace", "memories"]},
    "Recalls": {"type": "object", "required": ["namespace", "recalls"]},
    "Recalled": {"type": "object", "required": ["messages", "memories", "conversation", "state"]},
    "Queued": whole({"queued": {"type": "integer"}}),
    "Description": {"type": "object", "required": ["openapi", "info", "paths"]},
}

NEW_MEMORY = whole(
    {
        "text": _text(MOST_CHARACTERS, minLength=1),
        "role": _text(64, minLength=1, default="user", description="Who says it: user, assistant, note, …"),
        "conversation": {"type": ["string", "null"], "minLength": 1, "maxLength": 512},
        "source": {"type": ["string", "null"], "minLength": 1, "maxLength": 1024},
        "metadata": {"type": ["object", "null"]},
        "pinned": FLAG,
        "created_at": {"anyOf": [*TIME["anyOf"], {"type": "null"}], "description": "Now, where it is not given."},
        "expires_at": {"anyOf": [*TIME["anyOf"], {"type": "null"}], "description": "Never, where it is not given."},
    },
    optional=("role", "conversation", "source", "metadata", "pinned", "created_at", "expires_at"),
)
CORRECTION = {
    **whole({"text": _text(MOST_CHARACTERS, minLength=1), "pinned": {"type": "boolean"}}, ("text", "pinned")),
    "minProperties": 1,
}
ASKED = whole(QUESTION, tuple(name for name in QUESTION if name != "q"))
FORGETTING = {
    **whole(
        {
            "ids": {"type": "array", "items": ID, "minItems": 1, "maxItems": MOST_FORGOTTEN_AT_ONCE},
            **CONDITIONS,
            "dry_run": {"type": "boolean", "description": "Default: false for ids, true for conditions."},
            "seconds": SECONDS,
            "keep_replies": {**FLAG, "description": "Keep the model's replies that only repeat them."},
            "token": _text(64, description="Of a dry run: what would go has to be the same still."),
            "count": {"type": "integer", "minimum": 0, "description": "So many have to go."},
        },
        ("ids", *CONDITIONS, "dry_run", "seconds", "keep_replies", "token", "count"),
    ),
    "minProperties": 1,
}
UNDO = whole({"change": _text(64, minLength=1, description="By default the newest one.")}, ("change",))
TOLD = {
    "type": "object",
    "properties": {"messages": {"type": "array", "items": {"type": "object"}}, "model": {"type": "string"}},
    "required": ["messages"],
}
