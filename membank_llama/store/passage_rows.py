"""The passages of long memories in the registry: rows of their own beside that of their memory.

A passage's id is drawn from the ids of memories, right after its memory's own, so that the labels of an index and the
rows of a snapshot never collide and only rise. The first passage is the memory's own row; it ends where the second
starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlite_utils import Database

from membank_llama.core.errors import BankCorruptError

from .database import chunks
from .full_text import filed_as, words_of_texts
from .registry import OF_MEMORIES, Registry
from .row_format import damaged, is_whole, row_checksum

PassageRow = tuple[int, int, int, int, int, str]
"""id, the memory's id, start, stop, slot, namespace."""


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


def insert_passages(db: Database, rows: Sequence[PassageRow]) -> None:
    """Store some passages in order of id, after their memories."""
    db.conn.executemany(
        "INSERT INTO passages (id, memory_id, start, stop, slot, namespace, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)",
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
        if not isinstance(row[3], str):
            raise damaged(row[0])
    # a slot that is none is given anew with the vector
    return [
        Encoded(row[0], row[1] if isinstance(row[1], int) else -1, row[3].strip() if row[2] else row[3]) for row in rows
    ]


def placed(registry: Registry, after: int, limit: int) -> list[Encoded]:
    """The same without their texts."""
    sql = (
        "SELECT id, slot FROM memories WHERE id > ?1 UNION ALL SELECT id, slot FROM passages WHERE id > ?1"
        " ORDER BY 1 LIMIT ?2"
    )
    rows = registry.rows(sql, (after, limit))
    for memory_id, slot in rows:
        if not isinstance(slot, int):
            raise BankCorruptError(f"memory {memory_id} has lost its activation; membank reencode mends it")
    return [Encoded(memory_id, slot, "") for memory_id, slot in rows]


def words_in(texts: Sequence[str], terms: Sequence[Sequence[str]]) -> npt.NDArray[np.bool_]:
    """Which words, each in all its forms, stand in which texts, bool (words, texts)."""
    wanted = [[set(filed) for form in forms if (filed := filed_as(form))] for forms in terms]
    stand = words_of_texts(texts)
    held = [[any(form <= words for form in forms) for words in stand] for forms in wanted]
    return np.array(held, bool).reshape(len(terms), len(texts))
