"""`VectorIndex`: approximate nearest neighbours over one namespace's coarse vectors.

Two parts: an hnswlib graph, and a tail of vectors not yet in it that is searched exactly. Adding is a copy into
the tail; `merge()` moves the tail into the graph a few vectors at a time. Labels are memory ids, which only rise,
so the graph covers every id up to `upto` and nothing above. hnswlib lets no search run beside an insertion:
one lock guards both. A second one, taken before it, keeps the graph as it is while it is saved; searches go on.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np

from membank_llama.core.errors import BankCorruptError, BankFormatError
from membank_llama.core.types import Ids, Vector

from .bank_files import open_plain, read_limited, write_private
from .graph_file import blank_vectors, checked_graph

FORMAT = 2
EF_CONSTRUCTION = 100
EF_SEARCH = 64
MERGE_CHUNK = 32
_NOTE_LIMIT = 4096
_MOST_DIM = 1 << 20


class VectorIndex:
    """Search by inner product over vectors of `dim` float32 values, each with `links` neighbours in the graph."""

    def __init__(self, dim: int, links: int = 16) -> None:
        self.dim = dim
        self.links = links
        self.upto = 0
        self._newest = 0
        self._graph: hnswlib.Index | None = None
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._dead: set[int] = set()
        self._tail_ids: Ids = np.zeros(0, np.int64)
        self._tail: Vector = np.zeros((0, dim), np.float32)
        self._tail_count = 0
        self._unsaved = False

    # -- size

    @property
    def tail_count(self) -> int:
        """Vectors searched exactly, not yet in the graph."""
        return self._tail_count

    @property
    def graph_count(self) -> int:
        """Vectors in the graph, removed ones included."""
        return 0 if self._graph is None else int(self._graph.get_current_count())

    @property
    def dead_count(self) -> int:
        """Removed vectors that still take room in the graph."""
        return len(self._dead)

    @property
    def unsaved(self) -> bool:
        """Whether the graph has changed since it was saved or loaded."""
        return self._unsaved

    @property
    def last_id(self) -> int:
        """The highest id that was ever added, removed or not."""
        return max(self._newest, self.upto)

    def __len__(self) -> int:
        with self._lock:
            # a merge moves vectors from one to the other
            return self.graph_count - self.dead_count + self.tail_count

    # -- change

    def add(self, ids: Iterable[int], vectors: Vector) -> None:
        """Append to the tail, in rising order of id. Ids that are not above `last_id` are here already: left out."""
        new = np.fromiter(ids, np.int64)
        with self._lock:
            known = int(np.searchsorted(new, self.last_id, "right"))
            new, vectors = new[known:], vectors[known:]
            if not len(new):
                return
            self._newest = int(new[-1])
            need = self._tail_count + len(new)
            if need > len(self._tail_ids):
                room = max(256, need, 2 * len(self._tail_ids))
                self._tail_ids = np.resize(self._tail_ids, room)
                grown = np.empty((room, self.dim), np.float32)
                grown[: self._tail_count] = self._tail[: self._tail_count]
                self._tail = grown
            self._tail_ids[self._tail_count : need] = new
            self._tail[self._tail_count : need] = vectors
            self._tail_count = need

    def remove(self, ids: Iterable[int]) -> None:
        """Never return these ids again. Unknown ids are ignored."""
        gone = np.unique(np.fromiter(ids, np.int64))
        with self._changing, self._lock:
            count = self._tail_count
            at = np.searchsorted(self._tail_ids[:count], gone)
            inside = at < count
            at = at[inside]
            at = at[self._tail_ids[at] == gone[inside]]
            if len(at):
                self._tail_ids = np.delete(self._tail_ids[:count], at)
                self._tail = np.delete(self._tail[:count], at, axis=0)
                self._tail_count = count - len(at)
            if self._graph is not None:
                self._mark_deleted(self._graph, gone[gone <= self.upto].tolist())

    def _mark_deleted(self, graph: hnswlib.Index, labels: Iterable[int]) -> None:
        for label in labels:
            if label in self._dead:
                continue
            try:
                graph.mark_deleted(label)
            except RuntimeError:
                # another namespace's, or gone before the graph was made
                continue
            self._dead.add(label)
            self._unsaved = True

    def _labels(self) -> set[int]:
        return set() if self._graph is None else set(self._graph.get_ids_list())

    def merge(self, limit: int = MERGE_CHUNK) -> int:
        """Move up to `limit` vectors from the tail into the graph; returns how many remain."""
        with self._changing, self._lock:
            step = min(limit, self._tail_count)
            if step == 0:
                return 0
            graph = self._with_room(step)
            graph.add_items(self._tail[:step], self._tail_ids[:step], num_threads=1)
            self.upto = int(self._tail_ids[step - 1])
            # advancing by view keeps a merge of n vectors O(n); the arrays are replaced when next they grow
            self._tail_ids, self._tail = self._tail_ids[step:], self._tail[step:]
            self._tail_count -= step
            self._unsaved = True
            return self._tail_count

    def _with_room(self, more: int) -> hnswlib.Index:
        if self._graph is None:
            self._graph = hnswlib.Index(space="ip", dim=self.dim)
            self._graph.init_index(max(1024, more), M=self.links, ef_construction=EF_CONSTRUCTION, random_seed=7)
        need = self._graph.get_current_count() + more
        if need > self._graph.get_max_elements():
            self._graph.resize_index(max(need, int(1.5 * self._graph.get_max_elements())))
        return self._graph

    # -- search

    def search(self, query: Vector, k: int) -> tuple[Ids, Vector]:
        """The `k` best: ids and inner products, best first; fewer where there are fewer."""
        with self._lock:
            if not self._tail_count:
                return self._search_graph(query, k)
            parts = [self._search_graph(query, k), self._search_tail(query, k)]
        ids = np.concatenate([part[0] for part in parts])
        scores = np.concatenate([part[1] for part in parts])
        order = np.argsort(-scores, kind="stable")[:k]
        return ids[order], scores[order]

    def _search_graph(self, query: Vector, k: int) -> tuple[Ids, Vector]:
        alive = self.graph_count - self.dead_count
        k = min(k, alive)
        if self._graph is None or k <= 0:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        ef = max(EF_SEARCH, k + k // 4)
        while k > 0:
            self._graph.set_ef(ef)
            try:
                labels, distances = self._graph.knn_query(query, k=k, num_threads=1)
                return labels[0].astype(np.int64), (1.0 - distances[0]).astype(np.float32)
            except RuntimeError:
                # fewer than k reachable (hnswlib #321, after removals): look wider once, then ask for less
                ef, k = (self.graph_count, k) if ef < self.graph_count else (ef, k // 2)
        return np.zeros(0, np.int64), np.zeros(0, np.float32)

    def _search_tail(self, query: Vector, k: int) -> tuple[Ids, Vector]:
        count = self._tail_count
        scores = self._tail[:count] @ query
        if count > k:
            best = np.argpartition(-scores, k)[:k]
            return self._tail_ids[:count][best], scores[best]
        return self._tail_ids[:count].copy(), scores

    # -- disk

    def save(self, path: Path, *, generation: int, tag: str) -> None:
        """Write the graph, then the note that makes it valid; each replaces the old one whole."""
        with self._changing:
            if self._graph is None:
                return
            draft = path.with_suffix(".tmp")
            draft.unlink(missing_ok=True)
            # ours, and private, before hnswlib writes into it
            os.close(open_plain(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            self._graph.save_index(str(draft))
            if draft.stat().st_size != self._graph.index_file_size():
                # hnswlib does not notice a full disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft))
            # hnswlib keeps the vectors of what was removed
            blank_vectors(draft, sorted(self._dead))
            note: dict[str, Any] = {
                "format": FORMAT,
                "of": path.stem,
                "generation": generation,
                "tag": tag,
                "dim": self.dim,
                "crc32": _crc32(draft),
            }
            # between these two a crash leaves a checksum that does not fit: rebuilt on the next open
            draft.replace(path)
            _write_note(path, note)
            self._unsaved = False

    @staticmethod
    def erase_saved(path: Path, ids: Iterable[int]) -> None:
        """Overwrite vectors in a saved graph where there is one; one that cannot be read is deleted.

        Raises:
            OSError: the system refused, and bytes of them may be left.
        """
        note_path = path.with_suffix(".json")
        try:
            note = json.loads(read_limited(note_path, _NOTE_LIMIT))
            whole = note.pop("check") == _check(note) and note["crc32"] == _crc32(path)
            if blank_vectors(path, ids) and whole:
                # else it was damaged before, and its checksum stays wrong
                _write_note(path, {**note, "crc32": _crc32(path)})
        except FileNotFoundError:
            path.unlink(missing_ok=True)
        except (BankCorruptError, BankFormatError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            path.unlink(missing_ok=True)
            note_path.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, *, tag: str) -> tuple[VectorIndex, int]:
        """Read a saved graph; returns it with the generation it was saved at.

        Raises:
            FileNotFoundError: there is none.
            BankCorruptError: it is damaged, or was made for other vectors.
        """
        note_path = path.with_suffix(".json")
        if not (path.exists() and note_path.exists()):
            raise FileNotFoundError(path)
        try:
            note = json.loads(read_limited(note_path, _NOTE_LIMIT))
            check = note.pop("check")
            fits = note["format"] == FORMAT and note["tag"] == tag and note["of"] == path.stem
            dim, generation, crc = int(note["dim"]), int(note["generation"]), int(note["crc32"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, BankFormatError, OSError) as exc:
            raise BankCorruptError(f"{note_path} is damaged: {exc}") from exc
        if not fits:
            raise BankCorruptError(f"{path} was made for other vectors than this bank's, or by an earlier version")
        if check != _check(note) or not 0 < dim <= _MOST_DIM:
            raise BankCorruptError(f"{note_path} is damaged: it does not match its checksum")
        try:
            facts = checked_graph(path, dim)
        except (OSError, BankFormatError, MemoryError) as exc:
            raise BankCorruptError(f"{path} cannot be read: {exc}") from exc
        if facts.crc32 != crc:
            raise BankCorruptError(f"{path} does not match its checksum")
        graph = hnswlib.Index(space="ip", dim=dim)
        try:
            graph.load_index(str(path), max_elements=len(facts.labels) + 1024)
        except RuntimeError as exc:
            raise BankCorruptError(f"{path} cannot be read: {exc}") from exc
        index = cls(dim, facts.links)
        index._graph, index.upto = graph, int(facts.labels.max())
        index._dead = set(facts.labels[facts.removed].tolist())
        return index, generation

    def labels(self) -> set[int]:
        """Ids in the graph that were not removed."""
        with self._lock:
            return self._labels() - self._dead


def _write_note(path: Path, note: dict[str, Any]) -> None:
    draft = path.with_suffix(".json.tmp")
    draft.unlink(missing_ok=True)
    write_private(draft, json.dumps({**note, "check": _check(note)}).encode())
    draft.replace(path.with_suffix(".json"))


def _check(note: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()[:16]


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc
