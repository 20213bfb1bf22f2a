"""Looking after a bank: verify it, collect what has expired, write the activation file anew.

A rewrite fills the next activation file beside the one in use and records every step in the registry; the switch
to it is one transaction. Interrupted anywhere, the bank is as it was and the rewrite goes on where it stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .adapters.base import ModelAdapter, check_vectors
from .database import chunks
from .encoding import record_encoding
from .errors import BankCorruptError, BankStorageError
from .hgns.hierarchy import HGNSHierarchy
from .passage_rows import Encoded, encoded, existing, placed
from .placement import ModelCard, pack_records, place_records
from .pointer import PointerRecord, model_tag
from .removal import unplaced
from .store import Slots, Store
from .types import LEVELS, Codes, Progress

Records = tuple[bytes, bytes, bytes]

logger = logging.getLogger("membank_llama")

BATCH = 32
VERIFY_BATCH = 512
COPY_BATCH = 512
MOST_PROBLEMS = 50


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found: how many activations were checked, and each problem as a sentence."""

    checked: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(store: Store, progress: Progress | None = None) -> VerifyReport:
    """Check the database, every activation against its pointer, reference counts and saved indexes."""
    problems = _verify_database(store)
    checked, damaged = _verify_activations(store, progress)
    problems += damaged + _verify_references(store) + _verify_indexes(store)
    if len(problems) > MOST_PROBLEMS:
        more = len(problems) - MOST_PROBLEMS
        problems = [*problems[:MOST_PROBLEMS], f"… and {more} more; membank reencode mends them all"]
    return VerifyReport(checked, tuple(problems))


def _verify_database(store: Store) -> list[str]:
    found = [row[0] for row in store.registry.rows("PRAGMA quick_check")]
    problems = [f"database: {line}" for line in found if line != "ok"]
    if not store.registry.words.is_sound():
        problems.append("words: what is filed does not match the memories; membank rebuild mends it")
    return problems


def _verify_activations(store: Store, progress: Progress | None) -> tuple[int, list[str]]:
    rows = store.registry.rows("SELECT slot FROM pointers WHERE ref_count > 0 ORDER BY slot")
    slots = [row[0] for row in rows]
    tag = model_tag(store.model.id)
    problems: list[str] = []
    for start in range(0, len(slots), VERIFY_BATCH):
        for slot, records in store.registry.pointers(slots[start : start + VERIFY_BATCH]).items():
            found = _slot_problems(store, slot, records, tag)
            if found and store.registry.pointers([slot]).get(slot) == records:
                # else the writing process has changed the slot meanwhile
                problems += [f"slot {slot}, {what}" for what in found]
        if progress is not None:
            progress("verifying", min(start + VERIFY_BATCH, len(slots)), len(slots))
    return len(slots), problems


def _slot_problems(store: Store, slot: int, records: Sequence[bytes], tag: bytes) -> list[str]:
    problems = []
    for level, record in zip(LEVELS, records, strict=True):
        try:
            pointer = PointerRecord.unpack(record)
            if pointer.offset != store.buffer.offset(slot) + store.hierarchy.offsets(level)[0]:
                problems.append(f"level {level}: pointer leads elsewhere")
            elif pointer.model != tag:
                problems.append(f"level {level}: made by another model")
            elif not pointer.matches(store.deref(pointer)):
                problems.append(f"level {level}: bytes do not match their SHA-256; membank reencode mends it")
        except BankCorruptError as exc:
            problems.append(f"level {level}: {exc}")
    return problems


def _verify_references(store: Store) -> list[str]:
    rows = store.registry.rows(
        "SELECT p.slot, p.ref_count, coalesce(u.uses, 0) AS uses FROM pointers AS p LEFT JOIN"
        " (SELECT slot, count(*) AS uses FROM (SELECT slot FROM memories UNION ALL SELECT slot FROM passages)"
        " GROUP BY slot) AS u ON u.slot = p.slot WHERE max(p.ref_count, 0) != coalesce(u.uses, 0) ORDER BY p.slot"
    )
    problems = [f"slot {slot}: {count} references counted, {real} memories point at it" for slot, count, real in rows]
    lost = store.registry.rows("SELECT id FROM memories WHERE slot NOT IN (SELECT slot FROM pointers)")
    problems += [f"memory {row[0]}: its activation has no pointer" for row in lost]
    lost = store.registry.rows(
        "SELECT id, memory_id FROM passages WHERE slot NOT IN (SELECT slot FROM pointers)"
        " OR memory_id NOT IN (SELECT id FROM memories)"
    )
    return problems + [f"passage {row[0]} of memory {row[1]}: its memory or its pointer is missing" for row in lost]


def _verify_indexes(store: Store) -> list[str]:
    problems = []
    for namespace in store.registry.namespaces():
        try:
            # nobody adds between the two
            with store.write_lock:
                expected = store.registry.count_vectors(namespace)
                found = len(store.indexes.get(namespace))
        except BankCorruptError as exc:
            problems.append(f"index of {namespace!r}: {exc}")
            continue
        # a reader's index may still hold memories that the writing process has since removed
        if found < expected or (found > expected and not store.read_only):
            problems.append(
                f"index of {namespace!r}: {found} vectors for {expected} memories; membank rebuild mends it"
            )
    return problems


def collect(store: Store, progress: Progress | None = None) -> dict[str, int]:
    """Remove expired memories, then pack the files.

    Threads may recall meanwhile; those that write wait.
    """
    store.check_writable()
    with store.write_lock:
        return _collect(store, progress)


def _collect(store: Store, progress: Progress | None) -> dict[str, int]:
    expired = store.registry.select(namespace=None, conversation=None, before=None, expired_at=time.time())
    store.remove(expired)
    free = store.registry.free_count()
    before = sum(store.nbytes().values())
    if free:
        _pack(store, progress)
    store.indexes.purge(progress)
    if store.registry.scalar("PRAGMA freelist_count"):
        store.registry.rows("VACUUM")
    store.registry.checkpoint()
    return {
        "expired": len(expired),
        "freed_slots": free,
        "freed_bytes": max(0, before - sum(store.nbytes().values())),
    }


def _pack(store: Store, progress: Progress | None) -> None:
    """Copy the activations in use into a new file."""
    rewrite = Rewrite(store, store.model, store.hierarchy, kind="pack", calibrated_at=store.calibrated_at)
    for done, total in rewrite.copying(lambda slots: [store.codes(slots, level) for level in LEVELS], LEVELS):
        if progress is not None:
            progress("packing", done, total)


def reencode(store: Store, adapter: ModelAdapter, progress: Progress | None = None) -> int:
    """Compute every vector anew from the texts; returns how many were computed in this call."""
    store.check_writable()
    adapter.validate()
    card = ModelCard(adapter.model_id(), adapter.name, adapter.hidden_dim, adapter.source)
    spec = store.hierarchy
    hierarchy = HGNSHierarchy(card.dim, spec.codec_name, k=spec.k, gradient_levels=spec.spec()["gradient_levels"])
    rewrite = Rewrite(store, card, hierarchy, kind="encode")
    total, done, computed = store.registry.count_vectors(), rewrite.count(), 0
    while True:
        batch = rewrite.missing(BATCH)
        if not batch:
            with store.write_lock:
                if not rewrite.missing(1):
                    rewrite.finish()
                    return computed
            continue
        vectors = adapter.encode_batch([memory.text for memory in batch])
        vectors = check_vectors(vectors, len(batch), card.dim, card.name)
        rewrite.put(batch, hierarchy.compress(vectors))
        computed += len(batch)
        if progress is not None:
            progress("re-encoding", done + computed, total)


# ids of passages are no memory's: one column names both
_THERE = (
    "(EXISTS (SELECT 1 FROM memories WHERE id = r.memory_id) OR EXISTS (SELECT 1 FROM passages WHERE id = r.memory_id))"
)


class Rewrite:
    """The next activation file of a bank, being filled. One at a time: a new one puts an end to the one before.

    Of kind "encode" it goes on where an earlier one with the same model stopped; of kind "pack" (the same bytes) or
    "calibrate" (the same vectors along other axes, in the same slots) it starts anew, since it may have copied from
    slots that changed.
    `calibrated_at` is the number of vectors that the hierarchy's axes were found from.
    """

    def __init__(
        self, store: Store, card: ModelCard, hierarchy: HGNSHierarchy, *, kind: str, calibrated_at: int = 0
    ) -> None:
        self._store = store
        self._card = card
        self._hierarchy = hierarchy
        self._kind = kind
        self._calibrated_at = calibrated_at
        self._over = False
        with store.write_lock:
            if isinstance(store.unfinished, Rewrite):
                store.unfinished.abandon()
            self._begin()
            store.unfinished = self

    def _begin(self) -> None:
        store, registry = self._store, self._store.registry
        number = 1 + int(registry.get_meta("activations").removesuffix(".bin").rsplit("-", 1)[1])
        self._name = f"activations-{number}.bin"
        plan = {
            "kind": self._kind, "model": self._card.id, "hgns": self._hierarchy.spec(), "activations": self._name
        }  # fmt: skip
        if self._kind != "encode" or registry.get_meta("rewrite") != plan:
            with registry.transaction() as db:
                db.execute("DELETE FROM rewrite")
                registry.set_meta("rewrite", plan)
            (store.path / self._name).unlink(missing_ok=True)
        self._buffer = store.open_buffer(self._name, self._hierarchy)
        self._next = int(registry.scalar("SELECT coalesce(max(slot) + 1, 0) FROM rewrite"))
        self._after = int(registry.scalar("SELECT coalesce(max(memory_id), 0) FROM rewrite"))

    def count(self) -> int:
        """Memories and passages that are in the new file already."""
        return int(self._store.registry.scalar("SELECT count(*) FROM rewrite"))

    def missing(self, limit: int) -> list[Encoded]:
        """Memories and passages that are not, oldest first; with their texts where those are to be encoded."""
        return (encoded if self._kind == "encode" else placed)(self._store.registry, self._after, limit)

    def put(self, memories: Sequence[Encoded], levels: Sequence[Codes], kept: Sequence[int] = ()) -> None:
        """Write the levels of these memories, shape ``(n, nbytes(level))`` each.

        Levels in `kept` are copies: their pointers keep the name that is recorded, so that damage stays damage.
        """
        registry = self._store.registry
        with self._store.write_lock, registry.transaction() as db:
            self._check_alive()
            self._after = memories[-1].id
            there = existing(registry, [memory.id for memory in memories])
            # what was removed meanwhile must not come into a new file
            rows_kept = [row for row, memory in enumerate(memories) if memory.id in there]
            memories = [memories[row] for row in rows_kept]
            levels = [level[rows_kept] for level in levels]
            records = self._records(memories, levels, kept)
            slots, fresh = self._slots(memories, [record[0][:32] for record in records])
            rows = []
            for memory, record, slot in zip(memories, records, slots, strict=True):
                placed_at = place_records(record, self._buffer.offset(slot), self._hierarchy)
                rows.append((memory.id, slot, record[0][:32], *placed_at))
            db.conn.executemany("INSERT INTO rewrite VALUES (?, ?, ?, ?, ?, ?)", rows)
            if fresh:
                at = np.array([slots[row] for row in fresh], np.int64)
                self._buffer.write_at(at, np.concatenate(levels, axis=1)[fresh])
                self._buffer.flush()

    def _slots(self, memories: Sequence[Encoded], digests: Sequence[bytes]) -> tuple[list[int], list[int]]:
        """The slot of each memory, and the rows whose slots are still to be written."""
        if self._kind == "calibrate":
            slots = [memory.slot for memory in memories]
            known = set(self._there("slot", slots))
            firsts = {slot: row for row, slot in reversed(list(enumerate(slots))) if slot not in known}
            return slots, sorted(firsts.values(), key=lambda row: slots[row])
        held = self._there("digest", digests)
        fresh = []
        for row, digest in enumerate(digests):
            if digest not in held:
                held[digest] = self._next
                self._next += 1
                fresh.append(row)
        return [held[digest] for digest in digests], fresh

    def _there(self, column: str, values: Iterable[Any]) -> dict[Any, int]:
        """Value → slot, of those values of a column that are in the new file already."""
        found: dict[Any, int] = {}
        for marks, piece in chunks(set(values)):
            sql = f"SELECT {column}, slot FROM rewrite WHERE {column} IN ({marks})"
            found.update(self._store.registry.rows(sql, piece))
        return found

    def _records(self, memories: Sequence[Encoded], levels: Sequence[Codes], kept: Sequence[int]) -> list[Records]:
        records = pack_records(levels, self._card, self._hierarchy)
        recorded = self._store.registry.pointers({memory.slot for memory in memories}) if kept else {}
        for row, memory in enumerate(memories):
            old = recorded.get(memory.slot)
            if old is not None:
                names = [(old if level in kept else records[row])[level][:32] for level in LEVELS]
                a, b, c = (name + record[32:] for name, record in zip(names, records[row], strict=True))
                records[row] = a, b, c
        return records

    def _check_alive(self) -> None:
        if self._over:
            raise BankStorageError(
                f"{self._store.path} is being written anew by another operation; wait for it and try again"
            )

    def copying(
        self, levels_of: Callable[[Slots], Sequence[Codes]], kept: Sequence[int], batch_size: int = COPY_BATCH
    ) -> Iterator[tuple[int, int]]:
        """Put everything here a batch at a time, with levels made of what its slots hold now, and switch over; or give
        all of it up. Yields how many are here, of how many."""

        def copy() -> int:
            batch = self.missing(batch_size)
            if batch:
                self.put(batch, levels_of(np.array([memory.slot for memory in batch], np.int64)), kept)
            return len(batch)

        total, done = self._store.registry.count_vectors(), 0
        try:
            while copied := copy():
                done += copied
                yield done, max(done, total)
            with self._store.write_lock:
                self._check_alive()
                # what was told since the last look
                while copy():
                    continue
                self.finish()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give it up and the room it took, unless it is finished."""
        with self._store.write_lock:
            if self._over:
                return
            self._leave()
            (self._store.path / self._name).unlink(missing_ok=True)

    def _leave(self) -> None:
        self._over = True
        self._buffer.close()
        if self._store.unfinished is self:
            self._store.unfinished = None

    def erase(self, labels: Sequence[int]) -> None:
        """Take out the vectors of memories that were removed."""
        # where slots stay as they are, the same slot may soon be another memory's
        self._blank(unplaced(self._store.registry, labels, keep=self._kind != "calibrate"))

    def _blank(self, slots: Sequence[int]) -> None:
        self._buffer.blank(slots)

    def finish(self) -> None:
        """Switch the bank over, then delete the old file."""
        store, registry = self._store, self._store.registry
        with store.write_lock:
            self._check_alive()
            old = store.path / registry.get_meta("activations")
            if self._kind == "calibrate":
                self._reach(registry.next_slot())
            else:
                # memories may have been removed since they were put here
                gone = registry.rows(f"SELECT slot FROM rewrite AS r GROUP BY slot HAVING sum({_THERE}) = 0")
                self._blank([row[0] for row in gone])
            self._switch()
            self._leave()
            if self._kind != "pack":
                store.indexes.discard_saved()
            store.reload(self._hierarchy, same_vectors=self._kind == "pack", same_slots=self._kind == "calibrate")
        with registry.transaction() as db:
            db.execute("DELETE FROM rewrite")
        # a damaged file that was set aside is of no use any more: every vector is here
        for path in [old, *store.path.glob("activations-*.damaged")]:
            try:
                path.unlink(missing_ok=True)
            except OSError as exc:
                # where a file in use cannot be deleted, the next start does it
                logger.warning("could not delete %s: %s", path, exc)

    def _reach(self, count: int) -> None:
        """Make the new file hold so many slots, where the last ones are free."""
        if self._buffer.n_slots < count:
            self._blank([count - 1])

    def _switch(self) -> None:
        registry = self._store.registry
        with registry.transaction() as db:
            if self._kind == "calibrate":
                db.execute(
                    "UPDATE pointers SET level0 = r.level0, level1 = r.level1, level2 = r.level2"
                    " FROM rewrite AS r WHERE r.slot = pointers.slot"
                )
            else:
                db.execute("DELETE FROM pointers")
                db.execute(
                    "INSERT INTO pointers SELECT r.slot, r.digest, r.level0, r.level1, r.level2,"
                    f" sum({_THERE}) FROM rewrite AS r GROUP BY r.slot"
                )
                for table in ("memories", "passages"):
                    db.execute(f"UPDATE {table} SET slot = (SELECT slot FROM rewrite WHERE memory_id = {table}.id)")
            registry.drop_meta("rewrite")
            registry.set_meta("model", vars(self._card))
            record_encoding(registry, self._hierarchy, self._calibrated_at)
            registry.set_meta("activations", self._name)
            registry.bump()
