"""`Registry`: memories, their pointers and where their words stand. The truth of a bank.

The activation file and the vector indexes are derived: whatever they hold can be checked against these tables
and made again from the text in them. A memory is unique by its text within a namespace; a slot of the activation
file is shared by all memories with the same activation and counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from sqlite_utils import Database

from membank_llama.core.errors import BankCorruptError, BankFormatError, BankNotFoundError
from membank_llama.core.types import Memory, Progress

from .commit_note import CommitNote
from .database import BankDatabase, chunks, fits_a_row, translating
from .row_format import CHECKED, COLUMN_NAMES, COLUMNS, damaged, is_whole, memories_of, row_checksum, text_hash
from .schema import VERSION, migrate
from .schema_check import checked_version
from .word_index import WordIndex

OF_MEMORIES = "FROM passages AS p CROSS JOIN memories AS m ON m.id = p.memory_id"
"""Passages with their memories, read in the order of the passages' ids."""

Arrival: TypeAlias = tuple[int, int, float, float, "str | None", str, int, int, int, int]
"""id, slot, when it was told first and last, conversation or source, speaker or role, what it does
(text_features.acts_of), id of the memory it belongs to, the first of its tokens and how many they are."""

Retold: TypeAlias = tuple[int, float, str, int]
"""id, when it was told last, speaker or role, what it does."""


STATE = ("activations", "weights", "generation", "lifetimes")


class BankState(NamedTuple):
    """What a search depends on beside the memories, of one moment: the name of the activation file, the weights tuned
    for the bank (None where none were), and the registry's two counters."""

    activations: str | None
    weights: Any
    generation: int
    lifetimes: int


class Registry(BankDatabase):
    """The tables of one bank.

    Raises:
        BankNotFoundError: opened for reading where there is no bank.
        BankFormatError: the bank is newer than this package, or the file is not a bank.
    """

    def __init__(self, path: Path, *, read_only: bool = False, progress: Progress | None = None) -> None:
        if read_only and not path.exists():
            raise BankNotFoundError(f"there is no bank at {path.parent}; make one with: membank ingest or membank chat")
        self._note = CommitNote(path.parent)
        # before the database is read: it may come further meanwhile
        noted = self._note.read()
        self._bumped: int | None = None
        super().__init__(path, read_only=read_only)
        try:
            with translating(path):
                self._check_tables(str(path.parent), progress)
            self._note.check(noted, self.generation)
        except BaseException:
            self.close()
            raise

    def _check_tables(self, where: str, progress: Progress | None) -> None:
        """See that the tables are ours and of the newest format, to which a writing process brings them."""
        connection = self.db.conn
        found = checked_version(connection, where)
        if not self.read_only:
            migrate(connection, where, progress)
        elif found == 0:
            raise BankFormatError(f"{self.path} is not a bank of membank-llama")
        elif found < VERSION:
            raise BankFormatError(
                f"{where} is of an earlier format ({found}, now {VERSION}): open it once for writing, which "
                "brings it up to date, as membank stats does"
            )

    @cached_property
    def words(self) -> WordIndex:
        """Where the words of the memories stand."""
        return WordIndex(self, self.get_meta("words_secret"))

    # -- what the bank knows of itself

    def get_meta(self, key: str, default: Any = None) -> Any:
        """A value stored under `key`, JSON-decoded.

        Raises:
            BankCorruptError: it is not what was stored.
        """
        rows = self.rows("SELECT key, value, checksum FROM meta WHERE key = ?", (key,))
        return self._decoded(rows[0]) if rows else default

    def _decoded(self, row: Sequence[Any]) -> Any:
        try:
            if not is_whole(row):
                raise ValueError("it does not match its checksum")
            return json.loads(row[1])
        except (ValueError, TypeError, RecursionError) as exc:
            raise BankCorruptError(
                f"what {self.path.parent} records of its {row[0]} is damaged ({exc}). The texts are not touched by "
                "that: restore the bank from a copy, or make the rest anew with membank reencode MODEL"
            ) from exc

    def state(self) -> BankState:
        """What a search depends on beside the memories, in one statement; raises as `get_meta`."""
        sql = f"SELECT key, value, checksum FROM meta WHERE key IN {STATE}"
        found = {row[0]: row for row in self.rows(sql)}
        activations, weights = (self._decoded(found[key]) if key in found else None for key in STATE[:2])
        generation, lifetimes = (self._counted(found[key][1] if key in found else None) for key in STATE[2:])
        return BankState(activations, weights, generation, lifetimes)

    def set_meta(self, key: str, value: Any) -> None:
        row = (key, json.dumps(value))
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO meta (key, value, checksum) VALUES (?, ?, ?)", (*row, row_checksum(*row))
            )

    def drop_meta(self, key: str) -> None:
        with self.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = ?", (key,))

    @property
    def generation(self) -> int:
        """Rises with every transaction that adds or removes memories."""
        return self._counter("generation")

    def _counter(self, name: str) -> int:
        return self._counted(self.scalar("SELECT value FROM meta WHERE key = ?", (name,)))

    def _counted(self, found: Any) -> int:
        try:
            return int(found)
        except (TypeError, ValueError) as exc:
            raise BankCorruptError(
                f"{self.path} does not say how often it was changed ({str(found)[:40]!r}): it is damaged. Restore it "
                "from a copy"
            ) from exc

    def bump(self, db: Database) -> None:
        """Raise the generation, in the transaction that `db` is in."""
        db.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'")
        self._bumped = self._counted(db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()[0])

    def _ended(self, *, committed: bool) -> None:
        bumped, self._bumped = self._bumped, None
        if bumped is not None and committed:
            self._note.write(bumped)

    # -- memories

    def change(self, db: Database, memory_id: int, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
        """Set columns of one memory, from those it has, in the transaction that `db` is in; returns whether there is
        such a memory.

        Raises:
            BankCorruptError: it is damaged, and a new checksum would hide that.
        """
        if not fits_a_row(memory_id):
            return False
        row = db.execute(f"SELECT {CHECKED}, checksum FROM memories WHERE id = ?", (memory_id,)).fetchone()
        if row is None:
            return False
        if not is_whole(row):
            raise damaged(memory_id)
        old = dict(zip(COLUMN_NAMES, row, strict=False))
        new = change(old)
        values = (*new.values(), row_checksum(*(old | new).values()))
        columns = ", ".join(f"{name} = ?" for name in (*new, "checksum"))
        db.execute(f"UPDATE memories SET {columns} WHERE id = ?", (*values, memory_id))
        return True

    def get(self, ids: Iterable[int], namespace: str | None = None) -> dict[int, Memory]:
        """Memories by id, of one namespace or of all; ids that do not exist are left out."""
        own, given = ("", []) if namespace is None else (" AND namespace = ?", [namespace])
        found: dict[int, Memory] = {}
        for marks, piece in chunks(ids):
            rows = self.rows(f"SELECT {COLUMNS} FROM memories WHERE id IN ({marks}){own}", [*piece, *given])
            found.update((memory.id, memory) for memory in memories_of(rows))
        return found

    def existing(self, ids: Iterable[int], tables: Sequence[str] = ("memories",)) -> set[int]:
        """Those of some ids that there are memories of; of memories and passages by both their tables."""
        found: set[int] = set()
        for marks, piece in chunks(ids):
            for table in tables:
                found.update(row[0] for row in self.rows(f"SELECT id FROM {table} WHERE id IN ({marks})", piece))
        return found

    def holding(self, namespace: str, texts: Iterable[str]) -> dict[str, int]:
        """Of some texts those that a namespace holds, each with the id of its memory."""
        hashed = {text_hash(text): text for text in texts}
        found: dict[str, int] = {}
        for marks, piece in chunks(hashed):
            sql = f"SELECT text_hash, id FROM memories WHERE namespace = ? AND text_hash IN ({marks})"
            found.update({hashed[digest]: number for digest, number in self.rows(sql, (namespace, *piece))})
        return found

    def iterate(self, namespace: str | None = None, after: int = 0, page: int = 1000) -> Iterator[Memory]:
        """All memories in order of id, read in pages so that a writer is never held up."""
        where = "" if namespace is None else "namespace = ? AND "
        given = () if namespace is None else (namespace,)
        while True:
            rows = self.rows(
                f"SELECT {COLUMNS} FROM memories WHERE {where}id > ? ORDER BY id LIMIT ?", (*given, after, page)
            )
            if not rows:
                return
            for row in rows:
                yield from memories_of([row])
            if rows[-1][0] <= after:
                raise BankCorruptError(f"{self.path}: memories are out of order; restore it from a copy")
            after = rows[-1][0]

    def live(self, namespace: str, after: int = 0, limit: int = -1) -> list[tuple[int, int]]:
        """(id, slot) of every memory and passage of a namespace above an id, in order of id; at most `limit`."""
        found = self.rows(
            "SELECT id, slot FROM memories WHERE namespace = ?1 AND id > ?2"
            " UNION ALL SELECT id, slot FROM passages WHERE namespace = ?1 AND id > ?2 ORDER BY 1 LIMIT ?3",
            (namespace, after, limit),
        )
        if not all(isinstance(slot, int) for _, slot in found):
            raise BankCorruptError(f"{self.path}: memories have no slot that is a number; membank verify names them")
        return found

    def arrivals(self, namespace: str, after: int, limit: int) -> list[Arrival]:
        """Memories and passages above an id, in order of id."""
        what = (
            "m.created_at, m.last_seen, coalesce(m.conversation, m.source), coalesce(m.speaker, m.role), m.asks, m.id,"
            " coalesce(t.first, 0), coalesce(t.count, 0)"
        )
        return self.rows(
            # an index that holds id and slot is read in order; the others would be sorted
            f"SELECT m.id, m.slot, {what} FROM memories AS m INDEXED BY memories_namespace"
            " LEFT JOIN tokens AS t ON t.slot = m.slot WHERE m.namespace = ?1 AND m.id > ?2"
            f" UNION ALL SELECT p.id, p.slot, {what} FROM passages AS p INDEXED BY passages_namespace"
            " CROSS JOIN memories AS m ON m.id = p.memory_id LEFT JOIN tokens AS t ON t.slot = p.slot"
            " WHERE p.namespace = ?1 AND p.id > ?2"
            " ORDER BY 1 LIMIT ?3",
            (namespace, after, limit),
        )

    def retold(self, namespace: str) -> list[Retold]:
        """What of a namespace was told more than once."""
        return self.rows(
            "SELECT id, last_seen, coalesce(speaker, role), asks FROM memories INDEXED BY memories_retold"
            " WHERE namespace = ? AND seen > 1",
            (namespace,),
        )

    @property
    def lifetimes(self) -> int:
        """Rises whenever a memory is removed, pinned or unpinned, told again, lives on longer, or comes expired."""
        return self._counter("lifetimes")

    def lifetimes_changed(self, db: Database) -> None:
        """Raise `lifetimes`, in the transaction that `db` is in."""
        db.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'lifetimes'")

    def lifetimes_of(self, namespace: str, since: float, until: float) -> tuple[list[int], list[int], float]:
        """Ids of a namespace that expired after `since` and by `until`, those that are pinned and never expire, rising,
        and when the next one expires (infinity: none)."""
        ends = "expires_at FROM memories WHERE namespace = ?1 AND NOT pinned AND expires_at >"
        rows = self.rows(
            f"SELECT id, {ends} ?2 AND expires_at <= ?3"
            f" UNION ALL SELECT NULL, * FROM (SELECT {ends} ?3 ORDER BY expires_at LIMIT 1)"
            " UNION ALL SELECT * FROM (SELECT id, NULL FROM memories INDEXED BY memories_pinned"
            " WHERE namespace = ?1 AND pinned ORDER BY id)",
            (namespace, since, until),
        )
        expired = sorted(row[0] for row in rows if row[0] is not None and row[1] is not None)
        # of a damaged row it may be a text, which comes behind all numbers
        following = next((row[1] for row in rows if row[0] is None and isinstance(row[1], (int, float))), math.inf)
        return expired, [row[0] for row in rows if row[1] is None], following

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
            ("last_seen < ?", before),
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
            self.lifetimes_changed(db)
            return self.change(db, memory_id, lambda _: {"pinned": int(pinned)})

    def add_metadata(self, memory_id: int, more: Mapping[str, Any]) -> bool:
        """Returns whether there is such a memory."""

        def added(row: dict[str, Any]) -> dict[str, Any]:
            return {"metadata": json.dumps(json.loads(row["metadata"]) | dict(more), ensure_ascii=False)}

        with self.transaction() as db:
            return self.change(db, memory_id, added)

    def set_metadata(self, memory_id: int, metadata: Mapping[str, Any]) -> bool:
        """Returns whether there is such a memory."""
        with self.transaction() as db:
            return self.change(db, memory_id, lambda _: {"metadata": json.dumps(dict(metadata), ensure_ascii=False)})

    def count(self, namespace: str | None = None) -> int:
        return self._count("memories", namespace)

    def expiring_at(self, instant: float, namespace: str | None = None) -> int:
        """How many memories expire at exactly this time."""
        own = "" if namespace is None else " AND namespace = ?"
        given = (instant,) if namespace is None else (instant, namespace)
        sql = f"SELECT count(*) FROM memories INDEXED BY memories_expiry WHERE expires_at = ? AND pinned = 0{own}"
        return int(self.scalar(sql, given))

    def _count(self, table: str, namespace: str | None) -> int:
        if namespace is None:
            return int(self.scalar(f"SELECT count(*) FROM {table}"))
        return int(self.scalar(f"SELECT count(*) FROM {table} WHERE namespace = ?", (namespace,)))

    def namespaces(self) -> dict[str, int]:
        """Namespace → number of memories."""
        found = dict(self.rows("SELECT namespace, count(*) FROM memories GROUP BY namespace ORDER BY namespace"))
        if not all(isinstance(name, str) for name in found):
            raise BankCorruptError(f"{self.path}: memories have no namespace that is a text; membank verify names them")
        return found

    def count_vectors(self, namespace: str | None = None) -> int:
        """Memories and passages: what has a vector of its own."""
        return self._count("memories", namespace) + self._count("passages", namespace)

    # -- pointers

    def free_count(self) -> int:
        """How many slots may be written again."""
        return int(self.scalar("SELECT count(*) FROM pointers WHERE ref_count <= 0"))

    def next_slot(self) -> int:
        """The first slot never used."""
        return int(self.scalar("SELECT coalesce(max(slot) + 1, 0) FROM pointers"))

    def pointers(self, slots: Iterable[int]) -> dict[int, tuple[bytes, bytes, bytes]]:
        """slot → its packed records at levels 0, 1 and 2."""
        found: dict[int, tuple[bytes, bytes, bytes]] = {}
        for marks, piece in chunks(slots):
            sql = f"SELECT slot, level0, level1, level2 FROM pointers WHERE slot IN ({marks})"
            found.update({row[0]: (row[1], row[2], row[3]) for row in self.rows(sql, piece)})
        return found
