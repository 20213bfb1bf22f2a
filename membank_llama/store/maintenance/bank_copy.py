"""A bank copied as it is at one moment, while another process or thread writes it.

The large files go first, at leisure. Then a read transaction, for which no writer waits, holds the moment: vectors that
came since are copied after, and if nothing was forgotten meanwhile, whose slots would be overwritten, the database is
copied as the transaction sees it; otherwise a later moment is taken. Graphs are copied before all: one that is older
than its database is gone on with, a newer one would know ids that are given a second time.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from membank_llama.core.byte_sizes import MEGABYTE
from membank_llama.core.errors import BankFormatError, BankStorageError
from membank_llama.core.types import Progress

from ..bank_files import (
    CHATS,
    DATABASE,
    HISTORY,
    INDEX,
    WRITER_LOCK,
    WRITER_NOTE,
    chat_files,
    index_files,
    is_plain,
    make_directory,
    open_plain,
    size_of,
    sync_directory,
)
from ..bank_records import read_activations, read_tokens
from ..commit_note import CommitNote
from ..registry import Registry
from ..store import Store
from ..token_runs import NEXT_TOKENS, TOKENS
from .copied_vectors import RUNS, SLOTS, CopiedVectors
from .verify import VerifyReport, verify

MOMENTS = 50
"""Moments tried for one in which nothing is forgotten."""

PIECE = 1 << 20
"""Bytes copied and flushed at once: what lies unwritten before it, whoever flushes beside us waits for."""

REST = 0.5
"""Share of the time it took to flush a piece that the disk is then left to others."""

Copied = Callable[[int], None]
"""Told of every piece: how many bytes it had."""


@dataclass(frozen=True)
class Cut:
    """The moment of a copy: the names of the vectors' files, how often memories were removed, and what there was."""

    activations: str
    tokens: str | None
    lifetimes: int
    generation: int
    memories: int
    created: float

    def holds(self, now: Cut) -> bool:
        """Whether nothing was removed since, and the files are the same: a copy that does not fit is no fault of
        ours."""
        return (now.activations, now.tokens, now.lifetimes) == (self.activations, self.tokens, self.lifetimes)


def cut_of(registry: Registry) -> Cut:
    """Where a bank stands. To be asked within `registry.snapshot()`, or for a first look."""
    tokens = None if registry.get_meta(TOKENS) is None else read_tokens(registry)
    created = registry.get_meta("created", 0.0)
    return Cut(
        read_activations(registry),
        tokens,
        registry.lifetimes,
        registry.generation,
        registry.count(),
        float(created) if isinstance(created, (int, float)) else 0.0,
    )


def copied_bytes(bank: Path, cut: Cut) -> int:
    """About how many bytes a copy takes."""
    names = [DATABASE, f"{DATABASE}-wal", cut.activations, *filter(None, (cut.tokens,))]
    graphs = [path.stat().st_size for path in index_files(bank / INDEX)]
    return sum(size_of(bank / name) for name in names) + sum(graphs)


def copy_bank(bank: Path, registry: Registry, target: Path, copied: Copied) -> Cut:
    """Copy a bank's files, without its KV state, into an empty directory; returns the moment that the copy is of.

    Raises:
        FileNotFoundError: the files of vectors were switched meanwhile.
        BankStorageError: memories were forgotten all the while.
        OSError: the system refused.
    """
    with registry.snapshot():
        first, vectors = cut_of(registry), _vectors(bank, registry, target)
    _copy_graphs(bank / INDEX, target / INDEX, copied)
    for each in vectors:
        copy_file(each.source, each.target, copied)
    cut = _copy_moment(registry, target, vectors, first, copied)
    if cut.lifetimes != first.lifetimes:
        # vectors of what was forgotten in between may be in them
        for path in index_files(target / INDEX):
            path.unlink()
    with suppress(FileNotFoundError):
        copy_file(bank / HISTORY, target / HISTORY, copied)
    _copy_chats(bank, target, copied)
    _settle(target, cut)
    sync_directory(target)
    return cut


def _vectors(bank: Path, registry: Registry, target: Path) -> list[CopiedVectors]:
    names = [(read_activations(registry), SLOTS)]
    if registry.get_meta(TOKENS) is not None:
        names.append((read_tokens(registry), RUNS))
    return [CopiedVectors(registry, bank / name, target / name, rows) for name, rows in names]


def _copy_moment(registry: Registry, target: Path, vectors: Sequence[CopiedVectors], first: Cut, copied: Copied) -> Cut:
    """Copy what vectors came since, and the database, both of one moment."""
    # a connection of its own: this thread's sees what it saw when the transaction began
    with ThreadPoolExecutor(1) as beside:
        for _ in range(MOMENTS):
            with registry.snapshot():
                cut = cut_of(registry)
                if (cut.activations, cut.tokens) != (first.activations, first.tokens):
                    raise FileNotFoundError(errno.ENOENT, "it was switched", str(vectors[0].source))
                for each in vectors:
                    each.follow()
                if cut.holds(beside.submit(cut_of, registry).result()):
                    _copy_database(registry, target / DATABASE, copied)
                    return cut
    raise BankStorageError(
        f"memories of {registry.path.parent} were forgotten all the while it was copied; there is no backup. Try again "
        "when that is over"
    )


def telling(total: int, progress: Progress | None) -> Copied:
    """A count of copied bytes that a bar shows."""
    done = 0

    def copied(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress("copying (MB)", done // MEGABYTE, max(done, total) // MEGABYTE)

    return copied


def verified(copy: Path, progress: Progress | None) -> VerifyReport:
    """Check every byte of a copy that nobody else opens; nothing tells afterwards that it was opened."""
    store = Store(copy, None)
    try:
        return verify(store, progress)
    finally:
        store.close()
        for name in (WRITER_LOCK, WRITER_NOTE):
            (copy / name).unlink(missing_ok=True)


def copy_file(source: Path, target: Path, copied: Copied) -> None:
    """Copy a plain file to a new one, mode 0600, a piece at a time, each flushed; raises OSError."""
    reading = open_plain(source, os.O_RDONLY)
    try:
        writing = open_plain(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            while data := os.read(reading, PIECE):
                left = memoryview(data)
                while left:
                    left = left[os.write(writing, left) :]
                flush_gently(writing)
                copied(len(data))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def flush_gently(descriptor: int) -> None:
    """Have the disk take what was written, and then leave it to others for a moment; raises OSError."""
    start = time.perf_counter()
    os.fsync(descriptor)
    time.sleep(min(0.05, REST * (time.perf_counter() - start)))


def _copy_database(registry: Registry, target: Path, copied: Copied) -> None:
    writing = open_plain(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:

        def flushed(size: int) -> None:
            flush_gently(writing)
            copied(size)

        registry.copy_to(target, PIECE, flushed)
        os.fsync(writing)
    finally:
        os.close(writing)


def _copy_graphs(source: Path, target: Path, copied: Copied) -> None:
    make_directory(target)
    for note in (path for path in index_files(source) if path.suffix == ".json"):
        graph = note.with_suffix(".hnsw")
        try:
            said = note.read_bytes()
            copy_file(graph, target / graph.name, copied)
            copy_file(note, target / note.name, copied)
            fits = (target / note.name).read_bytes() == said
        except (FileNotFoundError, BankFormatError):
            fits = False
        if not fits:
            # saved anew meanwhile: it is made again from the copy
            for name in (graph.name, note.name):
                (target / name).unlink(missing_ok=True)
    sync_directory(target)


def _copy_chats(bank: Path, target: Path, copied: Copied) -> None:
    if not is_plain(bank / CHATS, directory=True):
        return
    make_directory(target / CHATS)
    for path in chat_files(bank):
        with suppress(FileNotFoundError):
            copy_file(path, target / CHATS / path.name, copied)
    sync_directory(target / CHATS)


def _settle(target: Path, cut: Cut) -> None:
    """Take out of a copy what goes on in the bank itself alone: the file of vectors that is being filled there."""
    registry = Registry(target / DATABASE)
    try:
        with registry.transaction() as db:
            db.execute("DELETE FROM rewrite")
            db.execute(f"DELETE FROM {NEXT_TOKENS}")
            registry.drop_meta("rewrite")
    finally:
        registry.close()
    CommitNote(target).write(cut.generation)
