"""`IndexSet`: one `VectorIndex` a namespace, loaded when first needed and kept in step with the registry.

Indexes are derived data: a saved graph that is missing, damaged or behind costs time, never memories. Vectors that
are not in a graph yet are searched exactly, so a bank answers at once after any start; a background thread moves them
into the graph. Each namespace has locks of its own: nobody waits for a neighbour's index.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from membank_llama.core.background import BackgroundWorker
from membank_llama.core.errors import BankCorruptError
from membank_llama.core.types import Progress, Vector

from .bank_files import index_files, make_directory, remove
from .index_plan import IndexPlan
from .indexed_vectors import IndexedVectors
from .registry import Registry
from .vector_index import VectorIndex

logger = logging.getLogger("membank_llama")

TAIL_LIMIT = 1024
FETCH_CHUNK = 2048
RENEW_ABOVE = 0.2
"""Share of removed vectors in a graph past which a new one is cheaper: hnswlib keeps them for good."""

SAVE_AFTER = 2
"""Times the vectors of the saved graph at which a growing one is saved while the bank is open."""

IndexSteps = Iterator[tuple[int, int]]
"""Work done a little at a time: vectors in the graph, and all of them."""


@dataclass
class _Entry:
    """The index of one namespace. `lock` guards what is here, `file` what is saved."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    file: threading.Lock = field(default_factory=threading.Lock)
    index: VectorIndex | None = None
    generation: int = -1
    saved: int = 0
    removed: list[int] | None = None
    """Ids removed since a new graph was begun; None where none is being made."""


class IndexSet:
    """The vector indexes of one bank.

    `worker` fills the graphs with what `vectors` reads.
    """

    def __init__(
        self,
        directory: Path,
        registry: Registry,
        vectors: IndexedVectors,
        plan: IndexPlan,
        tag: str,
        worker: BackgroundWorker,
    ) -> None:
        self._directory = directory
        self._registry = registry
        self._vectors = vectors
        self._plan = plan
        self._tag = tag
        self._worker = worker
        self._entries: dict[str, _Entry] = {}
        self._guard = threading.Lock()
        self._closed = False
        if not registry.read_only:
            make_directory(directory)

    def path_of(self, namespace: str) -> Path:
        """Where a namespace's graph is saved: its name hashed, since a namespace may be any text."""
        return self._directory / f"{hashlib.sha256(namespace.encode()).hexdigest()[:24]}.hnsw"

    # -- loading

    def get(self, namespace: str) -> VectorIndex:
        """The index of a namespace, up to date with the registry; loaded first where it is not in memory."""
        entry = self._entry(namespace)
        if entry.index is None:
            deque(self._loading(namespace), maxlen=0)
        elif self._registry.read_only:
            deque(self._following(namespace), maxlen=0)
        index = entry.index or self._fresh(namespace)
        self._forget_empty(namespace, entry)
        return index

    def ready(self, namespace: str, generation: int) -> VectorIndex | None:
        """The index of a namespace where it is in memory and up to date with a generation of the bank; None where that
        is left to the background."""
        entry = self._entry(namespace)
        index = entry.index
        if index is None:
            self._submit("load", namespace)
        elif self._registry.read_only and generation != entry.generation:
            steps = self._following(namespace)
            if next(steps, None) is not None:
                self._submit("follow", namespace)
                return None
        return index

    def _entry(self, namespace: str) -> _Entry:
        with self._guard:
            return self._entries.setdefault(namespace, _Entry())

    def _forget_empty(self, namespace: str, entry: _Entry) -> None:
        """Names that nobody stored anything under take no room."""
        if entry.index is None or not entry.index.last_id:
            with self._guard:
                if self._entries.get(namespace) is entry:
                    del self._entries[namespace]

    def _loading(self, namespace: str) -> IndexSteps:
        """Read the saved graph and what came since, beside whoever searches, then put it in its place."""
        entry = self._entry(namespace)
        with entry.lock:
            if entry.index is not None:
                return
            entry.removed = entry.removed or []
        generation = self._registry.generation
        index, saved = self._saved(namespace, entry)
        if saved != generation and index.graph_count:
            self._drop_dead(namespace, index)
        yield from self._appending(namespace, index, index.upto)
        with entry.lock:
            if entry.index is None:
                generation = self._registry.generation
                self._append_new(namespace, index, index.last_id)
                index.remove(entry.removed or ())
                entry.index, entry.generation, entry.removed = index, generation, None
                self._tend(namespace, index)
        self._forget_empty(namespace, entry)

    def _saved(self, namespace: str, entry: _Entry) -> tuple[VectorIndex, int]:
        """The saved graph and the generation it was saved at, or an empty one and -1."""
        try:
            with entry.file:
                index, generation = VectorIndex.load(self.path_of(namespace), tag=self._tag)
            if not self._plan.fits(index.dim):
                raise BankCorruptError(f"the index of {namespace!r} holds {index.dim} axes, which none of ours does")
        except FileNotFoundError:
            index, generation = self._fresh(namespace), -1
        except BankCorruptError as exc:
            logger.warning("%s; it is rebuilt from the bank", exc)
            index, generation = self._fresh(namespace), -1
        entry.saved = index.graph_count
        return index, generation

    def _fresh(self, namespace: str) -> VectorIndex:
        return self._plan.make(self._registry.count_vectors(namespace))

    def _loaded(self) -> list[tuple[str, _Entry, VectorIndex]]:
        with self._guard:
            entries = list(self._entries.items())
        return [(namespace, entry, entry.index) for namespace, entry in entries if entry.index is not None]

    def loaded(self, namespace: str) -> VectorIndex | None:
        """The index of a namespace, where it is in memory."""
        with self._guard:
            entry = self._entries.get(namespace)
        return None if entry is None else entry.index

    def _drop_dead(self, namespace: str, index: VectorIndex) -> None:
        alive = {memory_id for memory_id, _ in self._registry.live(namespace)}
        index.remove(index.labels() - alive)

    def _append_new(self, namespace: str, index: VectorIndex, after: int) -> None:
        deque(self._appending(namespace, index, after), maxlen=0)

    def _appending(self, namespace: str, index: VectorIndex, after: int) -> IndexSteps:
        """Add what the registry has above an id to the tail; yields between reads, where there are several."""
        while True:
            ids, vectors = self._vectors.read(namespace, after, index.dim, FETCH_CHUNK)
            if not len(ids):
                return
            index.add(ids, vectors)
            after = ids[-1]
            if len(ids) < FETCH_CHUNK:
                return
            yield index.graph_count, index.graph_count + index.tail_count

    def _following(self, namespace: str) -> IndexSteps:
        """In a reader: take over what the writing process has stored since."""
        entry = self._entry(namespace)
        index, generation = entry.index, self._registry.generation
        if index is None or generation == entry.generation:
            return
        yield from self._appending(namespace, index, index.last_id)
        entry.generation = generation
        self._tend(namespace, index)

    # -- change

    def add(self, namespace: str, ids: Sequence[int], vectors: Vector) -> None:
        """New memories of a namespace. An index that is not loaded yet will find them in the registry."""
        with self._guard:
            entry = self._entries.get(namespace)
        if entry is None:
            return
        with entry.lock:
            index = entry.index
            # one of another width was made meanwhile, and has read them from the registry
            if index is not None and index.dim == vectors.shape[1]:
                index.add(ids, vectors)
                self._tend(namespace, index)

    def remove(self, gone: Mapping[str, Sequence[int]]) -> None:
        """These memories, by namespace, are gone: out of the indexes in memory and out of the saved ones.

        Raises:
            OSError: the disk refused, and bytes of their vectors may be left in a saved index.
        """
        for namespace, ids in gone.items():
            with self._guard:
                entry = self._entries.get(namespace) or _Entry()
            with entry.lock:
                if entry.index is not None:
                    entry.index.remove(ids)
                if entry.removed is not None:
                    entry.removed += ids
            with entry.file:
                VectorIndex.erase_saved(self.path_of(namespace), ids)
            if entry.index is not None and self._is_worn(entry.index):
                self._submit("renew", namespace)

    def _is_worn(self, index: VectorIndex) -> bool:
        return index.dead_count > max(TAIL_LIMIT, RENEW_ABOVE * index.graph_count)

    def _is_outgrown(self, namespace: str, index: VectorIndex) -> bool:
        return index.dim > self._plan.width(self._registry.count_vectors(namespace))

    def _tend(self, namespace: str, index: VectorIndex) -> None:
        """Have a long tail moved into the graph."""
        if index.tail_count > TAIL_LIMIT:
            self._submit("merge", namespace)

    def _submit(self, what: str, namespace: str) -> None:
        with self._guard:
            if not self._closed:
                self._worker.submit((what, namespace), partial(self._steps(what), namespace))

    def _steps(self, what: str) -> Callable[[str], IndexSteps]:
        return {
            "load": self._loading, "follow": self._following, "merge": self._merging, "renew": self._renewing
        }[what]  # fmt: skip

    def _merging(self, namespace: str) -> IndexSteps:
        """Move the tail into the graph."""
        with self._guard:
            entry = self._entries.get(namespace)
        if entry is None or entry.index is None:
            return
        index = entry.index
        while remaining := index.merge():
            yield index.graph_count, index.graph_count + remaining
        if self._registry.read_only:
            return
        if self._is_outgrown(namespace, index):
            self._submit("renew", namespace)
        elif index.graph_count >= SAVE_AFTER * entry.saved:
            self._save(namespace, entry, index)

    def _renewing(self, namespace: str) -> IndexSteps:
        """Make a graph anew from what the namespace holds, beside the one in use, and put it in its place."""
        entry = self._entry(namespace)
        with entry.lock:
            entry.removed = []
        fresh = self._fresh(namespace)
        total = self._registry.count_vectors(namespace)
        for _ in self._appending(namespace, fresh, 0):
            while fresh.merge():
                yield fresh.graph_count, total
        while fresh.merge():
            yield fresh.graph_count, total
        with entry.lock:
            generation = self._registry.generation
            self._append_new(namespace, fresh, fresh.last_id)
            fresh.remove(entry.removed or ())
            entry.index, entry.generation, entry.removed, entry.saved = fresh, generation, None, 0
        if not self._registry.read_only:
            self._save(namespace, entry, fresh)
        self._forget_empty(namespace, entry)

    # -- in the foreground

    def drain(self, progress: Progress | None = None) -> None:
        """Move every tail into its graph now."""
        for namespace in self._registry.namespaces():
            index = self.get(namespace)
            if not self._registry.read_only and self._is_outgrown(namespace, index):
                self._finish("renew", namespace, progress)
            self._finish("merge", namespace, progress)

    def _finish(self, what: str, namespace: str, progress: Progress | None) -> None:
        """Do in the foreground what the background was to do."""
        self._worker.cancel((what, namespace), wait=True)
        for done, total in self._steps(what)(namespace):
            if progress is not None:
                progress(f"indexing {namespace}", done, total)
        index = self.loaded(namespace)
        if progress is not None and index is not None:
            progress(f"indexing {namespace}", index.graph_count, index.graph_count)

    def rebuild(self, progress: Progress | None = None) -> None:
        """Make every graph anew from the bank and save it."""
        self.discard_saved()
        for namespace in self._registry.namespaces():
            self._finish("renew", namespace, progress)
        self.save()

    def purge(self, progress: Progress | None = None) -> int:
        """Make anew the graphs that still hold removed vectors, delete those of namespaces that are gone.

        Returns how many removed vectors there were.
        """
        purged = 0
        namespaces = self._registry.namespaces()
        wanted = {self.path_of(namespace).stem for namespace in namespaces}
        for path in index_files(self._directory):
            if path.name.split(".")[0] not in wanted:
                remove(path)
        for namespace in namespaces:
            dead = self.get(namespace).dead_count
            if dead:
                self._finish("renew", namespace, progress)
                purged += dead
        self.save()
        return purged

    # -- disk

    def discard_saved(self) -> None:
        """Delete the saved graphs."""
        for path in index_files(self._directory):
            remove(path)

    def save(self) -> None:
        """Save the graphs that changed. A disk that refuses costs a rebuild later, no memory: logged, not raised."""
        if self._registry.read_only:
            return
        for namespace, entry, index in self._loaded():
            if index.unsaved:
                self._save(namespace, entry, index)

    def _save(self, namespace: str, entry: _Entry, index: VectorIndex) -> None:
        path = self.path_of(namespace)
        with entry.file:
            if self._closed or entry.index is not index:
                return
            try:
                index.save(path, generation=self._registry.generation, tag=self._tag)
                entry.saved = index.graph_count
            except (OSError, RuntimeError, BankCorruptError) as exc:
                logger.warning("could not save the index %s: %s; the next start rebuilds it", path, exc)
                for draft in index_files(self._directory):
                    if draft.suffix == ".tmp":
                        draft.unlink(missing_ok=True)

    def stats(self) -> dict[str, dict[str, int]]:
        """Loaded namespaces: vectors in the graph, in the tail, removed."""
        return {
            namespace: {"graph": index.graph_count, "tail": index.tail_count, "removed": index.dead_count}
            for namespace, _, index in self._loaded()
        }

    def close(self, *, save: bool = True) -> None:
        """Leave the background and let go; may be called twice."""
        with self._guard:
            for namespace in self._entries:
                for what in ("load", "follow", "merge", "renew"):
                    self._worker.cancel((what, namespace))
        if save:
            self.save()
        with self._guard:
            self._closed = True
            self._entries.clear()
