"""What REST can do, in one table: routes, checks of what comes, the description and the docs are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import memory_acts as acts
from .memory_schemas import (
    ASKED,
    CONDITIONS,
    CORRECTION,
    FLAG,
    FORGETTING,
    LIMIT,
    NEW_MEMORY,
    QUESTION,
    SECONDS,
    TOLD,
    UNDO,
    ref,
)
from .value_check import Schema

JSON, JSON_LINES, PLAIN = "application/json", "application/x-ndjson", "text/plain"


@dataclass(frozen=True)
class RestOperation:
    """One thing that can be asked.

    Args:
        path: with ``{id}`` where a memory's id stands.
        name: of a function, in clients that are made of the description.
        answer: a name of `ANSWERS`, or a schema.
        query: schemas of what may stand behind the ``?``.
        needed: of them, those that must.
        body: schema of what is sent; None for nothing.
        statuses: of answers that are no error.
        errors: what else it is answered with, beside what everything is.
        act: does it; None for what is answered elsewhere.
    """

    method: str
    path: str
    name: str
    summary: str
    answer: str
    act: acts.Act | None = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    body: Schema | None = None
    body_needed: bool = True
    statuses: tuple[int, ...] = (200,)
    errors: tuple[int, ...] = ()
    media: str = JSON

    @property
    def answer_schema(self) -> dict[str, Any]:
        """Of an answer that is no error."""
        return ref(self.answer) if self.media == JSON else {"type": "string"}


_MEMORIES, _ONE, _SEARCH = "/membank/memories", "/membank/memories/{id}", "/membank/search"
DESCRIPTION = "/membank/openapi.json"
OPERATIONS: tuple[RestOperation, ...] = (
    RestOperation(
        "GET", _MEMORIES, "list_memories", "Memories, the newest first, by pages.", "Page", acts.list_memories,
        query={**CONDITIONS, "limit": LIMIT, "cursor": {"type": "string", "maxLength": 64}},
    ),
    RestOperation(
        "POST", _MEMORIES, "create_memory", "Remember a text; 200 where it is known already.", "StoredMemory",
        acts.create_memory, body=NEW_MEMORY, statuses=(201, 200), errors=(409,),
    ),
    RestOperation(
        "GET", _ONE, "read_memory", "A memory, what it said before, and where it was used.", "MemoryInFull",
        acts.read_memory, errors=(404,),
    ),
    RestOperation(
        "PATCH", _ONE, "change_memory",
        "Say better what it says (the answer is the new one, under another id), pin it, or both.", "ChangedMemory",
        acts.change_memory, body=CORRECTION, errors=(404, 409),
    ),
    RestOperation(
        "DELETE", _ONE, "forget_memory", "Forget it, with the replies that only repeat it.", "Forgetting",
        acts.forget_memory, query={"dry_run": FLAG, "seconds": SECONDS, "keep_replies": FLAG}, errors=(404, 409),
    ),
    RestOperation(
        "PUT", f"{_ONE}/pin", "pin_memory", "Keep it past its expiry.", "Memory", acts.pin_memory, errors=(404, 409)
    ),
    RestOperation(
        "DELETE", f"{_ONE}/pin", "unpin_memory", "Let it expire again.", "Memory", acts.unpin_memory,
        errors=(404, 409),
    ),
    RestOperation(
        "GET", _SEARCH, "search_memories", "What belongs to a question, the best first, and why.", "Found",
        acts.search_memories, query=QUESTION, needed=("q",),
    ),
    RestOperation(
        "POST", _SEARCH, "search_memories_unlogged", "The same, with the question in the body.", "Found",
        acts.search_memories, body=ASKED,
    ),
    RestOperation(
        "POST", "/membank/forget", "forget_memories",
        "Forget memories by ids or by conditions; by conditions it only says what would go, until `dry_run` is false.",
        "Forgetting", acts.forget_memories, body=FORGETTING, errors=(404, 409),
    ),
    RestOperation(
        "POST", "/membank/undo", "undo_change", "Take back a change, or the newest one.", "Change", acts.undo_change,
        body=UNDO, body_needed=False, errors=(404, 409),
    ),
    RestOperation(
        "GET", "/membank/changes", "list_changes", "What can be undone, the newest first.", "Changes",
        acts.list_changes,
    ),
    RestOperation(
        "GET", "/membank/conversations", "list_conversations", "Conversations, the one used last first.",
        "Conversations", acts.list_conversations, query={"limit": {**LIMIT, "default": 100}},
    ),
    RestOperation(
        "GET", "/membank/topics", "list_topics", "What the memories are about, the largest topic first.", "Topics",
        acts.list_topics,
    ),
    RestOperation(
        "GET", "/membank/namespaces", "list_namespaces", "The namespaces that the token may see.", "Namespaces",
        acts.list_namespaces,
    ),
    RestOperation(
        "GET", "/membank/export", "export_memories", "Every memory, a line each, as `membank import` reads them.",
        "Memory", acts.export_memories_lines, media=JSON_LINES,
    ),
    RestOperation("GET", "/membank/stats", "read_stats", "Counts, sizes, and what encodes.", "Stats", acts.read_stats),
    RestOperation("GET", DESCRIPTION, "describe", "This description, OpenAPI 3.1.", "Description"),
)  # fmt: skip
"""What every bank answers."""

OF_THE_PROXY: tuple[RestOperation, ...] = (
    RestOperation("GET", "/membank/status", "read_status", "Engine, encoder, and what waits to be stored.", "Status"),
    RestOperation("GET", "/membank/why", "list_recalls", "The last recalls, score by score.", "Recalls"),
    RestOperation(
        "POST", "/membank/recall", "recall_into_messages", "The same messages with memories in them; for hooks.",
        "Recalled", body=TOLD,
    ),
    RestOperation(
        "POST", "/membank/learn", "learn_messages", "Remember what is new of a conversation; for hooks.", "Queued",
        body=TOLD,
    ),
)  # fmt: skip
"""What `membank serve` answers beside that (proxy/status_api.py)."""
