"""`PieceWriter`: the thread that puts pieces into files."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait

from .piece import StoredPiece
from .piece_store import PieceStore

MOST_WAITING = 512 << 20
"""Bytes of cells on their way to the disk; above it a turn is not kept."""


class PieceWriter:
    """Writes what a context has announced; `close()` it before the context is freed."""

    def __init__(self, store: PieceStore) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(1, "membank-kv")
        self._waiting: set[Future[bool]] = set()
        self._lock = threading.Lock()
        self._nbytes = 0

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing more should."""
        return self._nbytes > MOST_WAITING

    def submit(self, piece: StoredPiece, epoch: str) -> None:
        """Have an announced piece written."""
        try:
            future = self._threads.submit(self._store.write, piece, epoch)
        except RuntimeError:
            # at the end of the program no thread takes anything on
            self._store.write(piece, epoch)
            return
        with self._lock:
            self._nbytes += piece.nbytes
            self._waiting.add(future)
        future.add_done_callback(lambda done: self._done(done, piece.nbytes))

    def _done(self, future: Future[bool], nbytes: int) -> None:
        with self._lock:
            self._nbytes -= nbytes
            self._waiting.discard(future)

    def flush(self) -> None:
        """Return when all that was submitted is in its files."""
        with self._lock:
            waiting = set(self._waiting)
        wait(waiting)

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._threads.shutdown(wait=True)
