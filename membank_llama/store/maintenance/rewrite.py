"""`Rewrite`: the next activation file of a bank, filled beside the one in use.

Every step is recorded in the registry and the switch is one transaction: interrupted anywhere, the bank is as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from membank_llama.core.errors import BankCorruptError, BankStorageError
from membank_llama.core.types import LEVELS, Codes
from membank_llama.hgns.hierarchy import HGNSHierarchy

from ..bank_files import activation_number, damaged_files, remove
from ..bank_records import read_activations, read_rewrite
from ..codec_record import record_encoding
from ..database import chunks
from ..memory_writer import NO_TOKENS, ModelCard
from ..passage_rows import Encoded, encoded, placed
from ..pointers import pack_levels, placed_at
from ..removal import unplaced
from ..store import Slots, Store
from ..token_files import open_token_file
from ..token_runs import NEXT_TOKENS, TOKENS, TokenRuns, token_digests

logger = logging.getLogger("membank_llama")

COPY_BATCH = 512
CALIBRATING = "calibrating"
"""The background's job that finds a bank's axes."""

Records = tuple[bytes, ...]

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
        self.hierarchy = hierarchy
        self._kind = kind
        self._calibrated_at = calibrated_at
        self._over = False
        if kind != "calibrate":
            # what somebody asked for goes before what the background does by itself
            store.worker.cancel(CALIBRATING)
        with store.write_lock:
            if isinstance(store.unfinished, Rewrite):
                store.unfinished.abandon()
            self._begin()
            store.unfinished = self

    def _begin(self) -> None:
        store, registry = self._store, self._store.registry
        self._name = f"activations-{1 + activation_number(registry.get_meta('activations'))}.bin"
        # the same vectors in the same slots have the same tokens
        has_tokens = bool(self._card.token_dim) and not self.calibrates
        self._token_name = self._name.replace("activations", "tokens") if has_tokens else None
        plan = {
            "kind": self._kind, "model": self._card.id, "hgns": self.hierarchy.spec(), "activations": self._name,
            "tokens": self._token_name, "token_dim": self._card.token_dim,
        }  # fmt: skip
        if self._kind != "encode" or read_rewrite(registry) != plan:
            with registry.transaction() as db:
                db.execute("DELETE FROM rewrite")
                db.execute(f"DELETE FROM {NEXT_TOKENS}")
                registry.set_meta("rewrite", plan)
            for name in filter(None, (self._name, self._token_name)):
                remove(store.path / name)
        self._buffer = store.open_buffer(self._name, self.hierarchy)
        self._tokens: TokenRuns | None = None
        if self._token_name is not None:
            buffer = open_token_file(store.path / self._token_name, self._card)
            self._tokens = TokenRuns(registry, buffer, NEXT_TOKENS)
        self._next = int(registry.scalar("SELECT coalesce(max(slot) + 1, 0) FROM rewrite"))
        self._after = int(registry.scalar("SELECT coalesce(max(memory_id), 0) FROM rewrite"))

    @property
    def calibrates(self) -> bool:
        """Whether it writes the same vectors along other axes."""
        return self._kind == "calibrate"

    def count(self) -> int:
        """Memories and passages that are in the new file already."""
        return int(self._store.registry.scalar("SELECT count(*) FROM rewrite"))

    def missing(self, limit: int) -> list[Encoded]:
        """Memories and passages that are not, oldest first; with their texts where those are to be encoded."""
        return (encoded if self._kind == "encode" else placed)(self._store.registry, self._after, limit)

    def put(
        self,
        memories: Sequence[Encoded],
        levels: Sequence[Codes],
        kept: Sequence[int] = (),
        tokens: Sequence[Codes] | None = None,
    ) -> None:
        """Write the levels of these memories, shape ``(n, nbytes(level))`` each, and each one's tokens.

        Levels in `kept` are copies: their pointers keep the name that is recorded, so that damage stays damage.
        """
        registry = self._store.registry
        with self._store.write_lock, registry.transaction() as db:
            self._check_alive()
            if memories[-1].id <= self._after:
                raise BankCorruptError(f"{self._store.path}: memories are out of order; restore it from a copy")
            self._after = memories[-1].id
            there = registry.existing([memory.id for memory in memories], ("memories", "passages"))
            # what was removed meanwhile must not come into a new file
            rows_kept = [row for row, memory in enumerate(memories) if memory.id in there]
            memories = [memories[row] for row in rows_kept]
            levels = [level[rows_kept] for level in levels]
            records = self._records(memories, levels, kept)
            if tokens is not None:
                tokens = [tokens[row] for row in rows_kept]
            said = [NO_TOKENS] * len(records) if tokens is None else token_digests(tokens)
            slots, fresh = self._slots(
                memories, [(record[0][:32], own) for record, own in zip(records, said, strict=True)]
            )
            first = self._buffer.offset(0)
            starts = [first + start for start, _ in self.hierarchy.spans]
            rows = []
            for memory, record, slot in zip(memories, records, slots, strict=True):
                pointers = placed_at(record, starts, slot * self.hierarchy.slot_bytes)
                rows.append((memory.id, slot, record[0][:32], *pointers))
            db.conn.executemany("INSERT INTO rewrite VALUES (?, ?, ?, ?, ?, ?)", rows)
            if fresh:
                at = np.array([slots[row] for row in fresh], np.int64)
                self._buffer.write_at(at, np.concatenate(levels, axis=1)[fresh])
                self._buffer.flush()
                if self._tokens is not None and tokens is not None:
                    runs = [tokens[row] for row in fresh]
                    dim, model_id = self._card.token_dim, self._card.id
                    self._tokens.add(db, [slots[row] for row in fresh], runs, dim=dim, model_id=model_id)

    def _slots(
        self, memories: Sequence[Encoded], digests: Sequence[tuple[bytes, bytes]]
    ) -> tuple[list[int], list[int]]:
        """The slot of each memory, and the rows whose slots are still to be written; `digests` are those of the
        activation and of its tokens."""
        if self.calibrates:
            slots = [memory.slot for memory in memories]
            known = {slot for _, _, slot in self._there("slot", slots)}
            firsts = {slot: row for row, slot in reversed(list(enumerate(slots))) if slot not in known}
            return slots, sorted(firsts.values(), key=lambda row: slots[row])
        there = self._there("digest", (digest for digest, _ in digests))
        held = {(digest, own): slot for digest, own, slot in there}
        fresh = []
        for row, digest in enumerate(digests):
            if digest not in held:
                held[digest] = self._next
                self._next += 1
                fresh.append(row)
        return [held[digest] for digest in digests], fresh

    def _there(self, column: str, values: Iterable[Any]) -> list[tuple[bytes, bytes, int]]:
        """Digest, digest of the tokens and slot of what is in the new file already, by some values of a column."""
        found: list[tuple[bytes, bytes, int]] = []
        for marks, piece in chunks(set(values)):
            sql = (
                f"SELECT r.digest, coalesce(substr(t.pointer, 1, 32), x''), r.slot FROM rewrite AS r"
                f" LEFT JOIN {NEXT_TOKENS} AS t ON t.slot = r.slot WHERE r.{column} IN ({marks})"
            )
            found += self._store.registry.rows(sql, piece)
        return found

    def _records(self, memories: Sequence[Encoded], levels: Sequence[Codes], kept: Sequence[int]) -> list[Records]:
        hierarchy = self.hierarchy
        records = pack_levels(levels, hierarchy, self._card.id)
        recorded = self._store.registry.pointers({memory.slot for memory in memories}) if kept else {}
        for row, memory in enumerate(memories):
            old = recorded.get(memory.slot)
            if old is not None and all(isinstance(record, bytes) and len(record) >= 32 for record in old):
                names = [(old if level in kept else records[row])[level][:32] for level in LEVELS]
                records[row] = tuple(name + record[32:] for name, record in zip(names, records[row], strict=True))
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
        held = self._store.tokens

        def copy() -> int:
            batch = self.missing(batch_size)
            if batch:
                slots = [memory.slot for memory in batch]
                tokens = None if held is None or self._tokens is None else held.runs(slots)
                self.put(batch, levels_of(np.array(slots, np.int64)), kept, tokens)
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

    def close(self) -> None:
        """Let go of the new file; what is in it stays, for the next try."""
        with self._store.write_lock:
            if not self._over:
                self._leave()

    def abandon(self) -> None:
        """Give it up and the room it took, unless it is finished."""
        with self._store.write_lock:
            if self._over:
                return
            self._leave()
            for name in filter(None, (self._name, self._token_name)):
                remove(self._store.path / name)

    def _leave(self) -> None:
        self._over = True
        self._buffer.close()
        if self._tokens is not None:
            self._tokens.buffer.close()
        if self._store.unfinished is self:
            self._store.unfinished = None

    def erase(self, labels: Sequence[int]) -> None:
        """Take out the vectors of memories that were removed."""
        # where slots stay as they are, the same slot may soon be another memory's
        self._blank(unplaced(self._store.registry, labels, keep=not self.calibrates))

    def _blank(self, slots: Sequence[int]) -> None:
        self._buffer.blank(slots)
        if self._tokens is not None:
            self._tokens.blank(slots)

    def finish(self) -> None:
        """Switch the bank over, then delete the old file."""
        store, registry = self._store, self._store.registry
        with store.write_lock:
            self._check_alive()
            old = [store.path / read_activations(registry)]
            if not self.calibrates and store.tokens is not None:
                old.append(store.tokens.buffer.path)
            if self.calibrates:
                self._reach(registry.next_slot())
            else:
                # memories may have been removed since they were put here
                gone = registry.rows(f"SELECT slot FROM rewrite AS r GROUP BY slot HAVING sum({_THERE}) = 0")
                self._blank([row[0] for row in gone])
            self._switch()
            self._leave()
            if self._kind != "pack":
                store.indexes.discard_saved()
            store.reload(self.hierarchy, same_vectors=self._kind == "pack", same_slots=self.calibrates)
        with registry.transaction() as db:
            db.execute("DELETE FROM rewrite")
            db.execute(f"DELETE FROM {NEXT_TOKENS}")
        # a damaged file that was set aside is of no use any more: every vector is here
        for path in [*old, *damaged_files(store.path)]:
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
            if self.calibrates:
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
                db.execute(f"DELETE FROM {TOKENS}")
                db.execute(
                    f"INSERT INTO {TOKENS} SELECT * FROM {NEXT_TOKENS}"
                    " WHERE slot IN (SELECT slot FROM pointers WHERE ref_count > 0)"
                )
                if self._token_name is None:
                    registry.drop_meta(TOKENS)
                else:
                    registry.set_meta(TOKENS, self._token_name)
            registry.drop_meta("rewrite")
            registry.set_meta("model", vars(self._card))
            record_encoding(registry, self.hierarchy, self._calibrated_at)
            registry.set_meta("activations", self._name)
            registry.bump(db)
