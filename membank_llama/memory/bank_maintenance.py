"""`BankMaintenance`: the half of `MemBank` that looks after a bank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from membank_llama.adapters.base import ModelAdapter
from membank_llama.core.errors import ModelError
from membank_llama.core.types import Progress
from membank_llama.kv.piece_store import pieces_nbytes
from membank_llama.recall.engine import RecallEngine
from membank_llama.recall.question_encoder import QuestionEncoder
from membank_llama.store.maintenance import compact
from membank_llama.store.maintenance.backup import BackupReport, back_up
from membank_llama.store.maintenance.row_checks import check_database, check_rows, reindex
from membank_llama.store.memory_writer import ModelCard
from membank_llama.store.store import Store

from .calibrator import Calibrator


class BankMaintenance:
    """What is done to a whole bank; `MemBank` opens what is named here."""

    adapter: ModelAdapter | None
    max_text_bytes: int
    _store: Store

    def use(self, adapter: ModelAdapter | None) -> None:
        """Encode with this adapter from now on."""
        self.adapter = adapter
        self._card = None if adapter is None else card_of(adapter)
        self._encoder = QuestionEncoder(self._store, adapter, self.max_text_bytes)
        self._engine = RecallEngine(self._store, self._encoder)
        self._calibrator = Calibrator(self._store, self._encoder)

    def need_adapter(self) -> ModelAdapter:
        """The adapter that encodes.

        Raises:
            ModelError: the bank was opened without one.
        """
        if self.adapter is None:
            raise ModelError(
                f"{self._store.path} was opened without a model; pass the adapter of {self._store.model.name}"
            )
        return self.adapter

    def gc(self, progress: Progress | None = None) -> dict[str, int]:
        """Remove what has expired and pack the files: ``{"expired", "freed_slots", "freed_bytes"}``."""
        return compact.collect(self._store, progress)

    def verify(self, progress: Progress | None = None) -> compact.VerifyReport:
        """Hold every stored byte against the registry."""
        return compact.verify(self._store, progress)

    def backup(self, dest: str | Path, *, keep: int | None = None, progress: Progress | None = None) -> BackupReport:
        """Copy the bank into a new directory below `dest`, named by its own name and the time, while others write it.

        The copy is verified before it gets its name. It is a bank itself, without KV state, which is made again.

        Args:
            keep: how many backups of this bank stay in `dest`, the newest; None for all.

        Raises:
            BankCorruptError: the bank is damaged: there is no backup of it, and earlier ones stay.
            BankLockedError, BankStorageError, InvalidInputError: see errors.py; nothing is left in `dest`.
        """
        return back_up(self._store, Path(dest), keep=keep, progress=progress)

    def rebuild_indexes(self, progress: Progress | None = None) -> None:
        """Make the vector indexes and the index of words anew; not needed after opening, only after damage to them.

        Raises:
            BankCorruptError: memories are damaged; what is made of them would hide it.
        """
        self._store.check_writable()
        reindex(self._store.registry)
        # what was read by damaged indexes is read anew
        self._store.snapshots.clear()
        check_rows(self._store.registry)
        self._store.registry.words.rebuild()
        check_database(self._store.registry)
        self._store.indexes.rebuild(progress)

    def reencode(self, adapter: ModelAdapter | None = None, progress: Progress | None = None) -> int:
        """Compute every vector anew from the stored texts, with another model or after damage.

        Can be interrupted and called again; until it is complete the bank stays as it was. Returns the number of
        vectors computed in this call.
        """
        adapter = adapter or self.need_adapter()
        done = compact.reencode(self._store, adapter, progress)
        self.use(adapter)
        self._calibrator.now(progress)
        return done

    def flush(self, progress: Progress | None = None) -> None:
        """Do now what is left to the background: find the bank's axes, finish and save the indexes, measure the
        gate."""
        self._store.registry.check_open()
        if not self._store.read_only:
            self._calibrator.now(progress)
        self._store.indexes.drain(progress)
        self._store.indexes.save()
        self._engine.settle(progress)

    def stats(self) -> dict[str, Any]:
        """Counts, bytes and the model, for people and monitoring."""
        return {**self._store.facts(), "kv_bytes": pieces_nbytes(self._store.path)}


def card_of(adapter: ModelAdapter) -> ModelCard:
    """What a bank records of the model that makes it."""
    return ModelCard(adapter.model_id(), adapter.name, adapter.hidden_dim, adapter.source, adapter.token_dim)
