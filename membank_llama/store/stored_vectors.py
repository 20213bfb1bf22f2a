"""`StoredVectors`: what is read of a store's vectors, by slot and by nearness."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import ModelMismatchError
from membank_llama.core.types import LEVELS, Codes, Ids, Rows, Vector
from membank_llama.hgns.hierarchy import HGNSHierarchy
from membank_llama.hgns.token_codes import AskedTokens, best_matches

from .activations import MemMapBuffer
from .bank_files import DATABASE, INDEX, index_files, size_of
from .index_plan import LINKS
from .index_set import IndexSet
from .memory_writer import ModelCard
from .namespace_snapshot import NamespaceSnapshot
from .pointers import PointerRecord, unpack_many
from .registry import BankState, Registry
from .snapshot_keeper import NamespaceSnapshots
from .token_runs import TokenRuns

HANDED_ON, MORE_HANDED_ON = 128, 1024
"""Candidates that an index of leading axes hands on to level 2, and where it holds fewer axes than that."""

Slots = npt.NDArray[np.int64] | npt.NDArray[np.int32]


class StoredVectors:
    """The reading half of `Store`, which opens what is named here."""

    path: Path
    registry: Registry
    snapshots: NamespaceSnapshots
    hierarchy: HGNSHierarchy
    buffer: MemMapBuffer
    indexes: IndexSet
    activations: str
    calibrated_at: int
    model: ModelCard
    tokens: TokenRuns | None
    """The digits of tokens; None in a bank that keeps vectors alone."""

    write_lock: threading.RLock

    def reload(self) -> None:
        """Open the activation file that the registry names now."""
        raise NotImplementedError

    def current(self) -> BankState:
        """The bank as it is now, its activation file opened: another process, or thread, may have moved it to another
        one since it was last looked at."""
        state = self.registry.state()
        while state.activations != self.activations:
            with self.write_lock:
                if self.registry.state().activations != self.activations:
                    self.reload()
            state = self.registry.state()
        return state

    def check_model(self, model_id: str) -> None:
        """Raises ModelMismatchError where vectors of this model are not those of the bank, or no longer."""
        if model_id != self.model.id:
            raise ModelMismatchError(
                f"{self.path} was moved from {model_id} to {self.model.name} ({self.model.id}) meanwhile; "
                "close it and open it with that model"
            )

    def is_current(self, activations: str | None = None) -> bool:
        """Whether this activation file, by default the one in hand, is the one that the registry names."""
        return bool(self.registry.get_meta("activations") == (activations or self.activations))

    def codes(self, slots: Slots, level: int) -> Codes:
        """One level of many slots, shape ``(len(slots), nbytes(level))``."""
        return self.buffer.rows(np.asarray(slots, np.int64), *self.hierarchy.spans[level])

    def _index_rows(self, slots: Slots, count: int) -> Vector:
        """What is indexed of many slots, shape ``(len(slots), count)``."""
        return self.hierarchy.index_rows(self.codes(slots, 2), count)

    def nearest(
        self, namespace: str, snapshot: NamespaceSnapshot, vector: Vector, want: int, *, spare: bool = False
    ) -> Ids | None:
        """Ids of the `want` memories of a namespace whose level 2 lies nearest to a vector, shape ``(dim,)``, best
        first; None where the index is still being read.

        Along axes the index holds the leading ones alone: it hands on more, and the whole of level 2 chooses.

        Args:
            spare: what else was looked at comes along behind them.
        """
        if not len(snapshot):
            return np.zeros(0, np.int64)
        index = self.indexes.ready(namespace, snapshot.generation)
        if index is None:
            return None
        if self.hierarchy.axes is None:
            return index.search(vector, want)[0]
        asked = self.hierarchy.index_query(vector, index.dim)
        handed_on = HANDED_ON if index.links == LINKS else MORE_HANDED_ON
        ids = index.search(asked, max(handed_on, 2 * want))[0]
        rows = snapshot.rows(ids)
        best = np.argsort(-self.scores(vector, snapshot.slots[rows], 2), kind="stable")
        chosen: Ids = snapshot.ids[rows[best if spare else best[:want]]]
        return chosen

    def scores(self, query: Vector, slots: Slots, level: int) -> Vector:
        """Cosine of the query, shape ``(dim,)``, with one level of many slots."""
        return self.hierarchy.score(query, self.codes(slots, level), level)

    def token_matches(self, snapshot: NamespaceSnapshot, asked: AskedTokens, rows: Rows) -> Vector:
        """How near some rows of a snapshot come to each token of a question, (tokens, rows); 1 for the same state."""
        counts = snapshot.tokens[rows]
        if self.tokens is None:
            return np.zeros((len(asked), len(rows)), np.float32)
        return best_matches(asked, self.tokens.read(snapshot.token[rows], counts), counts)

    def pointers(self, slots: Iterable[int]) -> dict[int, tuple[PointerRecord, PointerRecord, PointerRecord]]:
        """slot → its pointers at levels 0, 1 and 2."""
        packed = self.registry.pointers(slots)
        records = iter(unpack_many([record for three in packed.values() for record in three]))
        return {slot: (next(records), next(records), next(records)) for slot in packed}

    def pointer_ids(self, slots: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """slot → the names of its pointers at levels 0, 1 and 2."""
        packed = self.registry.pointers(slots)
        return {slot: tuple(record[:32].hex() for record in records) for slot, records in packed.items()}

    def deref(self, pointer: PointerRecord) -> Codes:
        """The bytes a pointer names: a read-only view into the file."""
        slot, within = divmod(pointer.offset - self.buffer.offset(0), self.hierarchy.slot_bytes)
        return self.buffer.read(slot, within, within + pointer.nbytes)

    def nbytes(self) -> dict[str, int]:
        """Bytes on disk of each part."""
        activations = self.path / self.activations
        tokens = 0 if self.tokens is None else size_of(self.tokens.buffer.path)
        return {
            "database": sum(size_of(path) for path in self.path.glob(f"{DATABASE}*")),
            "activations": size_of(activations),
            "tokens": tokens,
            "index": sum(size_of(path) for path in index_files(self.path / INDEX)),
        }

    def axes_facts(self) -> dict[str, int | bool] | None:
        """From how many vectors the axes were found, whether they correct cosines, how many were removed for it."""
        if (axes := self.hierarchy.axes) is None:
            return None
        return {"calibrated_at": self.calibrated_at, "corrects": axes.corrects, "removed": axes.removed}

    def facts(self) -> dict[str, Any]:
        """Counts, bytes and the model."""
        hierarchy, registry = self.hierarchy, self.registry
        return {
            "path": str(self.path),
            "memories": registry.count(),
            "namespaces": registry.namespaces(),
            "model": vars(self.model),
            "codec": hierarchy.spec(),
            "axes": self.axes_facts(),
            "bytes": self.nbytes(),
            "level_bytes": {level: hierarchy.nbytes(level) for level in LEVELS},
            "level_share": {level: hierarchy.nbytes(level) / (4 * hierarchy.dim) for level in LEVELS},
            "slots": {"total": registry.next_slot(), "free": registry.free_count()},
            "generation": registry.generation,
            "indexes": self.indexes.stats(),
        }
