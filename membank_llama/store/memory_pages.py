"""Memories by pages, the newest first, as people and programs leaf through a bank.

A page ends at a cursor, the time and id of its last memory, and the next one begins behind it: what comes or goes
meanwhile shifts nothing. What has expired is left out.
"""

from __future__ import annotations

import base64
import math
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from membank_llama.core.errors import InvalidQueryError
from membank_llama.core.provenance import KEY, MODEL_ROLES, NAMES, TOOL_ROLES, Provenance
from membank_llama.core.types import Memory

from .database import chunks
from .registry import Registry
from .row_format import COLUMNS, memories_of

MOST_ON_A_PAGE = 500
MOST_LETTERS = 200
"""Of a text that is looked for letter by letter."""
_CURSOR = struct.Struct(">dq")
_LIVES = "(pinned OR expires_at IS NULL OR expires_at > ?)"


def _named(names: Iterable[str]) -> str:
    return ",".join(f"'{name}'" for name in sorted(names))


_KNOWN = "CASE WHEN metadata != '{}' AND json_valid(metadata) THEN metadata ELSE '{}' END"
_PROVENANCE = (
    f"min(CASE WHEN lower(role) IN ({_named(MODEL_ROLES)}) THEN {int(Provenance.MODEL)}"
    f" WHEN lower(role) IN ({_named(TOOL_ROLES)}) THEN {int(Provenance.TOOL)}"
    f" WHEN source IS NOT NULL AND json_type({_KNOWN}, '$.part') IS NOT NULL THEN {int(Provenance.DOCUMENT)}"
    f" ELSE {int(Provenance.PERSON)} END, CASE json_extract({_KNOWN}, '$.{KEY}')"
    + "".join(f" WHEN '{name}' THEN {int(one)}" for name, one in NAMES.items())
    + f" ELSE {int(Provenance.PERSON)} END)"
)
"""What `provenance_of` says of a row (core/provenance.py)."""


@dataclass(frozen=True)
class MemoryFilter:
    """Which memories are meant; every condition that is given must hold.

    Args:
        conversation: of this one; an empty text for those of none.
        text: holds these letters, of either case where they are ASCII.
        provenance: from somebody or something of this kind alone, ``person`` or ``model``.
        pinned: only those that are, or that are not.
        since, until: first told in ``[since, until)``, seconds since 1970.
        ids: only some of these.

    Raises:
        InvalidQueryError: conditions that cannot be meant.
    """

    namespace: str | None = None
    conversation: str | None = None
    role: str | None = None
    source: str | None = None
    text: str | None = None
    provenance: str | None = None
    pinned: bool | None = None
    since: float | None = None
    until: float | None = None
    ids: frozenset[int] | None = None

    def __post_init__(self) -> None:
        for name, when in (("since", self.since), ("until", self.until)):
            if when is not None and not math.isfinite(when):
                raise InvalidQueryError(f"{name} is {when!r}; give seconds since 1970")
        if self.text is not None and len(self.text) > MOST_LETTERS:
            raise InvalidQueryError(f"a text of {len(self.text):,} letters is looked for; give {MOST_LETTERS} at most")
        if self.provenance is not None and self.provenance not in NAMES:
            raise InvalidQueryError(f"there is no provenance {self.provenance[:40]!r}; there are {', '.join(NAMES)}")


@dataclass(frozen=True)
class MemoryPage:
    """Some memories, the newest first, and the cursor behind the last one; None where there are no more."""

    memories: tuple[Memory, ...]
    cursor: str | None


class ConversationSummary(NamedTuple):
    """A conversation: how many memories it left, and when the first and the last of them was told."""

    conversation: str
    memories: int
    first: float
    last: float


def read_page(registry: Registry, chosen: MemoryFilter, limit: int = 50, cursor: str | None = None) -> MemoryPage:
    """The memories that fit, from behind a cursor on.

    Raises:
        InvalidQueryError: a limit or a cursor that is none.
    """
    if not 1 <= limit <= MOST_ON_A_PAGE:
        raise InvalidQueryError(f"limit is {limit}; ask for 1 to {MOST_ON_A_PAGE} memories")
    where, given = _conditions(chosen)
    if cursor is not None:
        created, last = _place_of(cursor)
        where += " AND (created_at < ? OR (created_at = ? AND id < ?))"
        given += [created, created, last]
    order = "ORDER BY created_at DESC, id DESC LIMIT ?"
    if chosen.ids is not None:
        # few, or a filter would not be one: sorted here, as they are asked for in pieces
        found = [
            memory
            for marks, some in chunks(chosen.ids)
            for memory in memories_of(
                registry.rows(f"SELECT {COLUMNS} FROM memories WHERE {where} AND id IN ({marks})", [*given, *some])
            )
        ]
        found = sorted(found, key=lambda one: (one.first_told_at, one.id), reverse=True)[: limit + 1]
    else:
        rows = registry.rows(f"SELECT {COLUMNS} FROM memories WHERE {where} {order}", [*given, limit + 1])
        found = memories_of(rows)
    more = len(found) > limit
    shown = found[:limit]
    return MemoryPage(tuple(shown), _cursor_at(shown[-1]) if more else None)


def count_fitting(registry: Registry, chosen: MemoryFilter) -> int:
    """How many memories fit; `ids` do not count here."""
    where, given = _conditions(chosen)
    return int(registry.scalar(f"SELECT count(*) FROM memories WHERE {where}", given))


def fitting_ids(registry: Registry, chosen: MemoryFilter) -> frozenset[int]:
    """Ids of all memories that fit."""
    where, given = _conditions(chosen)
    found = frozenset(int(row[0]) for row in registry.rows(f"SELECT id FROM memories WHERE {where}", given))
    return found if chosen.ids is None else found & chosen.ids


def newest_id(registry: Registry, namespace: str) -> int:
    """The id of what a namespace was told last as something new; 0 where it holds nothing."""
    return int(registry.scalar("SELECT coalesce(max(id), 0) FROM memories WHERE namespace = ?", (namespace,)))


def count_newer(registry: Registry, namespace: str, memory_id: int) -> int:
    """How many memories came after one."""
    sql = f"SELECT count(*) FROM memories WHERE namespace = ? AND id > ? AND {_LIVES}"
    return int(registry.scalar(sql, (namespace, memory_id, time.time())))


def conversations_of(registry: Registry, namespace: str, limit: int = 100) -> list[ConversationSummary]:
    """The conversations of a namespace, the one used last first."""
    rows = registry.rows(
        "SELECT conversation, count(*), min(created_at), max(last_seen) FROM memories"
        f" WHERE namespace = ? AND conversation IS NOT NULL AND {_LIVES}"
        " GROUP BY conversation ORDER BY 4 DESC, 1 LIMIT ?",
        (namespace, time.time(), limit),
    )
    return [ConversationSummary(str(name), int(count), float(first), float(last)) for name, count, first, last in rows]


def _conditions(chosen: MemoryFilter) -> tuple[str, list[Any]]:
    where, given = [_LIVES], [time.time()]
    conditions: tuple[tuple[str, Any], ...] = (
        # a conversation is found by its own index, which is smaller than its namespace
        ("+namespace = ?" if chosen.conversation else "namespace = ?", chosen.namespace),
        ("conversation = ?", chosen.conversation or None),
        ("role = ?", chosen.role),
        ("source = ?", chosen.source),
        ("created_at >= ?", chosen.since),
        ("created_at < ?", chosen.until),
        (f"{_PROVENANCE} = ?", None if chosen.provenance is None else int(NAMES[chosen.provenance])),
        ("pinned = ?", None if chosen.pinned is None else int(chosen.pinned)),
        ("text LIKE ? ESCAPE '\\'", _pattern(chosen.text) if chosen.text else None),
    )
    for condition, value in conditions:
        if value is not None:
            where.append(condition)
            given.append(value)
    if chosen.conversation == "":
        where.append("conversation IS NULL")
    return " AND ".join(where), given


def _pattern(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _cursor_at(memory: Memory) -> str:
    return base64.urlsafe_b64encode(_CURSOR.pack(memory.first_told_at, memory.id)).decode().rstrip("=")


def _place_of(cursor: str) -> tuple[float, int]:
    try:
        created, last = _CURSOR.unpack(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
    except (ValueError, struct.error) as exc:
        raise InvalidQueryError("the cursor is none that a page gave; begin anew without it") from exc
    if not math.isfinite(created):
        raise InvalidQueryError("the cursor is none that a page gave; begin anew without it")
    return float(created), int(last)
