"""The passages of long memories in the registry: rows of their own beside that of their memory.

A passage's id is drawn from the ids of memories, right after its memory's own, so that the labels of an index and the
rows of a roster never collide and only rise. The first passage is the memory's own row; it ends where the second
starts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .checksums import is_whole, row_checksum
from .memory_rows import damaged
from .registry import OF_MEMORIES, Registry, chunks
from .schema import TOKENIZER

PassageRow = tuple[int, int, int, int, int]
"""id, the memory's id, start, stop, slot."""


class Encoded(NamedTuple):
    """A memory or a passage, and the text that its vector is made of."""

    id: int
    slot: int
    text: str


class Passage(NamedTuple):
    """One passage of a memory: the id of its row, and where it lies in the text."""

    id: int
    start: int
    stop: int


def insert_passages(registry: Registry, rows: Sequence[PassageRow]) -> None:
    """Store passages in order of id, after their memories."""
    if not rows:
        return
    with registry.transaction() as db:
        db.conn.executemany(
            "INSERT INTO passages (id, memory_id, start, stop, slot, checksum) VALUES (?, ?, ?, ?, ?, ?)",
            ((*row, row_checksum(*row[:4])) for row in rows),
        )
        db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'memories'", (rows[-1][0],))


def passages_of(registry: Registry, ids: Iterable[int]) -> dict[int, list[Passage]]:
    """memory id → all its passages in order, the first with the memory's own id; those of one vector are left out."""
    found: dict[int, list[Passage]] = {}
    for marks, piece in chunks(ids):
        sql = (
            "SELECT id, memory_id, start, stop, checksum FROM passages"
            f" WHERE memory_id IN ({marks}) ORDER BY memory_id, start"
        )
        for row in registry.rows(sql, piece):
            passage_id, memory_id, start, stop, _ = row
            if not is_whole(row):
                raise damaged(memory_id)
            passages = found.setdefault(memory_id, [Passage(memory_id, 0, start)])
            passages.append(Passage(passage_id, start, stop))
    return found


def with_passages(registry: Registry, ids: Iterable[int]) -> list[int]:
    """Those of some memories that exist, and the ids of their passages."""
    found: list[int] = []
    for marks, piece in chunks(ids):
        for sql in ("SELECT id FROM memories WHERE id", "SELECT id FROM passages WHERE memory_id"):
            found += [row[0] for row in registry.rows(f"{sql} IN ({marks})", piece)]
    return found


def encoded(registry: Registry, after: int, limit: int) -> list[Encoded]:
    """What has a vector of its own, above an id and in order of id."""
    rows = registry.rows(
        "SELECT m.id, m.slot, p.start IS NOT NULL, CASE WHEN p.start IS NULL THEN m.text"
        " ELSE substr(m.text, 1, p.start) END FROM memories AS m LEFT JOIN passages AS p ON p.id ="
        " (SELECT id FROM passages WHERE memory_id = m.id ORDER BY start LIMIT 1) WHERE m.id > ?1"
        f" UNION ALL SELECT p.id, p.slot, 1, substr(m.text, p.start + 1, p.stop - p.start) {OF_MEMORIES}"
        " WHERE p.id > ?1 ORDER BY 1 LIMIT ?2",
        (after, limit),
    )
    for row in rows:
        if not isinstance(row[3], str) or not isinstance(row[1], int):
            raise damaged(row[0])
    return [Encoded(row[0], row[1], row[3].strip() if row[2] else row[3]) for row in rows]


def words_in(texts: Sequence[str], expressions: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which FTS5 expressions match which texts, bool (expressions, texts): by the tokenizer of the full text."""
    held = np.zeros((len(expressions), len(texts)), bool)
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"CREATE VIRTUAL TABLE piece USING fts5 (text, content='', tokenize='{TOKENIZER}')")
        db.executemany("INSERT INTO piece (rowid, text) VALUES (?, ?)", enumerate(texts))
        for row, expression in enumerate(expressions):
            for (place,) in db.execute("SELECT rowid FROM piece WHERE piece MATCH ?", (expression,)):
                held[row, place] = True
    return held
