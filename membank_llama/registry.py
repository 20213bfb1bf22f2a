"""`Registry`: memories, their pointers and where their words stand. The truth of a bank.

The activation file and the vector indexes are derived: whatever they hold can be checked against these tables
and made again from the text in them. A memory is unique by its text within a namespace; a slot of the activation
file is shared by all memories with the same activation and counted.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from .database import BankDatabase, chunks, translate
from .errors import BankFormatError, BankNotFoundError
from .schema import VERSION, check_version, migrate
from .traits import asks, speaker_of
from .types import Memory, NewMemory, Progress
from .word_index import WordIndex

_COLUMNS = "id, text, text_hash, role, namespace, conversation, created_at, source, metadata, pinned, expires_at, slot"
CLOCK_SKEW = 2.0
"""Seconds by which the clocks of two processes may differ."""

OF_MEMORIES = "FROM passages AS p CROSS JOIN memories AS m ON m.id = p.memory_id"
"""Passages with their memories, read in the order of the passages' ids."""

Arrival: TypeAlias = tuple[int, int, float, "str | None", str, bool, int]
"""id, slot, time, conversation or source, speaker or role, whether it only asks, id of the memory it belongs to."""


def text_hash(text: str) -> bytes:
    """SHA-256 of the text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).digest()


def _memory(row: Sequence[Any]) -> Memory:
    return Memory(
        id=row[0],
        text=row[1],
        text_hash=row[2].hex(),
        role=row[3],
        namespace=row[4],
        conversation=row[5],
        created_at=row[6],
        source=row[7],
        metadata=json.loads(row[8]),
        pinned=bool(row[9]),
        expires_at=row[10],
        slot=row[11],
    )


def _created(item: NewMemory, now: float) -> float:
    return now if item.created_at is None else item.created_at


def _row(memory_id: int, item: NewMemory, digest: bytes, slot: int, now: float) -> tuple[Any, ...]:
    metadata = json.dumps(dict(item.metadata), ensure_ascii=False) if item.metadata else "{}"
    created = _created(item, now)
    return (
        memory_id, item.text, digest, item.role, item.namespace, item.conversation, created, item.source, metadata,
        int(item.pinned), item.expires_at, created, slot, speaker_of(item.text, item.role, item.metadata),
        asks(item.text),
    )  # fmt: skip


class Registry(BankDatabase):
    """The tables of one bank.

    Raises:
        BankNotFoundError: opened for reading where there is no bank.
        BankFormatError: the bank is newer than this package, or the file is not a bank.
    """

    def __init__(self, path: Path, *, read_only: bool = False, progress: Progress | None = None) -> None:
        if read_only and not path.exists():
            raise BankNotFoundError(f"there is no bank at {path.parent}; make one with: membank ingest or membank chat")
        super().__init__(path, read_only=read_only)
        try:
            where = str(path.parent)
            if read_only:
                found = check_version(self.db.conn, where)
                if found == 0:
                    raise BankFormatError(f"{path} is not a bank of membank-llama")
                if found < VERSION:
                    raise BankFormatError(
                        f"{where} is of an earlier format ({found}, now {VERSION}): open it once for writing, which "
                        "brings it up to date, as membank stats does"
                    )
            else:
                migrate(self.db.conn, where, progress)
        except sqlite3.DatabaseError as exc:
            self.close()
            raise translate(exc, path) from exc
        except BankFormatError:
            self.close()
            raise

    @cached_property
    def words(self) -> WordIndex:
        """Where the words of the memories stand."""
        return WordIndex(self, self.get_meta("words_secret"))

    # -- what the bank knows of itself

    def get_meta(self, key: str, default: Any = None) -> Any:
        """A value stored under `key`, JSON-decoded."""
        found = self.scalar("SELECT value FROM meta WHERE key = ?", (key,))
        return default if found is None else json.loads(found)

    def set_meta(self, key: str, value: Any) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def drop_meta(self, key: str) -> None:
        with self.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = ?", (key,))

    @property
    def generation(self) -> int:
        """Rises with every transaction that adds or removes memories."""
        return int(self.scalar("SELECT value FROM meta WHERE key = 'generation'"))

    def bump(self) -> None:
        with self.transaction() as db:
            db.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'")

    # -- memories

    def find(self, namespace: str, digests: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
        """text hash → (id, slot) of those texts that the namespace holds."""
        found: dict[bytes, tuple[int, int]] = {}
        for marks, piece in chunks(digests):
            sql = f"SELECT text_hash, id, slot FROM memories WHERE namespace = ? AND text_hash IN ({marks})"
            found.update({row[0]: (row[1], row[2]) for row in self.rows(sql, (namespace, *piece))})
        return found

    def last_id(self) -> int:
        """The highest id ever given."""
        return int(self.scalar("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'memories'"))

    def insert(self, rows: Iterable[tuple[int, NewMemory, bytes, int]], now: float) -> None:
        """Store memories given as (id, memory, text hash, slot); ids must be above `last_id()`.

        Reference counts are the caller's to raise.
        """
        sql = (
            "INSERT INTO memories (id, text, text_hash, role, namespace, conversation, created_at, source, metadata,"
            " pinned, expires_at, last_seen, slot, speaker, asks)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        new = list(rows)
        with self.transaction() as db:
            db.conn.executemany(sql, (_row(*row, now) for row in new))
            self.words.file([(memory_id, item.namespace, item.text) for memory_id, item, _, _ in new])
            soon = time.time() + CLOCK_SKEW
            if any(item.expires_at is not None and item.expires_at <= soon for _, item, _, _ in new):
                self._lifetimes_changed()

    def seen_again(self, tellings: Iterable[tuple[int, NewMemory]], now: float) -> None:
        """The same texts came once more: they live on at least as long as the new telling would."""
        sql = (
            "UPDATE memories SET seen = seen + 1, last_seen = max(last_seen, ?), pinned = max(pinned, ?),"
            " expires_at = CASE WHEN expires_at IS NULL OR ?3 IS NULL THEN NULL ELSE max(expires_at, ?3) END"
            " WHERE id = ?4"
        )
        with self.transaction() as db:
            db.conn.executemany(
                sql,
                ((_created(item, now), int(item.pinned), item.expires_at, memory_id) for memory_id, item in tellings),
            )
            self._lifetimes_changed()

    def get(self, ids: Iterable[int]) -> dict[int, Memory]:
        """Memories by id; ids that do not exist are left out."""
        found: dict[int, Memory] = {}
        for marks, piece in chunks(ids):
            for row in self.rows(f"SELECT {_COLUMNS} FROM memories WHERE id IN ({marks})", piece):
                found[row[0]] = _memory(row)
        return found

    def iterate(self, namespace: str | None = None, after: int = 0, page: int = 1000) -> Iterator[Memory]:
        """All memories in order of id, read in pages so that a writer is never held up."""
        where = "" if namespace is None else "namespace = ? AND "
        given = () if namespace is None else (namespace,)
        while True:
            rows = self.rows(
                f"SELECT {_COLUMNS} FROM memories WHERE {where}id > ? ORDER BY id LIMIT ?", (*given, after, page)
            )
            if not rows:
                return
            for row in rows:
                yield _memory(row)
            after = rows[-1][0]

    def live(self, namespace: str, after: int = 0, limit: int = -1) -> list[tuple[int, int]]:
        """(id, slot) of every memory and passage of a namespace above an id, in order of id; at most `limit`."""
        return self.rows(
            "SELECT id, slot FROM memories WHERE namespace = ?1 AND id > ?2"
            " UNION ALL SELECT id, slot FROM passages WHERE namespace = ?1 AND id > ?2 ORDER BY 1 LIMIT ?3",
            (namespace, after, limit),
        )

    def arrivals(self, namespace: str, after: int, limit: int) -> list[Arrival]:
        """Memories and passages above an id, in order of id."""
        what = "m.created_at, coalesce(m.conversation, m.source), coalesce(m.speaker, m.role), m.asks, m.id"
        return self.rows(
            # an index that holds id and slot is read in order; the others would be sorted
            f"SELECT m.id, m.slot, {what} FROM memories AS m INDEXED BY memories_namespace"
            " WHERE m.namespace = ?1 AND m.id > ?2"
            f" UNION ALL SELECT p.id, p.slot, {what} FROM passages AS p INDEXED BY passages_namespace"
            " CROSS JOIN memories AS m ON m.id = p.memory_id WHERE p.namespace = ?1 AND p.id > ?2"
            " ORDER BY 1 LIMIT ?3",
            (namespace, after, limit),
        )

    def pinned(self, namespace: str) -> list[int]:
        """Ids of what is pinned in a namespace, rising."""
        sql = "SELECT id FROM memories INDEXED BY memories_pinned WHERE namespace = ? AND pinned ORDER BY id"
        return [row[0] for row in self.rows(sql, (namespace,))]

    @property
    def lifetimes(self) -> int:
        """Rises whenever a memory is pinned or unpinned, lives on longer, or comes expired."""
        return int(self.scalar("SELECT value FROM meta WHERE key = 'lifetimes'"))

    def _lifetimes_changed(self) -> None:
        self.rows("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'lifetimes'")

    def expired(self, namespace: str, since: float, until: float) -> list[int]:
        """Ids of a namespace that expired after `since` and by `until` and are not pinned."""
        sql = "SELECT id FROM memories WHERE namespace = ? AND expires_at > ? AND expires_at <= ? AND NOT pinned"
        return [row[0] for row in self.rows(sql, (namespace, since, until))]

    def select(
        self,
        *,
        namespace: str | None,
        conversation: str | None,
        before: float | None,
        expired_at: float | None = None,
    ) -> list[int]:
        """Ids that fit every condition given."""
        sql = "SELECT id FROM memories WHERE 1"
        params: list[Any] = []
        for condition, value in (
            ("namespace = ?", namespace),
            ("conversation = ?", conversation),
            ("created_at < ?", before),
            ("pinned = 0 AND expires_at <= ?", expired_at),
        ):
            if value is not None:
                sql += f" AND {condition}"
                params.append(value)
        return [row[0] for row in self.rows(sql, params)]

    def unreferenced(self, slots: Iterable[int]) -> list[int]:
        """Those of some slots that nothing points at."""
        found: list[int] = []
        for marks, piece in chunks(slots):
            sql = f"SELECT slot FROM pointers WHERE ref_count <= 0 AND slot IN ({marks})"
            found += [row[0] for row in self.rows(sql, piece)]
        return found

    def set_pinned(self, memory_id: int, pinned: bool) -> bool:
        """Returns whether there is such a memory."""
        with self.transaction() as db:
            cursor = db.execute("UPDATE memories SET pinned = ? WHERE id = ?", (int(pinned), memory_id))
            self._lifetimes_changed()
        return bool(cursor.rowcount)

    def count(self, namespace: str | None = None) -> int:
        return self._count("memories", namespace)

    def _count(self, table: str, namespace: str | None) -> int:
        if namespace is None:
            return int(self.scalar(f"SELECT count(*) FROM {table}"))
        return int(self.scalar(f"SELECT count(*) FROM {table} WHERE namespace = ?", (namespace,)))

    def namespaces(self) -> dict[str, int]:
        """Namespace → number of memories."""
        return dict(self.rows("SELECT namespace, count(*) FROM memories GROUP BY namespace ORDER BY namespace"))

    def count_vectors(self, namespace: str | None = None) -> int:
        """Memories and passages: what has a vector of its own."""
        return self._count("memories", namespace) + self._count("passages", namespace)

    # -- pointers

    def slots_with(self, digests: Iterable[bytes]) -> dict[bytes, int]:
        """SHA-256 of an activation → the slot that holds it, for those in use."""
        found: dict[bytes, int] = {}
        for marks, piece in chunks(digests):
            sql = f"SELECT digest, slot FROM pointers WHERE digest IN ({marks}) AND ref_count > 0"
            found.update(self.rows(sql, piece))
        return found

    def free_slots(self, limit: int) -> list[int]:
        """Slots that may be written again."""
        rows = self.rows("SELECT slot FROM pointers WHERE ref_count <= 0 ORDER BY slot LIMIT ?", (limit,))
        return [row[0] for row in rows]

    def free_count(self) -> int:
        """How many slots may be written again."""
        return int(self.scalar("SELECT count(*) FROM pointers WHERE ref_count <= 0"))

    def next_slot(self) -> int:
        """The first slot never used."""
        return int(self.scalar("SELECT coalesce(max(slot) + 1, 0) FROM pointers"))

    def put_pointers(self, rows: Iterable[tuple[int, Sequence[bytes], int]]) -> None:
        """Write (slot, its three packed records, references); the first record names the activation."""
        sql = "INSERT OR REPLACE INTO pointers VALUES (?, ?, ?, ?, ?, ?)"
        with self.transaction() as db:
            db.conn.executemany(sql, ((slot, records[0][:32], *records, count) for slot, records, count in rows))

    def refer(self, more: Mapping[int, int]) -> None:
        """slot → how many more memories and passages point at it."""
        with self.transaction() as db:
            db.conn.executemany("UPDATE pointers SET ref_count = ref_count + ?2 WHERE slot = ?1", tuple(more.items()))

    def pointers(self, slots: Iterable[int]) -> dict[int, tuple[bytes, bytes, bytes]]:
        """slot → its packed records at levels 0, 1 and 2."""
        found: dict[int, tuple[bytes, bytes, bytes]] = {}
        for marks, piece in chunks(slots):
            sql = f"SELECT slot, level0, level1, level2 FROM pointers WHERE slot IN ({marks})"
            found.update({row[0]: (row[1], row[2], row[3]) for row in self.rows(sql, piece)})
        return found
