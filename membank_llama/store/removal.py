"""Deleting memories from the registry, and what is then left to overwrite.

One transaction takes rows, passages, words and pointers away and notes in `erasures` which vectors the saved index and
the activation file still hold. `Store` overwrites those; the note goes when nothing is left, so that what a kill
interrupts is finished at the next opening.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from typing import NamedTuple, Protocol

from membank_llama.core.errors import BankStorageError

from .database import chunks
from .registry import Registry

Listener = Callable[[Mapping[str, Sequence[str]]], None]
"""Whoever keeps copies of memories beside the bank: told of their texts, by namespace, ahead of their removal. What it
raises stops the removal."""

LONG, HEAD, TAIL = 2000, 256, 16
"""Bytes from which a text may lie in several pages of the file, and how much of its beginning or end is looked for."""

PIECE = 1 << 22
MOST_SEARCHED = 16
"""Texts looked for in the file one by one; rewriting it is cheaper than to look for more."""


class Erasable(Protocol):
    """A file being written, from which the vectors of some labels can be taken out again."""

    def erase(self, labels: Sequence[int]) -> None: ...


class Trace(NamedTuple):
    """A text as the file held it: its hash, and its end with the hash behind it, or its beginning where it is long."""

    text_hash: bytes
    data: bytes


@dataclass
class Removal:
    """What deleting came to: how many memories there were, the labels of their vectors by namespace, the slots that
    nothing points at any more, and what to look for in the file."""

    memories: int = 0
    labels: dict[str, list[int]] = field(default_factory=dict)
    slots: list[int] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)


def delete_memories(registry: Registry, ids: Sequence[int], listeners: Sequence[Listener] = ()) -> Removal:
    """Remove memories with their passages, words and pointers, and note what is left to overwrite."""
    texts = _texts_of(registry, ids) if listeners else {}
    for tell in listeners if texts else ():
        tell(texts)
    gone = Removal()
    with registry.transaction() as db:
        for marks, piece in chunks(ids):
            _delete(registry, marks, piece, gone)
        if gone.memories:
            registry.bump(db)
            registry.lifetimes_changed(db)
    return gone


def _texts_of(registry: Registry, ids: Iterable[int]) -> dict[str, list[str]]:
    """The texts of memories by namespace, as far as they can be read."""
    found: dict[str, list[str]] = {}
    for marks, piece in chunks(ids):
        read = f"SELECT namespace, CAST(text AS BLOB) FROM memories WHERE id IN ({marks})"
        for namespace, text in registry.rows(read, piece):
            found.setdefault(str(namespace), []).append(_readable(text))
    return found


def _delete(registry: Registry, marks: str, ids: Sequence[int], gone: Removal) -> None:
    # what is damaged must go too, be it no text any more
    read = f"SELECT id, slot, namespace, CAST(text AS BLOB), text_hash FROM memories WHERE id IN ({marks})"
    found = [(*row[:2], str(row[2]), _readable(row[3]), row[4]) for row in registry.rows(read, ids)]
    parts = registry.rows(f"SELECT id, slot, namespace FROM passages WHERE memory_id IN ({marks})", ids)
    labels = [row[:3] for row in (*found, *parts)]
    slots = [(slot,) for _, slot, _ in labels]
    registry.words.unfile([(row[0], row[2], row[3]) for row in found])
    with registry.transaction() as db:
        db.execute(f"DELETE FROM memories WHERE id IN ({marks})", ids)
        db.execute(f"DELETE FROM passages WHERE memory_id IN ({marks})", ids)
        db.conn.executemany("UPDATE pointers SET ref_count = ref_count - 1 WHERE slot = ?", slots)
        freed = set(registry.unreferenced({slot for (slot,) in slots}))
        noted = [(label, name, slot if slot in freed else None) for label, slot, name in labels]
        db.conn.executemany("INSERT OR REPLACE INTO erasures VALUES (?, ?, ?)", noted)
        db.conn.executemany(
            "UPDATE pointers SET digest = zeroblob(32), level0 = x'', level1 = x'', level2 = x'' WHERE slot = ?",
            [(slot,) for slot in freed],
        )
    gone.memories += len(found)
    gone.slots += freed
    for label, _, name in labels:
        gone.labels.setdefault(name, []).append(label)
    gone.traces += [Trace(row[4], _bytes_of(row[3], row[4])) for row in found if isinstance(row[4], bytes)]


def _readable(text: object) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _bytes_of(text: str, digest: bytes) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return data[:HEAD] if len(data) > LONG else data[-TAIL:] + digest


def pending(registry: Registry) -> Removal:
    """What an interrupted removal left to overwrite."""
    left = Removal()
    slots = []
    for label, namespace, slot in registry.rows("SELECT id, namespace, slot FROM erasures ORDER BY id"):
        left.labels.setdefault(namespace, []).append(label)
        if slot is not None:
            slots.append(slot)
    left.slots = registry.unreferenced(slots)
    return left


def unplaced(registry: Registry, labels: Sequence[int], *, keep: bool = True) -> list[int]:
    """Take labels out of a rewrite in progress; returns the slots of its file that nothing needs any more. `keep`:
    their rows stay, nameless, so that the slots are free ones and not lost."""
    freed: list[int] = []
    with registry.transaction() as db:
        for marks, piece in chunks(labels):
            held = dict(registry.rows(f"SELECT memory_id, slot FROM rewrite WHERE memory_id IN ({marks})", piece))
            db.execute(f"DELETE FROM rewrite WHERE memory_id IN ({marks})", piece)
            slots = set(held.values())
            for others, some in chunks(slots):
                needed = registry.rows(f"SELECT DISTINCT slot FROM rewrite WHERE slot IN ({others})", some)
                slots -= {row[0] for row in needed}
            kept = [(label, slot) for label, slot in held.items() if keep and slot in slots]
            db.conn.executemany("INSERT INTO rewrite VALUES (?, ?, zeroblob(32), x'', x'', x'')", kept)
            freed += slots
    return freed


def overwrite(registry: Registry, gone: Removal) -> None:
    """Leave nothing of removed memories in the database, the vectors being overwritten.

    Raises:
        BankStorageError: another process keeps the log from being emptied.
    """
    _empty_log(registry)
    # of a removal that was interrupted it is not known any more what to look for
    if is_left(registry, gone.traces) or not gone.memories:
        registry.rows("VACUUM")
        _empty_log(registry)
    with registry.transaction() as db:
        db.execute("DELETE FROM erasures")


def _empty_log(registry: Registry) -> None:
    if not registry.checkpoint():
        raise BankStorageError(f"another process reads {registry.path} for long, and its log cannot be emptied")


def is_left(registry: Registry, traces: Sequence[Trace]) -> bool:
    """Whether the file may hold copies of removed texts: SQLite zeroes what it frees (`secure_delete`), but not what it
    leaves behind where it moves rows between pages. Its log must be empty."""
    if len(traces) > MOST_SEARCHED:
        return True
    if not traces:
        return False
    with registry.reading() as file:
        found = _counts(file, [trace.data for trace in traces])
    return any(count > _living(registry, trace) for count, trace in zip(found, traces, strict=True) if count)


def _counts(file: FileIO, needles: Sequence[bytes]) -> list[int]:
    """How often a file holds each of some short texts. It is read and not mapped: it may be cut meanwhile."""
    counts, kept = [0] * len(needles), max(map(len, needles)) - 1
    buffer, held = bytearray(kept + PIECE), 0
    while read := file.readinto(memoryview(buffer)[held : held + PIECE]):
        end = held + read
        held = min(kept, end)
        begin = end - held
        for at, needle in enumerate(needles):
            # what lies in the end alone is counted again with what comes behind it
            counts[at] += buffer.count(needle, 0, end) - buffer.count(needle, begin, end)
        buffer[:held] = buffer[begin:end]
    return [count + buffer.count(needle, 0, held) for count, needle in zip(counts, needles, strict=True)]


def _living(registry: Registry, trace: Trace) -> int:
    """Memories that hold the same text, in other namespaces."""
    return int(registry.scalar("SELECT count(*) FROM memories WHERE text_hash = ?", (trace.text_hash,)))
