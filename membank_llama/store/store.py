"""`Store`: the one writer of registry, activation file and vector indexes.

A memory exists from the moment its row is committed in the registry. Its activation is written and flushed before,
so a crash leaves either no memory or a whole one. One process writes (a lock says so), any number read.

    bank/
      bank.sqlite          memories, pointers, full text: the truth
      activations-N.bin    one slot an activation: levels 0, 1 and 2 one after the other
      tokens-N.bin         one row a token: the leading digits of its state (token_runs.py)
      index/               hnswlib graphs, one a namespace
      writer.lock          held by the writing process
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlite_utils import Database

from membank_llama.core.background import BackgroundWorker
from membank_llama.core.errors import (
    BankCorruptError,
    BankError,
    BankFormatError,
    BankNotFoundError,
    BankReadOnlyError,
    BankStorageError,
    ModelError,
    ModelMismatchError,
)
from membank_llama.core.types import Codes, NewMemory, Progress, Spans, Vector
from membank_llama.hgns.hierarchy import DEFAULT_CODEC, HGNSHierarchy

from . import removal
from .activations import MemMapBuffer
from .bank_files import (
    DATABASE,
    FIRST_ACTIVATIONS,
    FIRST_TOKENS,
    INDEX,
    check_database_is_there,
    check_files,
    check_is_new,
    make_bank_directory,
    remove_leftovers,
    set_aside,
)
from .bank_records import read_activations, read_calibration, read_model, read_rewrite
from .codec_record import read_encoding, record_encoding
from .index_plan import IndexPlan
from .index_set import IndexSet
from .indexed_vectors import IndexedVectors
from .lock import WriterLock
from .memory_writer import ModelCard, Stored, full_of, make_plan, record_plan
from .pointers import pack_levels
from .registry import Registry
from .snapshot_keeper import NamespaceSnapshots
from .stored_vectors import Slots as Slots
from .stored_vectors import StoredVectors
from .token_files import erase_unfinished, files_in_use, open_tokens
from .token_runs import TOKENS, token_digests

FORMAT = 1
INDEXED = 0.9
"""Share of the variance that the indexed axes hold, until there are so many memories that fewer must do."""

logger = logging.getLogger("membank_llama")


class Store(StoredVectors):
    """A bank's directory, opened.

    Args:
        path: the directory; made with mode 0700 where it is missing and `read_only` is false.
        model: the model in hand; None to take whatever the bank was made with.
        codec: for a new bank, the name of the HGNS codec; an existing bank keeps its own.
        repair: open whatever model made the bank and whatever became of its activations, to re-encode it.
        lock: the writer's lock, where the caller has it already; it is released with the store.

    Raises:
        BankLockedError, BankNotFoundError, BankFormatError, BankStorageError: see errors.py.
        ModelMismatchError: the bank was made by another model; one without memories opens, for `compact.adopt`.
    """

    def __init__(
        self,
        path: Path,
        model: ModelCard | None,
        *,
        codec: str = DEFAULT_CODEC,
        read_only: bool = False,
        repair: bool = False,
        progress: Progress | None = None,
        lock: WriterLock | None = None,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self._repair = repair and not read_only
        self.write_lock = threading.RLock()
        self.unfinished: removal.Erasable | None = None
        """The next activation file while it is written: what is removed is erased there too."""
        self.on_forget: list[removal.Listener] = []
        with ExitStack() as stack:
            check_files(path)
            check_database_is_there(path)
            if not read_only:
                make_bank_directory(path)
                lock = lock or WriterLock(path)
                lock.acquire()
                stack.callback(lock.release)
            self.registry = Registry(path / DATABASE, read_only=read_only, progress=progress)
            stack.callback(self.registry.close)
            self.snapshots = NamespaceSnapshots(self.registry)
            self.worker = BackgroundWorker("membank-index")
            self._adopt(model, codec)
            self._open_encoding()
            stack.callback(self._close_activations)
            stack.callback(self.worker.close)
            self._finish_erasing()
            self._stack = stack.pop_all()

    # -- opening

    def _adopt(self, model: ModelCard | None, codec: str) -> None:
        made_by = self._recorded_model(model)
        if made_by is not None:
            self.model = made_by
            is_empty = not self.read_only and not self.registry.count_vectors()
            if model is not None and model.id != self.model.id and not self._repair and not is_empty:
                raise ModelMismatchError(
                    f"{self.path} was made by {self.model.name} ({self.model.id}, {self.model.dim} dimensions), not by "
                    f"{model.name} ({model.id}, {model.dim} dimensions). Open it with the model that made it, or move "
                    "all its memories over with: membank reencode"
                )
            return
        check_is_new(self.path)
        if self.read_only:
            raise BankFormatError(f"{self.path} holds no memories yet; write to it first")
        if model is None:
            raise ModelError(f"{self.path} is a new bank: name the model whose memories it will hold")
        self.model = model
        with self.registry.transaction():
            self.registry.set_meta("format", FORMAT)
            self.registry.set_meta("created", time.time())
            self.registry.set_meta("model", vars(model))
            record_encoding(self.registry, HGNSHierarchy(model.dim, codec, full=full_of(model)), 0)
            self.registry.set_meta("activations", FIRST_ACTIVATIONS)
            if model.token_dim:
                self.registry.set_meta(TOKENS, FIRST_TOKENS)

    def _recorded_model(self, given: ModelCard | None) -> ModelCard | None:
        """The model that the bank records; where that is damaged and the bank is to be repaired, the one given."""
        try:
            return read_model(self.registry)
        except BankCorruptError:
            if self._repair and given is not None:
                return given
            raise

    def _open_encoding(self, known: HGNSHierarchy | None = None) -> None:
        """Read how the bank is encoded and open its activations, all of one moment: a process that writes may be
        switching the bank over, and what was read in part before and in part after does not fit together. `known`: the
        hierarchy that it has just been switched to."""
        while True:
            name = read_activations(self.registry, repair=self._repair)
            self.model = self._recorded_model(self.model) or self.model
            try:
                self.hierarchy = known or read_encoding(self.registry, self.model.dim, repair=self._repair)
                self._open_activations()
                return
            except BankError:
                if read_activations(self.registry, repair=self._repair) == name:
                    raise

    def _open_activations(self) -> None:
        self.calibrated_at = read_calibration(self.registry, repair=self._repair)
        self._open_file()
        # the name of the activation file is no part of it: packing the file moves slots, not vectors
        tag = hashlib.sha256(f"{self.model.id} ".encode() + self.hierarchy.tag).hexdigest()[:16]
        hierarchy = self.hierarchy
        plan = IndexPlan(hierarchy.axes_holding(INDEXED), hierarchy.axes is not None, hierarchy.dim)
        try:
            vectors = IndexedVectors(self.registry, self._index_rows, self._current_file)
            self.indexes = IndexSet(self.path / INDEX, self.registry, vectors, plan, tag, self.worker)
        except BaseException:
            self._close_files()
            raise

    def _open_file(self) -> None:
        """Open the activation file that the registry names, and delete what an interrupted switch left behind."""
        name = read_activations(self.registry, repair=self._repair)
        try:
            buffer = self.open_buffer(name, self.hierarchy)
            self._check_length(buffer)
        except (BankCorruptError, BankNotFoundError) as exc:
            if not self._repair:
                raise BankCorruptError(
                    f"{exc}. The texts are safe: compute the activations anew with membank reencode "
                    "(MemBank(adapter, path, repair=True).reencode())"
                ) from exc
            set_aside(self.path / name)
            buffer = self.open_buffer(name, self.hierarchy)
        try:
            tokens = open_tokens(self.path, self.registry, self.model, read_only=self.read_only, repair=self._repair)
        except BaseException:
            buffer.close()
            raise
        # the buffer before its name: a search that began in between finds the name changed and begins again
        self.buffer, self.tokens = buffer, tokens
        self.activations = name
        if not self.read_only:
            remove_leftovers(self.path, files_in_use(read_rewrite(self.registry), name, tokens))

    def _check_length(self, buffer: MemMapBuffer) -> None:
        expected, held = self.registry.next_slot(), buffer.n_slots
        if held < expected:
            buffer.close()
            raise BankCorruptError(
                f"{buffer.path} holds {held} activations, {expected} were stored: it is missing or was cut"
            )

    def open_buffer(self, name: str, hierarchy: HGNSHierarchy) -> MemMapBuffer:
        """An activation file of this bank."""
        return MemMapBuffer(
            self.path / name,
            hierarchy.slot_bytes,
            spec_tag=hierarchy.tag,
            dims=hierarchy.dim,
            read_only=self.read_only,
        )

    def _close_activations(self) -> None:
        try:
            self.indexes.close()
        finally:
            self._close_files()

    def _close_files(self) -> None:
        self.buffer.close()
        if self.tokens is not None:
            self.tokens.buffer.close()

    def reload(
        self, hierarchy: HGNSHierarchy | None = None, *, same_vectors: bool = False, same_slots: bool = False
    ) -> None:
        """Open the activation file that the registry names now.

        Args:
            hierarchy: the one that the registry names; None to read it.
            same_vectors: the indexes still hold.
            same_slots: every memory has the slot it had.
        """
        with self.write_lock:
            old, old_tokens = self.buffer, self.tokens
            if not same_slots:
                self.snapshots.clear()
            if same_vectors:
                self._open_file()
            else:
                self.indexes.close(save=False)
                self.model = self._recorded_model(None) or self.model
                self._open_encoding(hierarchy)
            old.close()
            if old_tokens is not None:
                old_tokens.buffer.close()

    def _current_file(self) -> str | None:
        """The name of the activation file in hand; None where the registry names another."""
        name = self.activations
        return name if self.is_current(name) else None

    # -- writing

    def add(
        self,
        items: Sequence[NewMemory],
        vectors: Vector,
        now: float | None = None,
        *,
        model_id: str | None = None,
        spans: Sequence[Spans] | None = None,
        tokens: Sequence[Codes] | None = None,
        beside: Callable[[Database], None] | None = None,
    ) -> list[Stored]:
        """Store memories with their vectors, all of them or none, and what `beside` writes in the same transaction.

        `vectors` has a row for each passage that `spans` cuts the memories into, in order; one a memory without.
        `tokens` are the digits of each one's tokens, (count, row bytes), where the bank keeps them.
        `model_id` is the model that made the vectors, checked where it is given.

        A text that its namespace already holds is not stored again: the memory there is returned.
        """
        when = time.time() if now is None else now
        spans = [((0, len(item.text)),) for item in items] if spans is None else spans
        with self.write_lock:
            if model_id is not None:
                self.check_model(model_id)
            hierarchy = self.hierarchy
            levels = hierarchy.compress(vectors)
            records = pack_levels(levels, hierarchy, self.model.id)
            first = self.buffer.offset(0)
            starts = [first + start for start, _ in hierarchy.spans]
            with self.registry.transaction() as db:
                kept = None if self.tokens is None or tokens is None else token_digests(tokens)
                plan = make_plan(db, items, spans, records, kept)
                if plan.writes:
                    order = sorted(plan.writes)
                    rows = np.concatenate(levels, axis=1)[[plan.writes[slot] for slot in order]]
                    self.buffer.write_at(np.array(order, np.int64), rows)
                    self.buffer.flush()
                    if self.tokens is not None and tokens is not None:
                        runs = [tokens[plan.writes[slot]] for slot in order]
                        self.tokens.add(db, order, runs, dim=self.model.token_dim, model_id=self.model.id)
                record_plan(self.registry, db, plan, records, starts, hierarchy.slot_bytes, when)
                # those of what was there before are the ones that were written then
                known = {entry.slot for entry in plan.placed if not entry.is_new}
                names = self.pointer_ids(known) if known else {}
                if beside is not None:
                    beside(db)
            for namespace, (ids, of) in plan.labels.items():
                index = self.indexes.loaded(namespace)
                if index is not None:
                    self.indexes.add(namespace, ids, hierarchy.index_rows(levels[2][of], index.dim))
        return [entry if entry.is_new else replace(entry, pointers=names[entry.slot]) for entry in plan.placed]

    def remove(self, ids: Iterable[int]) -> int:
        """Forget memories; returns how many there were. No file holds anything of their text or vectors afterwards.

        Raises:
            BankStorageError: they are gone from every recall, but the disk refused to overwrite all of it; the next
                removal or opening does it.
        """
        self.check_writable()
        with self.write_lock:
            gone = removal.delete_memories(self.registry, list(ids), self.on_forget)
            if gone.memories:
                for namespace, labels in gone.labels.items():
                    self.snapshots.drop(namespace, labels)
                self._erase(gone)
        return gone.memories

    def _erase(self, gone: removal.Removal) -> None:
        """Overwrite what removed memories leave in index, activations and database."""
        try:
            self.indexes.remove(gone.labels)
            self._erase_unfinished([label for labels in gone.labels.values() for label in labels])
            self.buffer.blank(gone.slots)
            if self.tokens is not None:
                self.tokens.blank(gone.slots)
            removal.overwrite(self.registry, gone)
        except (OSError, BankStorageError) as exc:
            raise BankStorageError(
                f"the memories are forgotten and no recall finds them, but not all bytes of them could be overwritten: "
                f"{exc}. It is tried again when the bank is opened next, or with membank gc"
            ) from exc

    def _erase_unfinished(self, labels: Sequence[int]) -> None:
        """The same in the next activation file, where one is being written or such work was interrupted."""
        if self.unfinished is not None:
            self.unfinished.erase(labels)
            return
        plan = read_rewrite(self.registry)
        if plan.get("kind") == "encode":
            with self.open_buffer(plan["activations"], HGNSHierarchy.from_spec(plan["hgns"])) as buffer:
                freed = removal.unplaced(self.registry, labels)
                buffer.blank(freed)
            erase_unfinished(self.path, self.registry, plan, freed)

    def _finish_erasing(self) -> None:
        """Overwrite what a removal that was interrupted left."""
        left = removal.Removal() if self.read_only else removal.pending(self.registry)
        if left.labels:
            try:
                self._erase(left)
            except BankStorageError as exc:
                logger.warning("%s", exc)

    def check_writable(self) -> None:
        """Raises BankReadOnlyError where the bank was opened for reading, BankClosedError where it is closed."""
        self.registry.check_open()
        if self.read_only:
            raise BankReadOnlyError(f"{self.path} was opened with read_only=True; open it without to write")

    def meta(self, key: str, default: Any = None) -> Any:
        return self.registry.get_meta(key, default)

    def close(self) -> None:
        """Save the indexes and let go of files and lock. May be called twice."""
        self._stack.close()
