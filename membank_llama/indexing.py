"""`IndexSet`: one `VectorIndex` a namespace, loaded when first needed and kept in step with the registry.

Indexes are derived data: a saved graph that is missing, damaged or behind costs time, never memories. Vectors that
are not in a graph yet are searched exactly, so a bank answers at once after any start; a writing process moves
them into the graph in the background.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .bank_files import index_files, make_directory, remove
from .errors import BankCorruptError
from .index import VectorIndex
from .registry import Registry
from .types import Progress, Vector

logger = logging.getLogger("membank_llama")

TAIL_LIMIT = 1024
FETCH_CHUNK = 4096
REBUILD_ABOVE = 0.2

LINKS, FEWER_LINKS = 16, 5
"""Neighbours of a vector in the graph (hnswlib's M), and where memory is scarce."""

LARGE = ((524_288, 19), (131_072, 6))
"""Memories above which a graph holds no more than one axis in so many dimensions."""

Fetch = Callable[[npt.NDArray[np.int64], int], Vector]


@dataclass(frozen=True)
class IndexPlan:
    """How much of each vector a graph holds: `axes` of the `full` dimensions, and where it `shrinks` fewer the more
    memories there are, so that a large bank's index stays small beside its vectors."""

    axes: int
    shrinks: bool
    full: int

    def width(self, count: int) -> int:
        """Axes to index of so many memories."""
        for above, part in LARGE if self.shrinks else ():
            if count > above:
                return min(self.axes, max(1, self.full // part))
        return self.axes

    def fits(self, dim: int) -> bool:
        """Whether a graph may hold so many axes."""
        return dim in {self.width(count) for count in (0, *(above + 1 for above, _ in LARGE))}

    def make(self, count: int) -> VectorIndex:
        """An empty index for about so many memories."""
        width = self.width(count)
        return VectorIndex(width, FEWER_LINKS if width < self.axes else LINKS)


class IndexSet:
    """The vector indexes of one bank.

    `fetch(slots, width)` gives what to index of level 2, shape ``(len(slots), width)``.
    """

    def __init__(
        self,
        directory: Path,
        registry: Registry,
        fetch: Fetch,
        plan: IndexPlan,
        tag: str,
        progress: Progress | None = None,
    ) -> None:
        self._directory = directory
        self._registry = registry
        self._fetch = fetch
        self._plan = plan
        self._tag = tag
        self._progress = progress
        self._indexes: dict[str, VectorIndex] = {}
        self._generations: dict[str, int] = {}
        self._guard = threading.RLock()
        self._merger = _Merger()
        if not registry.read_only:
            make_directory(directory)

    def path_of(self, namespace: str) -> Path:
        """Where a namespace's graph is saved: its name hashed, since a namespace may be any text."""
        return self._directory / f"{hashlib.sha256(namespace.encode()).hexdigest()[:24]}.hnsw"

    # -- loading

    def get(self, namespace: str) -> VectorIndex:
        """The index of a namespace, up to date with the registry."""
        with self._guard:
            index = self._indexes.get(namespace)
            if index is None:
                index = self._indexes[namespace] = self._load(namespace)
            elif self._registry.read_only:
                self._follow(namespace, index)
            return index

    def _load(self, namespace: str) -> VectorIndex:
        generation = self._registry.generation
        try:
            index, saved = VectorIndex.load(self.path_of(namespace), tag=self._tag)
            if not self._plan.fits(index.dim):
                raise BankCorruptError(f"the index of {namespace!r} holds {index.dim} axes, which none of ours does")
        except FileNotFoundError:
            index, saved = self._fresh(namespace), -1
        except BankCorruptError as exc:
            logger.warning("%s; it is rebuilt from the bank", exc)
            index, saved = self._fresh(namespace), -1
        if saved != generation and index.graph_count:
            self._drop_dead(namespace, index)
        self._append_new(namespace, index, index.upto)
        self._generations[namespace] = generation
        if not self._registry.read_only and index.tail_count > TAIL_LIMIT:
            if saved == -1 and self._progress is not None:
                self._drain(namespace, index, self._progress)
                self.save()
            else:
                self._merger.watch(index)
        return index

    def _fresh(self, namespace: str) -> VectorIndex:
        return self._plan.make(self._registry.count_vectors(namespace))

    def loaded(self, namespace: str) -> VectorIndex | None:
        """The index of a namespace, where it is in memory."""
        with self._guard:
            return self._indexes.get(namespace)

    def _drop_dead(self, namespace: str, index: VectorIndex) -> None:
        alive = {memory_id for memory_id, _ in self._registry.live(namespace)}
        index.remove(index.labels() - alive)

    def _append_new(self, namespace: str, index: VectorIndex, after: int) -> None:
        new = self._registry.live(namespace, after)
        for start in range(0, len(new), FETCH_CHUNK):
            piece = new[start : start + FETCH_CHUNK]
            slots = np.array([row[1] for row in piece], np.int64)
            index.add((row[0] for row in piece), self._fetch(slots, index.dim))

    def _follow(self, namespace: str, index: VectorIndex) -> None:
        """Take over what the writing process has stored since."""
        generation = self._registry.generation
        if generation != self._generations[namespace]:
            self._append_new(namespace, index, index.last_id)
            self._generations[namespace] = generation

    # -- change

    def add(self, namespace: str, ids: Sequence[int], vectors: Vector) -> None:
        """New memories of a namespace. One that was not loaded yet will find them in the registry."""
        with self._guard:
            index = self._indexes.get(namespace)
            if index is None:
                return
            index.add(ids, vectors)
            if index.tail_count > TAIL_LIMIT:
                self._merger.watch(index)

    def remove(self, ids: Sequence[int]) -> None:
        """These memories are gone."""
        with self._guard:
            for namespace, index in self._indexes.items():
                index.remove(ids)
                if index.dead_count > max(TAIL_LIMIT, REBUILD_ABOVE * index.graph_count):
                    # hnswlib keeps removed vectors for good; past a share of them a new graph is cheaper
                    self._indexes[namespace] = fresh = self._fresh(namespace)
                    self._append_new(namespace, fresh, 0)
                    self._merger.watch(fresh)

    # -- disk

    def drain(self, progress: Progress | None = None) -> None:
        """Move every tail into its graph now."""
        for namespace in self._registry.namespaces():
            index = self.get(namespace)
            if index.dim > self._plan.width(self._registry.count_vectors(namespace)) and not self._registry.read_only:
                # it has outgrown the axes it was begun with
                with self._guard:
                    index = self._indexes[namespace] = self._fresh(namespace)
                    self._append_new(namespace, index, 0)
            self._drain(namespace, index, progress)

    def _drain(self, namespace: str, index: VectorIndex, progress: Progress | None) -> None:
        total = index.tail_count
        remaining = total
        while remaining:
            remaining = index.merge()
            if progress is not None:
                progress(f"indexing {namespace}", max(0, total - remaining), total)

    def rebuild(self, progress: Progress | None = None) -> None:
        """Make every graph anew from the bank and save it."""
        self._merger.pause()
        with self._guard:
            self._indexes.clear()
            self._generations.clear()
            self.discard_saved()
            generation = self._registry.generation
            for namespace in self._registry.namespaces():
                index = self._indexes[namespace] = self._fresh(namespace)
                self._generations[namespace] = generation
                self._append_new(namespace, index, 0)
                self._drain(namespace, index, progress)
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
            with self._guard:
                dead = self.get(namespace).dead_count
                if not dead:
                    continue
                fresh = self._indexes[namespace] = self._fresh(namespace)
                self._append_new(namespace, fresh, 0)
            self._drain(namespace, fresh, progress)
            purged += dead
        self.save()
        return purged

    def discard_saved(self) -> None:
        """Delete the saved graphs."""
        for path in index_files(self._directory):
            remove(path)

    def save(self) -> None:
        """Save the graphs that changed. A disk that refuses costs a rebuild later, no memory: logged, not raised."""
        if self._registry.read_only:
            return
        for namespace, index in self._snapshot():
            if not index.unsaved:
                continue
            path = self.path_of(namespace)
            try:
                index.save(path, generation=self._registry.generation, tag=self._tag)
            except (OSError, RuntimeError) as exc:
                logger.warning("could not save the index %s: %s; the next start rebuilds it", path, exc)
                for draft in index_files(self._directory):
                    if draft.suffix == ".tmp":
                        draft.unlink(missing_ok=True)

    def _snapshot(self) -> list[tuple[str, VectorIndex]]:
        with self._guard:
            return list(self._indexes.items())

    def stats(self) -> dict[str, dict[str, int]]:
        """Loaded namespaces: vectors in the graph, in the tail, removed."""
        return {
            namespace: {"graph": index.graph_count, "tail": index.tail_count, "removed": index.dead_count}
            for namespace, index in self._snapshot()
        }

    def close(self, *, save: bool = True) -> None:
        self._merger.close()
        if save:
            self.save()
        with self._guard:
            self._indexes.clear()


class _Merger:
    """A thread that empties tails while nobody waits for it."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._wake = threading.Condition()
        self._queue: list[VectorIndex] = []
        self._threads: list[threading.Thread] = []
        # also at interpreter exit: a thread inside hnswlib must not outlive the interpreter
        self._finalizer = weakref.finalize(self, _end, self._stop, self._wake, self._queue, self._threads)

    def watch(self, index: VectorIndex) -> None:
        """Merge this index's tail soon."""
        with self._wake:
            if self._stop.is_set():
                return
            if not any(queued is index for queued in self._queue):
                self._queue.append(index)
            if not self._threads:
                args = (self._stop, self._wake, self._queue)
                self._threads.append(threading.Thread(target=_merge, args=args, name="membank-index", daemon=True))
                self._threads[0].start()
            self._wake.notify()

    def pause(self) -> None:
        """Forget what is queued."""
        with self._wake:
            self._queue.clear()

    def close(self) -> None:
        self._finalizer()


def _end(
    stop: threading.Event, wake: threading.Condition, queue: list[VectorIndex], threads: list[threading.Thread]
) -> None:
    with wake:
        stop.set()
        queue.clear()
        wake.notify_all()
    for thread in threads:
        thread.join()


def _merge(stop: threading.Event, wake: threading.Condition, queue: list[VectorIndex]) -> None:
    while not stop.is_set():
        with wake:
            while not queue and not stop.is_set():
                wake.wait()
            index = queue[0] if queue else None
        if index is None:
            continue
        remaining = index.merge()
        if not remaining:
            with wake:
                if index in queue:
                    queue.remove(index)
        # lets a search that waits for the index's lock go first
        time.sleep(0.001)
