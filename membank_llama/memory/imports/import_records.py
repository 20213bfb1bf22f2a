"""Records of imports, kept with the bank: what each brought, so that it can be taken away again as one.

A record holds ranges of ids and no text. It is written with every batch, in the transaction that stores it, so that an
import that was killed can be gone on with, and undone, as well as one that ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Memory, NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.store.database import chunks
from membank_llama.store.registry import Registry

IMPORTS = "imports"
"""Under this key the ids of all records, and the last that was given; under it with an id the record."""


@dataclass(frozen=True)
class ImportRecord:
    """One import. `ranges`: first and last of ids that came with it, some of which may be gone; `ended`: when
    the last of them was stored."""

    id: int
    when: float
    file: str
    kinds: tuple[str, ...]
    namespace: str | None = None
    new: int = 0
    known: int = 0
    ranges: tuple[tuple[int, int], ...] = ()
    done: bool = False
    ended: float = 0.0

    def with_ids(self, ids: Iterable[int]) -> ImportRecord:
        """With some more memories, stored now."""
        ranges, found = list(self.ranges), sorted(ids)
        for one in found:
            if ranges and ranges[-1][1] + 1 == one:
                ranges[-1] = ranges[-1][0], one
            else:
                ranges.append((one, one))
        return replace(self, new=self.new + len(found), ranges=tuple(ranges), ended=time.time())


@dataclass(frozen=True)
class Brought:
    """What is there yet of an import, and what was told again since, and is not the import's alone any more."""

    ids: tuple[int, ...]
    told_since: tuple[int, ...]


def import_records(bank: MemBank) -> list[ImportRecord]:
    """All that were not undone, oldest first."""
    registry = bank.store.registry
    found = (_record(registry.get_meta(_key(number))) for number in _list(registry).ids)
    return [record for record in found if record is not None]


def import_record(bank: MemBank, number: int | None = None) -> ImportRecord:
    """One record; the newest where no number is given.

    Raises:
        InvalidInputError: there is none.
    """
    records = import_records(bank)
    if number is None and records:
        return records[-1]
    found = next((record for record in records if record.id == number), None)
    if found is None:
        which = "was no import" if number is None else f"is no import {number}"
        raise InvalidInputError(f"there {which} in {bank.path}; membank import --list shows them")
    return found


def begin_record(
    bank: MemBank, file: str, kinds: tuple[str, ...], namespace: str | None, memories: Iterable[NewMemory]
) -> ImportRecord:
    """A record for an import of some memories that begins; that of one of the same which was broken off."""
    records = import_records(bank)
    for record in records:
        if not record.done and (record.file, record.kinds, record.namespace) == (file, kinds, namespace):
            # all exports of a program are called alike: this one has what the other began with
            begun = next(_memories(bank, record), None)
            if begun is None or any((one.namespace, one.text) == (begun.namespace, begun.text) for one in memories):
                return replace(record, known=0)
    newest = max(_list(bank.store.registry).last, *(record.id for record in records), 0)
    return ImportRecord(newest + 1, time.time(), file, kinds, namespace)


def write_record(registry: Registry, record: ImportRecord) -> None:
    """Keep a record; in the transaction that is open, where one is."""
    with registry.transaction():
        known = _list(registry)
        if record.id not in known.ids:
            registry.set_meta(IMPORTS, asdict(_Ids((*known.ids, record.id), max(known.last, record.id))))
        registry.set_meta(_key(record.id), asdict(record))


def note_import(bank: MemBank, record: ImportRecord) -> None:
    """Keep a record in a transaction of its own."""
    write_record(bank.store.registry, record)


def brought(bank: MemBank, record: ImportRecord) -> Brought:
    """What is there of an import. A memory that was told again since it began is whoever's told it: a long one has
    people talking beside it."""
    ids: list[int] = []
    since: list[int] = []
    for memory in _memories(bank, record):
        told_since = memory.created_at > record.when and memory.created_at > memory.first_told_at
        (since if told_since else ids).append(memory.id)
    return Brought(tuple(ids), tuple(since))


def undo_import(bank: MemBank, record: ImportRecord) -> int:
    """Forget what an import brought, and the record of it; returns how many memories that were.

    Raises:
        BankStorageError: they are forgotten, but the disk refused to overwrite all of it; opening does it again.
    """
    ids = brought(bank, record).ids
    count = bank.forget(ids) if ids else 0
    bank.run_where_held(drop_import, record)
    return count


def drop_import(bank: MemBank, record: ImportRecord) -> None:
    """Forget a record."""
    registry = bank.store.registry
    with registry.transaction():
        known = _list(registry)
        left = tuple(number for number in known.ids if number != record.id)
        registry.set_meta(IMPORTS, asdict(_Ids(left, known.last)))
        registry.drop_meta(_key(record.id))


def _memories(bank: MemBank, record: ImportRecord) -> Iterator[Memory]:
    for first, last in record.ranges:
        for _, piece in chunks(range(first, last + 1)):
            yield from bank.store.registry.get(piece).values()


@dataclass(frozen=True)
class _Ids:
    """Ids in use, and the last that was given: no other import is ever called as one that was undone."""

    ids: tuple[int, ...] = ()
    last: int = 0


def _list(registry: Registry) -> _Ids:
    found = registry.get_meta(IMPORTS)
    ids, last = (found.get("ids"), found.get("last")) if isinstance(found, dict) else ((), 0)
    numbers = tuple(one for one in ids if type(one) is int) if isinstance(ids, list) else ()
    return _Ids(numbers, last if type(last) is int else 0)


def _key(number: int) -> str:
    return f"{IMPORTS}-{number}"


def _record(value: Any) -> ImportRecord | None:
    """A record as it was kept; None where there is none, or what another version left there."""
    try:
        ranges = tuple((int(first), int(last)) for first, last in value["ranges"])
        return ImportRecord(
            id=int(value["id"]),
            when=float(value["when"]),
            file=str(value["file"]),
            kinds=tuple(map(str, value["kinds"])),
            namespace=None if value["namespace"] is None else str(value["namespace"]),
            new=int(value["new"]),
            known=int(value["known"]),
            ranges=ranges,
            done=value["done"] is True,
            ended=float(value["ended"]),
        )
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
