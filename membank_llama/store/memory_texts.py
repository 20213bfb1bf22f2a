"""What is read of many memories' texts at once: how long they are, the short ones, and beginnings of some."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from membank_llama.core.types import Ids, Numbers

from .database import BankDatabase, chunks

PAGE = 5000


def text_lengths(database: BankDatabase, namespace: str, short: int) -> tuple[Ids, Numbers, dict[int, str]]:
    """Ids of a namespace's memories, rising, the bytes of each text, and by id the texts of at most `short` bytes."""
    ids: list[int] = []
    lengths: list[int] = []
    texts: dict[int, str] = {}
    sql = (
        "SELECT id, length(CAST(text AS BLOB)) AS bytes,"
        " CASE WHEN length(CAST(text AS BLOB)) <= ?3 THEN text END FROM memories"
        " WHERE namespace = ?1 AND id > ?2 ORDER BY id LIMIT ?4"
    )
    after = 0
    while rows := database.rows(sql, (namespace, after, short, PAGE)):
        ids += [row[0] for row in rows]
        lengths += [row[1] if isinstance(row[1], int) else 0 for row in rows]
        texts.update((row[0], row[2]) for row in rows if isinstance(row[2], str))
        if rows[-1][0] <= after:
            # damaged: whatever is behind would be read for ever
            break
        after = rows[-1][0]
    return np.array(ids, np.int64), np.array(lengths, np.int32), texts


def beginnings(database: BankDatabase, ids: Iterable[int], characters: int) -> dict[int, str]:
    """By id the first characters of some memories' texts; ids that do not exist are left out."""
    found: dict[int, str] = {}
    for marks, piece in chunks(ids):
        rows = database.rows(f"SELECT id, substr(text, 1, {characters:d}) FROM memories WHERE id IN ({marks})", piece)
        found.update((row[0], row[1]) for row in rows if isinstance(row[1], str))
    return found
