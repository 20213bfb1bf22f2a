"""`Store`: the one writer of registry, activation file and vector indexes.

A memory exists when its row is committed in the registry, and from that moment on. Its activation is written and
flushed before the commit, so a crash at any point leaves either no memory or a whole one; what an unfinished
write left in the file is overwritten by the next. One process writes (a lock says so), any number read.

    bank/
      bank.sqlite          memories, pointers, full text: the truth
      activations-N.bin    one slot an activation: levels 0, 1 and 2 one after the other
      index/               hnswlib graphs, one a namespace
      writer.lock          held by the writing process
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .buffer import MemMapBuffer
from .database import translate
from .errors import (
    BankCorruptError,
    BankFormatError,
    BankReadOnlyError,
    BankStorageError,
    ModelError,
    ModelMismatchError,
)
from .hgns.hierarchy import HGNSHierarchy
from .indexing import IndexSet
from .lock import WriterLock
from .pointer import PointerRecord, level_dtype, pack_many, relocate
from .registry import Registry, text_hash
from .types import LEVELS, Codes, NewMemory, Progress, Vector

FORMAT = 1
DATABASE = "bank.sqlite"
FIRST_ACTIVATIONS = "activations-1.bin"

Slots = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ModelCard:
    """The model a bank belongs to: its fingerprint, what people call it, where it was opened from."""

    id: str
    name: str
    dim: int
    source: str | None = None


@dataclass(frozen=True)
class Stored:
    """What became of one memory handed to `Store.add`."""

    memory_id: int
    slot: int
    is_new: bool


class Store:
    """A bank's directory, opened.

    Args:
        path: the directory; made with mode 0700 where it is missing and `read_only` is false.
        model: the model in hand; None to take whatever the bank was made with.
        codec: for a new bank, the name of the HGNS codec; an existing bank keeps its own.
        repair: open whatever model made the bank and whatever became of its activations, to re-encode it.

    Raises:
        BankLockedError, BankNotFoundError, BankFormatError, BankStorageError: see errors.py.
        ModelMismatchError: the bank was made by another model.
    """

    def __init__(
        self,
        path: Path,
        model: ModelCard | None,
        *,
        codec: str = "digits",
        read_only: bool = False,
        repair: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self._repair = repair and not read_only
        self._progress = progress
        self._write = threading.RLock()
        with ExitStack() as stack:
            if not read_only:
                _make_directory(path)
                lock = WriterLock(path)
                lock.acquire()
                stack.callback(lock.release)
            self.registry = _open_registry(path, read_only)
            stack.callback(self.registry.close)
            self._adopt(model, codec)
            self.hierarchy = HGNSHierarchy.from_spec(self.registry.get_meta("hgns"))
            self._open_activations()
            stack.callback(self._close_activations)
            self._stack = stack.pop_all()

    # -- opening

    def _adopt(self, model: ModelCard | None, codec: str) -> None:
        made_by = self.registry.get_meta("model")
        if made_by is not None:
            self.model = ModelCard(**made_by)
            if model is not None and model.id != self.model.id and not self._repair:
                raise ModelMismatchError(
                    f"{self.path} was made by {self.model.name} ({self.model.id}, {self.model.dim} dimensions), not by "
                    f"{model.name} ({model.id}, {model.dim} dimensions). Open it with the model that made it, or move "
                    "all its memories over with: membank reencode"
                )
            return
        if self.read_only:
            raise BankFormatError(f"{self.path} holds no memories yet; write to it first")
        if model is None:
            raise ModelError(f"{self.path} is a new bank: name the model whose memories it will hold")
        self.model = model
        with self.registry.transaction():
            self.registry.set_meta("format", FORMAT)
            self.registry.set_meta("created", time.time())
            self.registry.set_meta("model", vars(model))
            self.registry.set_meta("hgns", HGNSHierarchy(model.dim, codec).spec())
            self.registry.set_meta("activations", FIRST_ACTIVATIONS)

    def _open_activations(self) -> None:
        self._activations = self.registry.get_meta("activations")
        try:
            self.buffer = self.open_buffer(self._activations, self.hierarchy)
            self._check_length()
        except BankCorruptError:
            if not self._repair:
                raise
            self._set_aside()
        origin = f"{self.model.id} {self._activations} ".encode() + self.hierarchy.tag
        tag = hashlib.sha256(origin).hexdigest()[:16]
        directory = self.path / "index"
        self.indexes = IndexSet(directory, self.registry, self.coarse, self.hierarchy.dim, tag, self._progress)

    def _check_length(self) -> None:
        expected = self.registry.next_slot()
        if self.buffer.n_slots < expected:
            held = self.buffer.n_slots
            self.buffer.close()
            raise BankCorruptError(
                f"{self.path / self._activations} holds {held} activations, {expected} were stored: it is missing or "
                "was cut. The texts are safe; compute the activations anew with: membank reencode"
            )

    def _set_aside(self) -> None:
        """Keep a damaged activation file under another name; `reencode` fills a new one."""
        damaged = self.path / self._activations
        if damaged.exists():
            damaged.replace(damaged.with_suffix(".damaged"))
        self.buffer = self.open_buffer(self._activations, self.hierarchy)

    def open_buffer(self, name: str, hierarchy: HGNSHierarchy) -> MemMapBuffer:
        """An activation file of this bank."""
        return MemMapBuffer(
            self.path / name, hierarchy.slot_bytes, spec_tag=hierarchy.tag, dims=hierarchy.dim, read_only=self.read_only
        )

    def _close_activations(self) -> None:
        try:
            self.indexes.close()
        finally:
            self.buffer.close()

    def reload(self) -> None:
        """Open the activation file that the registry names now."""
        with self._write:
            self.indexes.close(save=False)
            self.buffer.close()
            self.model = ModelCard(**self.registry.get_meta("model"))
            self.hierarchy = HGNSHierarchy.from_spec(self.registry.get_meta("hgns"))
            self._open_activations()

    def follow(self) -> None:
        """For a reader: notice that the writing process moved to another activation file."""
        if self.read_only and self.registry.get_meta("activations") != self._activations:
            self.reload()

    # -- writing

    def add(self, items: Sequence[NewMemory], vectors: Vector, now: float | None = None) -> list[Stored]:
        """Store memories with their vectors, shape ``(len(items), dim)``; all of them or none.

        A text that its namespace already holds is not stored again: the memory there is returned.
        """
        self.check_writable()
        when = time.time() if now is None else now
        levels = self.hierarchy.compress(vectors)
        records = self.pack_records(levels, self.model, self.hierarchy)
        with self._write:
            placed: list[Stored] = []
            writes: dict[int, int] = {}
            with self.registry.transaction():
                slots = _SlotSource(self.registry, len(items))
                for row, item in enumerate(items):
                    placed.append(self._place(row, item, records[row], slots, writes, when))
                if writes:
                    order = sorted(writes)
                    rows = np.concatenate(levels, axis=1)[[writes[slot] for slot in order]]
                    self.buffer.write_at(np.array(order, np.int64), rows)
                    self.buffer.flush()
                if any(stored.is_new for stored in placed):
                    self.registry.bump()
            self._index_new(items, placed, levels[2])
        return placed

    @staticmethod
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

    @staticmethod
    def place_records(records: Sequence[bytes], base: int, hierarchy: HGNSHierarchy) -> tuple[bytes, ...]:
        """The same with the offsets of a slot that begins at byte `base`."""
        return tuple(relocate(records[level], base + hierarchy.offsets(level)[0]) for level in LEVELS)

    def _place(
        self,
        row: int,
        item: NewMemory,
        records: tuple[bytes, bytes, bytes],
        slots: _SlotSource,
        writes: dict[int, int],
        now: float,
    ) -> Stored:
        digest = text_hash(item.text)
        known = self.registry.find(item.namespace, digest)
        if known is not None:
            self.registry.seen_again(known, now if item.created_at is None else item.created_at)
            return Stored(known, self.registry.get([known])[known].slot, is_new=False)
        slot = self.registry.slot_with(records[0][:32])
        if slot is None:
            slot = slots.take()
            writes[slot] = row
            self.registry.put_pointers(slot, self.place_records(records, self.buffer.offset(slot), self.hierarchy))
        else:
            self.registry.refer(slot)
        return Stored(self.registry.insert(item, digest, slot, now), slot, is_new=True)

    def _index_new(self, items: Sequence[NewMemory], placed: Sequence[Stored], codes: Codes) -> None:
        by_namespace: dict[str, list[int]] = {}
        for row, stored in enumerate(placed):
            if stored.is_new:
                by_namespace.setdefault(items[row].namespace, []).append(row)
        for namespace, rows in by_namespace.items():
            ids = [placed[row].memory_id for row in rows]
            self.indexes.add(namespace, ids, self.hierarchy.decode(codes[rows], 2))

    def remove(self, ids: Iterable[int]) -> int:
        """Forget memories; returns how many there were. Their activations are overwritten with zeros."""
        self.check_writable()
        gone = list(ids)
        with self._write:
            removed, freed = self.registry.delete(gone)
            self.indexes.remove(gone)
            if freed:
                slots = np.array(sorted(freed), np.int64)
                self.buffer.write_at(slots, np.zeros((len(slots), self.hierarchy.slot_bytes), np.uint8))
                self.buffer.flush()
        return removed

    # -- reading

    def codes(self, slots: Slots, level: int) -> Codes:
        """One level of many slots, shape ``(len(slots), nbytes(level))``."""
        return self.buffer.rows(slots, *self.hierarchy.offsets(level))

    def coarse(self, slots: Slots) -> Vector:
        """Decoded level 2 of many slots, shape ``(len(slots), dim)``."""
        return self.hierarchy.decode(self.codes(slots, 2), 2)

    def scores(self, query: Vector, slots: Slots, level: int) -> Vector:
        """Cosine of the query, shape ``(dim,)``, with one level of many slots."""
        return self.hierarchy.score(query, self.codes(slots, level), level)

    def pointers(self, slots: Iterable[int]) -> dict[int, tuple[PointerRecord, PointerRecord, PointerRecord]]:
        """slot → its pointers at levels 0, 1 and 2."""
        packed = self.registry.pointers(slots)
        return {
            slot: (PointerRecord.unpack(a), PointerRecord.unpack(b), PointerRecord.unpack(c))
            for slot, (a, b, c) in packed.items()
        }

    def deref(self, pointer: PointerRecord) -> Codes:
        """The bytes a pointer names: a read-only view into the file."""
        slot, within = divmod(pointer.offset - self.buffer.offset(0), self.hierarchy.slot_bytes)
        return self.buffer.read(slot, within, within + pointer.nbytes)

    def nbytes(self) -> dict[str, int]:
        """Bytes on disk of each part."""
        database = sum(p.stat().st_size for p in self.path.glob(f"{DATABASE}*"))
        index = sum(p.stat().st_size for p in (self.path / "index").glob("*"))
        activations = (self.path / self._activations).stat().st_size
        return {"database": database, "activations": activations, "index": index}

    def check_writable(self) -> None:
        """Raises BankReadOnlyError where the bank was opened for reading."""
        if self.read_only:
            raise BankReadOnlyError(f"{self.path} was opened with read_only=True; open it without to write")

    def meta(self, key: str, default: Any = None) -> Any:
        return self.registry.get_meta(key, default)

    def close(self) -> None:
        """Save the indexes and let go of files and lock. May be called twice."""
        self._stack.close()


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


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(path.iterdir()):
            path.chmod(0o700)
    except FileExistsError as exc:
        raise BankFormatError(f"{path} is a file; a bank is a directory") from exc
    except OSError as exc:
        raise BankStorageError(
            f"cannot make {path}: {exc.strerror or exc}; choose a directory you may write to"
        ) from exc


def _open_registry(path: Path, read_only: bool) -> Registry:
    try:
        return Registry(path / DATABASE, read_only=read_only)
    except (sqlite3.OperationalError, OSError) as exc:
        raise translate(exc, path / DATABASE) from exc
