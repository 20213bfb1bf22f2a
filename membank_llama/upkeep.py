"""Looking after a bank: verify it, collect what has expired, write the activation file anew.

A rewrite fills the next activation file beside the one in use and records every step in the registry; the switch
to it is one transaction. Interrupted anywhere, the bank is as it was and the rewrite goes on where it stopped.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .adapters.base import ModelAdapter, check_vectors
from .bank_files import activation_number
from .bank_records import read_activations, read_rewrite
from .encoding import record_encoding
from .errors import BankCorruptError, MembankError
from .hgns.hierarchy import HGNSHierarchy
from .passage_rows import Encoded, encoded
from .placement import ModelCard, pack_records, place_records
from .pointer import PointerRecord, model_tag
from .store import Slots, Store
from .types import LEVELS, Codes, Progress

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
    if not store.read_only:
        try:
            with store.registry.transaction() as db:
                db.execute("INSERT INTO memories_fts (memories_fts, rank) VALUES ('integrity-check', 1)")
        except (sqlite3.DatabaseError, BankCorruptError):
            problems.append("full text: does not match the memories; membank rebuild mends it")
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
    """Remove expired memories, then pack the files: nothing of what was removed is left in any of them.

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
    # full text keeps the words of removed texts until its segments are merged
    store.registry.optimize_text()
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
    rewrite.copy(lambda slots: [store.codes(slots, level) for level in LEVELS], "packing", progress)


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
    """The next activation file of a bank, being filled.

    Of kind "encode" it goes on where an earlier one with the same model stopped; of kind "pack" (the same bytes) or
    "calibrate" (the same vectors along other axes) it starts anew, since it may have copied from slots that changed.
    `calibrated_at` is the number of vectors that the hierarchy's axes were found from.
    """

    def __init__(
        self, store: Store, card: ModelCard, hierarchy: HGNSHierarchy, *, kind: str, calibrated_at: int = 0
    ) -> None:
        self._store = store
        self._card = card
        self._hierarchy = hierarchy
        registry = store.registry
        self._name = f"activations-{1 + activation_number(registry.get_meta('activations'))}.bin"
        self._packs = kind == "pack"
        self._calibrated_at = calibrated_at
        plan = {"kind": kind, "model": card.id, "hgns": hierarchy.spec(), "activations": self._name}
        if kind != "encode" or read_rewrite(registry) != plan:
            with registry.transaction() as db:
                db.execute("DELETE FROM rewrite")
                registry.set_meta("rewrite", plan)
            (store.path / self._name).unlink(missing_ok=True)
        self._buffer = store.open_buffer(self._name, hierarchy)
        self._next = int(registry.scalar("SELECT coalesce(max(slot) + 1, 0) FROM rewrite"))
        self._after = int(registry.scalar("SELECT coalesce(max(memory_id), 0) FROM rewrite"))

    def count(self) -> int:
        """Memories and passages that are in the new file already."""
        return int(self._store.registry.scalar("SELECT count(*) FROM rewrite"))

    def missing(self, limit: int) -> list[Encoded]:
        """Memories and passages that are not, oldest first."""
        return encoded(self._store.registry, self._after, limit)

    def put(self, memories: Sequence[Encoded], levels: Sequence[Codes]) -> None:
        """Write the levels of these memories, shape ``(n, nbytes(level))`` each."""
        first = self._next
        records = pack_records(levels, self._card, self._hierarchy)
        with self._store.registry.transaction() as db:
            fresh: dict[int, int] = {}
            for row, memory in enumerate(memories):
                digest = records[row][0][:32]
                slot = self._store.registry.scalar("SELECT slot FROM rewrite WHERE digest = ?", (digest,))
                if slot is None:
                    slot = first + len(fresh)
                    fresh[slot] = row
                base = self._buffer.offset(slot)
                placed = place_records(records[row], base, self._hierarchy)
                db.execute("INSERT INTO rewrite VALUES (?, ?, ?, ?, ?, ?)", (memory.id, slot, digest, *placed))
            if fresh:
                self._buffer.write(first, np.concatenate(levels, axis=1)[list(fresh.values())])
                self._buffer.flush()
        self._next = first + len(fresh)
        self._after = memories[-1].id

    def copy(self, levels_of: Callable[[Slots], Sequence[Codes]], label: str, progress: Progress | None) -> None:
        """Put everything here, with levels made of what its slots hold now, and switch over; or give all of it up."""
        total, done = self._store.registry.count_vectors(), 0
        try:
            while batch := self.missing(COPY_BATCH):
                self.put(batch, levels_of(np.array([memory.slot for memory in batch], np.int64)))
                done += len(batch)
                if progress is not None:
                    progress(label, done, total)
            self.finish()
        except MembankError:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Give it up and the room it took."""
        self._buffer.close()
        (self._store.path / self._name).unlink(missing_ok=True)

    def _erase_removed(self) -> None:
        """Memories may have been removed since they were put here."""
        rows = self._store.registry.rows(f"SELECT slot FROM rewrite AS r GROUP BY slot HAVING sum({_THERE}) = 0")
        slots = np.array([row[0] for row in rows], np.int64)
        self._buffer.write_at(slots, np.zeros((len(slots), self._hierarchy.slot_bytes), np.uint8))
        self._buffer.flush()

    def finish(self) -> None:
        """Switch the bank over, then delete the old file."""
        store, registry = self._store, self._store.registry
        old = store.path / read_activations(registry)
        self._erase_removed()
        with registry.transaction() as db:
            db.execute("DELETE FROM pointers")
            db.execute(
                "INSERT INTO pointers SELECT r.slot, r.digest, r.level0, r.level1, r.level2,"
                f" sum({_THERE}) FROM rewrite AS r GROUP BY r.slot"
            )
            for table in ("memories", "passages"):
                db.execute(f"UPDATE {table} SET slot = (SELECT slot FROM rewrite WHERE memory_id = {table}.id)")
            db.execute("DELETE FROM rewrite")
            registry.drop_meta("rewrite")
            registry.set_meta("model", vars(self._card))
            record_encoding(registry, self._hierarchy, self._calibrated_at)
            registry.set_meta("activations", self._name)
            registry.bump()
        self._buffer.close()
        if not self._packs:
            store.indexes.discard_saved()
        store.reload(same_vectors=self._packs)
        try:
            old.unlink(missing_ok=True)
        except OSError as exc:
            # where a file in use cannot be deleted, the next start does it
            logger.warning("could not delete %s: %s", old, exc)
