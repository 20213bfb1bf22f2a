"""Export and import: a bank's memories as JSONL, one memory a line, every field of it.

Vectors are not exported: they belong to a model, the text does not. An import computes them anew, keeps times, roles
and everything else, gives new ids, and skips what its namespace already holds; nothing is stored before every line
has been read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from .bank import MemBank
from .errors import InvalidInputError
from .items import IngestResult
from .types import DEFAULT_NAMESPACE, Memory, NewMemory, Progress

_OPTIONAL_TEXT = ("conversation", "source")
_TIMES = ("created_at", "expires_at")


def memory_fields(memory: Memory) -> dict[str, Any]:
    """A memory as JSON-able fields; times are seconds since 1970."""
    return {
        "id": memory.id,
        "text": memory.text,
        "role": memory.role,
        "namespace": memory.namespace,
        "conversation": memory.conversation,
        "created_at": memory.created_at,
        "source": memory.source,
        "metadata": dict(memory.metadata),
        "pinned": memory.pinned,
        "expires_at": memory.expires_at,
        "text_hash": memory.text_hash,
    }


def export_memories(
    bank: MemBank, stream: TextIO, *, namespace: str | None = None, progress: Progress | None = None
) -> int:
    """Write every memory, of one namespace or of all, as one line of JSON; returns how many there were."""
    count = 0
    total = bank.stats()["memories"]
    for memory in bank.memories(namespace):
        stream.write(json.dumps(memory_fields(memory), ensure_ascii=False) + "\n")
        count += 1
        if progress is not None and count % 100 == 0:
            progress("exporting", count, max(count, total))
    return count


def import_memories(
    bank: MemBank, lines: Iterable[str], *, namespace: str | None = None, progress: Progress | None = None
) -> list[IngestResult]:
    """Read what `export_memories` wrote, or any JSONL with a ``text`` in every line.

    Args:
        namespace: where everything goes; by default, where each line says.

    Raises:
        InvalidInputError: a line cannot be used; the message names it, and nothing was stored.
    """
    items = list(parse_lines(lines, namespace=namespace))
    return bank.ingest_many(items, progress=progress)


def parse_lines(lines: Iterable[str], *, namespace: str | None = None) -> Iterator[NewMemory]:
    """Memories from JSONL; blank lines are skipped.

    Raises:
        InvalidInputError: a line cannot be used; the message names it.
    """
    for number, line in enumerate(lines, 1):
        # the byte order mark that some editors put ahead of a file
        line = line.lstrip("\ufeff").strip()
        if line:
            yield _parse(number, line, namespace)


def _parse(number: int, line: str, namespace: str | None) -> NewMemory:
    try:
        fields = json.loads(line)
    except ValueError as exc:
        raise InvalidInputError(f"line {number} is not JSON ({exc}); nothing was imported") from exc
    except RecursionError as exc:
        raise InvalidInputError(f"line {number} is nested too deep; nothing was imported") from exc
    if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
        raise InvalidInputError(f'line {number} has no "text"; every line must be {{"text": "…", …}}')
    text = fields["text"]
    if not text.strip():
        raise InvalidInputError(f"line {number} has an empty text; nothing was imported")
    for name in (*_OPTIONAL_TEXT, "role", "namespace"):
        _check(number, name, fields.get(name), str)
    for name in _TIMES:
        _check(number, name, fields.get(name), (int, float))
    _check(number, "metadata", fields.get("metadata"), Mapping)
    _check(number, "pinned", fields.get("pinned"), bool)
    return NewMemory(
        text,
        fields.get("metadata") or {},
        fields.get("role") or "user",
        namespace or fields.get("namespace") or DEFAULT_NAMESPACE,
        fields.get("conversation"),
        fields.get("created_at"),
        fields.get("source"),
        bool(fields.get("pinned")),
        fields.get("expires_at"),
    )


def _check(number: int, name: str, value: Any, kind: type | tuple[type, ...]) -> None:
    wrong_number = isinstance(value, bool) and kind is not bool
    if value is not None and (not isinstance(value, kind) or wrong_number):
        raise InvalidInputError(f"line {number}: {name} is {value!r}, which cannot be used; nothing was imported")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInputError(f"line {number}: {name} is {value}; give seconds since 1970 as a finite number")
