"""Memories written into the registry: a batch is planned in whole, then its rows are inserted.

The plan says which memories are new, which slot holds which activation and which pointers lead there, with one look-up
for all texts of the batch and one for all its activations. It is made and recorded in one transaction.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from sqlite_utils import Database

from membank_llama.core.errors import BankCorruptError
from membank_llama.core.types import NewMemory, Spans
from membank_llama.hgns.hierarchy import FLOAT32, INT8

from .database import chunks
from .passage_rows import PassageRow, insert_passages
from .pointers import placed_at
from .registry import Registry
from .row_format import COLUMNS, rows_of, text_hashes, told_again

NO_TOKENS = b""
CLOCK_SKEW = 2.0
"""Seconds by which the clocks of two processes may differ."""


@dataclass(frozen=True)
class ModelCard:
    """The model a bank belongs to: its fingerprint, what people call it, where it was opened from. `token_dim` is the
    length of its tokens' states; 0 where the bank keeps vectors alone."""

    id: str
    name: str
    dim: int
    source: str | None = None
    token_dim: int = 0


def full_of(model: ModelCard) -> str:
    """What level 0 is in a bank of this model: where tokens are kept, a byte a dimension is as good as four."""
    return INT8 if model.token_dim else FLOAT32


@dataclass(frozen=True)
class Stored:
    """What became of one memory handed to `Store.add`; `pointers` names those of its levels 0, 1 and 2."""

    memory_id: int
    slot: int
    is_new: bool
    pointers: tuple[str, ...] = ()


@dataclass
class WritePlan:
    """What storing a batch comes to: rows to write by slot, references by slot, new memories, repeated ones."""

    placed: list[Stored] = field(default_factory=list)
    writes: dict[int, int] = field(default_factory=dict)
    references: Counter[int] = field(default_factory=Counter)
    new: list[tuple[int, NewMemory, bytes, int]] = field(default_factory=list)
    again: list[tuple[int, NewMemory]] = field(default_factory=list)
    passages: list[PassageRow] = field(default_factory=list)
    """Those after the first of each memory."""
    labels: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    """By namespace the ids to index, and the row of each one's vector."""


class Places:
    """Places for what is new: freed slots first, then new ones at the end; ids above all that were ever given."""

    def __init__(self, db: Database, wanted: int) -> None:
        row = db.execute(
            "SELECT (SELECT coalesce(max(slot) + 1, 0) FROM pointers),"
            " 1 + max((SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'memories'),"
            " (SELECT coalesce(max(id), 0) FROM memories), (SELECT coalesce(max(id), 0) FROM passages)),"
            " (SELECT group_concat(slot) FROM"
            " (SELECT slot FROM pointers WHERE ref_count <= 0 ORDER BY slot LIMIT ?))",
            (wanted,),
        ).fetchone()
        self.next_slot, self.next_id = int(row[0]), int(row[1])
        self.free = [int(slot) for slot in reversed(row[2].split(","))] if row[2] else []

    def take(self) -> int:
        """A slot for one activation."""
        if self.free:
            return self.free.pop()
        self.next_slot += 1
        return self.next_slot - 1


def make_plan(
    db: Database,
    items: Sequence[NewMemory],
    spans: Sequence[Spans],
    records: Sequence[Sequence[bytes]],
    tokens: Sequence[bytes] | None = None,
) -> WritePlan:
    """Decide for each item whether it is new and which slots hold the activations of its passages.

    `records` are those of all passages of all items, in order, and `tokens` the digests of their tokens, where they
    have any; a passage's id follows that of the one before it.
    """
    digests = text_hashes([item.text for item in items])
    known = known_texts(db, items, digests)
    held = held_activations(db, {record[0][:32] for record in records})
    places = Places(db, len(records))
    plan = WritePlan()
    end, next_id = 0, places.next_id
    for item, digest, cuts in zip(items, digests, spans, strict=True):
        begin, end = end, end + len(cuts)
        place = known.get((item.namespace, digest))
        if place is not None:
            plan.again.append((place[0], item))
            plan.placed.append(Stored(*place, is_new=False))
            continue
        taken = []
        for row in range(begin, end):
            activation = records[row][0][:32], NO_TOKENS if tokens is None else tokens[row]
            slot = held.get(activation)
            if slot is None:
                slot = held[activation] = places.take()
                plan.writes[slot] = row
            plan.references[slot] += 1
            taken.append(slot)
        ids = range(next_id, next_id + len(cuts))
        known[item.namespace, digest] = (next_id, taken[0])
        plan.new.append((next_id, item, digest, taken[0]))
        rest = zip(ids[1:], cuts[1:], taken[1:], strict=True)
        plan.passages += [
            (passage_id, next_id, start, stop, slot, item.namespace) for passage_id, (start, stop), slot in rest
        ]
        labels = plan.labels.setdefault(item.namespace, ([], []))
        labels[0].extend(ids)
        labels[1].extend(range(begin, end))
        names = tuple(record[:32].hex() for record in records[begin])
        plan.placed.append(Stored(next_id, taken[0], is_new=True, pointers=names))
        next_id += len(cuts)
    return plan


def record_plan(
    registry: Registry,
    db: Database,
    plan: WritePlan,
    records: Sequence[Sequence[bytes]],
    starts: Sequence[int],
    slot_bytes: int,
    now: float,
) -> None:
    """Write a plan into the registry, in the transaction that `db` is in.

    Args:
        starts: where each level of slot 0 lies in the activation file, which has `slot_bytes` a slot.
    """
    fresh = [
        (slot, placed_at(records[row], starts, slot * slot_bytes), plan.references[slot])
        for slot, row in plan.writes.items()
    ]
    put_pointers(db, fresh)
    refer(db, {slot: count for slot, count in plan.references.items() if slot not in plan.writes})
    if plan.new:
        insert_memories(registry, db, plan.new, now)
        if plan.passages:
            insert_passages(db, plan.passages)
    if plan.again:
        seen_again(registry, db, plan.again, now)
    if plan.new:
        registry.bump(db)


def put_pointers(db: Database, rows: Iterable[tuple[int, Sequence[bytes], int]]) -> None:
    """Write (slot, its three packed records, references); the first record names the activation."""
    sql = "INSERT OR REPLACE INTO pointers VALUES (?, ?, ?, ?, ?, ?)"
    db.conn.executemany(sql, ((slot, records[0][:32], *records, count) for slot, records, count in rows))


def refer(db: Database, more: Mapping[int, int]) -> None:
    """slot → how many more memories and passages point at it."""
    if more:
        db.conn.executemany("UPDATE pointers SET ref_count = ref_count + ?2 WHERE slot = ?1", tuple(more.items()))


def insert_memories(
    registry: Registry, db: Database, rows: Sequence[tuple[int, NewMemory, bytes, int]], now: float
) -> None:
    """Store memories given as (id, memory, text hash, slot); ids must be above all that were ever given."""
    sql = f"INSERT INTO memories ({COLUMNS}) VALUES ({', '.join('?' * (COLUMNS.count(',') + 1))})"
    db.conn.executemany(sql, rows_of(rows, now))
    registry.words.file(db, [(memory_id, item.namespace, item.text) for memory_id, item, _, _ in rows])
    soon = time.time() + CLOCK_SKEW
    if any(item.expires_at is not None and item.expires_at <= soon for _, item, _, _ in rows):
        registry.lifetimes_changed(db)


def seen_again(registry: Registry, db: Database, tellings: Iterable[tuple[int, NewMemory]], now: float) -> None:
    """The same texts came once more: they live on at least as long as the new telling would."""
    for memory_id, item in tellings:
        # where it is damaged, `verify` says so
        with suppress(BankCorruptError):
            registry.change(db, memory_id, partial(told_again, item=item, now=now))
            registry.lifetimes_changed(db)


def tell_again(registry: Registry, items: Sequence[NewMemory], now: float) -> None:
    """Those of these that are there were told once more; the others are left alone."""
    digests = text_hashes([item.text for item in items])
    with registry.transaction() as db:
        known = known_texts(db, items, digests)
        told = zip(items, digests, strict=True)
        again = [(known[item.namespace, digest][0], item) for item, digest in told if (item.namespace, digest) in known]
        if again:
            seen_again(registry, db, again, now)


def known_texts(
    db: Database, items: Sequence[NewMemory], digests: Sequence[bytes]
) -> dict[tuple[str, bytes], tuple[int, int]]:
    """(namespace, text hash) → (id, slot) of those texts that are there."""
    found: dict[tuple[str, bytes], tuple[int, int]] = {}
    for namespace in {item.namespace for item in items}:
        for marks, piece in chunks(digests):
            sql = f"SELECT text_hash, id, slot FROM memories WHERE namespace = ? AND text_hash IN ({marks})"
            rows = db.execute(sql, (namespace, *piece)).fetchall()
            found.update({(namespace, digest): (memory_id, slot) for digest, memory_id, slot in rows})
    return found


def held_activations(db: Database, digests: Iterable[bytes]) -> dict[tuple[bytes, bytes], int]:
    """SHA-256 of an activation, and of its tokens → the slot that holds it, for those in use."""
    found: dict[tuple[bytes, bytes], int] = {}
    for marks, piece in chunks(digests):
        sql = (
            "SELECT p.digest, coalesce(substr(t.pointer, 1, 32), x''), p.slot FROM pointers AS p"
            f" LEFT JOIN tokens AS t ON t.slot = p.slot WHERE p.digest IN ({marks}) AND p.ref_count > 0"
        )
        found.update(((digest, tokens), slot) for digest, tokens, slot in db.execute(sql, piece))
    return found
