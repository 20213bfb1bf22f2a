"""Looking after a bank: collect what has expired, write the activation file anew. (verification.py checks it.)

A rewrite fills the next activation file beside the one in use and records every step in the registry; the switch
to it is one transaction. Interrupted anywhere, the bank is as it was and the rewrite goes on where it stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from .adapters.base import ModelAdapter, check_vectors
from .bank_files import activation_number, remove
from .bank_records import read_activations, read_rewrite
from .encoding import record_encoding
from .errors import BankCorruptError
from .hgns.hierarchy import HGNSHierarchy
from .passage_rows import Encoded, encoded
from .placement import ModelCard, pack_records, place_records
from .store import Slots, Store
from .types import LEVELS, Codes, Progress
from .verification import VerifyReport as VerifyReport
from .verification import verify as verify

logger = logging.getLogger("membank_llama")

BATCH = 32
COPY_BATCH = 512


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
    with closing(Rewrite(store, card, hierarchy, kind="encode")) as rewrite:
        return _encode_all(store, adapter, rewrite, hierarchy, progress)


def _encode_all(
    store: Store, adapter: ModelAdapter, rewrite: Rewrite, hierarchy: HGNSHierarchy, progress: Progress | None
) -> int:
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
        vectors = check_vectors(vectors, len(batch), hierarchy.dim, adapter.name)
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
            remove(store.path / self._name)
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
        if memories[-1].id <= self._after:
            raise BankCorruptError(f"{self._store.path}: memories are out of order; restore it from a copy")
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
        except BaseException:
            self.abandon()
            raise

    def close(self) -> None:
        """Let go of the new file; what is in it stays, for the next try."""
        self._buffer.close()

    def abandon(self) -> None:
        """Give it up and the room it took."""
        self.close()
        remove(self._store.path / self._name)

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
