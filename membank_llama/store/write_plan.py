"""Where the memories of a batch go: which are new, which slot holds which activation, which pointers lead there.

A batch is planned in whole before anything is written, with one look-up for all its texts and one for all its
activations; the plan is then recorded in the transaction that stores it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from membank_llama.core.types import LEVELS, Codes, NewMemory, Spans
from membank_llama.hgns.hierarchy import HGNSHierarchy

from .passage_rows import PassageRow, insert_passages
from .pointers import level_dtype, pack_many, relocate
from .registry import Registry
from .rows import text_hash


@dataclass(frozen=True)
class ModelCard:
    """The model a bank belongs to: its fingerprint, what people call it, where it was opened from."""

    id: str
    name: str
    dim: int
    source: str | None = None


@dataclass(frozen=True)
class Stored:
    """What became of one memory handed to `Store.add`; `pointers` names those of its levels 0, 1 and 2."""

    memory_id: int
    slot: int
    is_new: bool
    pointers: tuple[str, ...] = ()


@dataclass
class Batch:
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


class _SlotSource:
    """Slots for new activations: freed ones first, then new ones at the end."""

    def __init__(self, registry: Registry, wanted: int) -> None:
        self._free = iter(registry.free_slots(wanted))
        self._next = registry.next_slot()

    def take(self) -> int:
        slot = next(self._free, None)
        if slot is None:
            slot, self._next = self._next, self._next + 1
        return slot


def plan(
    registry: Registry, items: Sequence[NewMemory], spans: Sequence[Spans], records: Sequence[Sequence[bytes]]
) -> Batch:
    """Decide for each item whether it is new and which slots hold the activations of its passages.

    `records` are those of all passages of all items, in order; a passage's id follows that of the one before it.
    """
    digests = [text_hash(item.text) for item in items]
    known = {
        (namespace, digest): place
        for namespace in {item.namespace for item in items}
        for digest, place in registry.find(namespace, digests).items()
    }
    held = registry.slots_with({record[0][:32] for record in records})
    slots = _SlotSource(registry, len(records))
    next_id = registry.last_id() + 1
    batch = Batch()
    end = 0
    for item, digest, cuts in zip(items, digests, spans, strict=True):
        begin, end = end, end + len(cuts)
        place = known.get((item.namespace, digest))
        if place is not None:
            batch.again.append((place[0], item))
            batch.placed.append(Stored(*place, is_new=False))
            continue
        taken = []
        for row in range(begin, end):
            activation = records[row][0][:32]
            slot = held.get(activation)
            if slot is None:
                slot = held[activation] = slots.take()
                batch.writes[slot] = row
            batch.references[slot] += 1
            taken.append(slot)
        ids = range(next_id, next_id + len(cuts))
        known[item.namespace, digest] = (next_id, taken[0])
        batch.new.append((next_id, item, digest, taken[0]))
        rest = zip(ids[1:], cuts[1:], taken[1:], strict=True)
        batch.passages += [
            (passage_id, next_id, start, stop, slot, item.namespace) for passage_id, (start, stop), slot in rest
        ]
        labels = batch.labels.setdefault(item.namespace, ([], []))
        labels[0].extend(ids)
        labels[1].extend(range(begin, end))
        batch.placed.append(Stored(next_id, taken[0], is_new=True))
        next_id += len(cuts)
    return batch


def record(
    registry: Registry,
    batch: Batch,
    records: Sequence[Sequence[bytes]],
    place: Callable[[int, Sequence[bytes]], tuple[bytes, ...]],
    now: float,
) -> None:
    """Write a planned batch into the registry; `place` gives a slot's records their offsets."""
    fresh = [
        (
            slot,
            place(slot, records[row]),
            batch.references.pop(slot),
        )
        for slot, row in batch.writes.items()
    ]
    registry.put_pointers(fresh)
    registry.refer(batch.references)
    registry.insert(batch.new, now)
    insert_passages(registry, batch.passages)
    registry.seen_again(batch.again, now)
    if batch.new:
        registry.bump()


def pack_records(
    levels: Sequence[Codes], model: ModelCard, hierarchy: HGNSHierarchy
) -> list[tuple[bytes, bytes, bytes]]:
    """Packed pointers of three levels of n vectors, their offsets still 0."""
    nowhere = [0] * len(levels[0])
    packed = [
        pack_many(
            codes,
            nowhere,
            dims=hierarchy.dim,
            dtype=level_dtype(hierarchy.codec_name, level),
            level=level,
            model_id=model.id,
        )
        for level, codes in enumerate(levels)
    ]
    return list(zip(*packed, strict=True))


def place_records(records: Sequence[bytes], base: int, hierarchy: HGNSHierarchy) -> tuple[bytes, ...]:
    """The same with the offsets of a slot that begins at byte `base`."""
    return tuple(relocate(records[level], base + hierarchy.offsets(level)[0]) for level in LEVELS)
