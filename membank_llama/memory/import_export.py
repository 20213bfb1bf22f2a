"""Export and import: a bank's memories as JSONL, one memory a line, every field of it.

Vectors are not exported: they belong to a model, the text does not. An import computes them anew, keeps times, roles
and everything else, gives new ids, and skips what its namespace already holds; nothing is stored before every line
has been read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TextIO

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import NewMemory, Progress

from .bank import MemBank
from .ingest_results import IngestResult
from .memory_files import memory_of_line
from .memory_json import memory_fields

_DEFAULTS = NewMemory("")


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
        if not line:
            continue
        try:
            item = memory_of_line(line, f"line {number}", _DEFAULTS, foreign=True)
        except InvalidInputError as exc:
            raise type(exc)(f"{exc}; nothing was imported") from exc
        yield item if namespace is None else replace(item, namespace=namespace)
