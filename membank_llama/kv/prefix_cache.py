"""`PrefixCache`: what stands between a context and the pieces on disk, for one loaded model.

`restore()` before a prompt is evaluated, `keep()` behind an answer; both on the thread that the context belongs to.
Writing is another thread's. Nothing here can fail a call: where anything is in doubt, fewer tokens are restored, and
llama.cpp evaluates the rest.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np

from membank_llama.core.errors import BankCorruptError

from .agreement import agree
from .cells import ContextCells
from .cover import CoverPart
from .overlap import REACH, letters
from .piece import Piece, StoredPiece, Tokens, TopLogits, digest_of
from .piece_store import PieceStore

logger = logging.getLogger("membank_llama")

LEAST = 16
"""Tokens below which neither restoring nor keeping is worth it."""
LONGEST_PIECE = 1024
MOST_WAITING = 512 << 20
"""Bytes of cells on their way to the disk; above it a turn is not kept."""


class PieceWriter:
    """The thread that puts pieces into files."""

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


class PrefixCache:
    """Restores and keeps the beginnings of what one context evaluates.

    Args:
        store: the bank's pieces.
        key: of the context, by `context_key`.
        model: its name, for people.
        cells: the context's.
        spell: the bytes of tokens, control tokens and all.
        window: tokens of a sliding window, 0 for none: no piece is longer, so that every layer's cells are in it.
    """

    def __init__(
        self,
        store: PieceStore,
        key: str,
        model: str,
        cells: ContextCells,
        spell: Callable[[Sequence[int]], bytes],
        window: int = 0,
        writer: PieceWriter | None = None,
    ) -> None:
        self.store = store
        self.counts = store.counts
        self.writer = writer or PieceWriter(store)
        self.cells = cells
        self._key, self._model, self._spell = key, model, spell
        self._window = window
        self._longest = min(LONGEST_PIECE, window) if window > 0 else LONGEST_PIECE

    def gains(self, namespace: str, tokens: Sequence[int], held: int) -> bool:
        """Whether `restore` would have something for a sequence that holds so many of these tokens."""
        parts = self.store.cover(namespace, self._key, np.array(tokens[:-1], np.int32))
        return bool(parts) and parts[-1].end - held >= LEAST

    def restore(self, namespace: str, tokens: Sequence[int], seq: int, held: int) -> int:
        """Have a sequence hold more of a prompt; how many tokens it holds now, less than all of the prompt; fewer than
        before where that went wrong.

        Args:
            held: tokens of the prompt that the sequence holds already, and nothing behind them.
        """
        wanted = np.array(tokens[:-1], np.int32)
        if len(wanted) - held < LEAST:
            return held
        parts = self.store.cover(namespace, self._key, wanted)
        if not parts or parts[-1].end - held < LEAST:
            return held
        at = self._put(parts, seq, held)
        used = [part for part in parts if held < part.end <= at]
        if not used:
            return at
        base = min(held, used[0].stored.piece.start)
        right = self._is_right(used, tokens, seq, at)
        if not right:
            self.cells.drop(seq, base)
            if right is False:
                logger.warning("restored KV state did not agree with what was kept; it is deleted and evaluated anew")
                self.counts.rejected += 1
                for part in used:
                    self.store.drop(part.stored)
            return base
        self.store.used([part for part in parts if part.end <= at])
        self.counts.restores += 1
        self.counts.restored_tokens += at - held
        return at

    def _put(self, parts: Sequence[CoverPart], seq: int, held: int) -> int:
        at = held
        for part in parts:
            if part.end <= at:
                continue
            piece = part.stored.piece
            try:
                cells = part.stored.cells()
            except BankCorruptError as exc:
                logger.warning("%s", exc)
                self.counts.rejected += 1
                self.store.drop(part.stored)
                return at
            # a piece goes in from its first token on: a gap in its place would be filled by what is evaluated next, and
            # with flash attention the order of the cells changes the numbers
            at = min(at, piece.start)
            self.cells.drop(seq, at)
            if not self.cells.put(seq, cells, (piece.start, piece.end), at, part.end):
                self.cells.drop(seq, at)
                return at
            at = part.end
        return at

    def _is_right(self, used: Sequence[CoverPart], tokens: Sequence[int], seq: int, at: int) -> bool | None:
        """Positions, and the logits behind the last piece that brings them along; None where that can't be told."""
        begin, end = self.cells.span(seq)
        if end != at or not self._sees(begin, at):
            return None
        known = [part for part in used if part.is_to_its_end and len(part.stored.piece.top.ids)]
        if not known:
            return True
        last = known[-1]
        if not self._sees(begin, last.end):
            return None
        logits = self.cells.logits_behind(seq, tokens[last.end - 1], last.end - 1)
        return None if logits is None else agree(last.stored.piece.top, logits)

    def _sees(self, begin: int, end: int) -> bool:
        """Whether cells from a position on are all that the tokens behind `end` look at."""
        return begin == 0 or (self._window > 0 and begin <= end - self._window)

    def keep(self, namespace: str, tokens: Sequence[int], seq: int, top: TopLogits | None = None) -> int:
        """Have what a sequence holds written, as far as it is not yet; how many tokens that is.

        Args:
            tokens: all that the sequence holds.
            top: the logits behind the last of them, where they are known.
        """
        held = np.array(tokens, np.int32)
        if len(held) < LEAST or self.writer.is_full:
            return 0
        epoch = self.store.epoch()
        parts = self.store.cover(namespace, self._key, held)
        at = parts[-1].end if parts else 0
        if len(held) - at < LEAST:
            return 0
        ancestors = [part.stored.piece.id for part in parts]
        kept = 0
        while at < len(held):
            end = min(len(held), at + self._longest)
            piece = self._piece(namespace, held, at, end, ancestors, top if end == len(held) else None)
            cells = self.cells.take(seq, at, end)
            if cells is None:
                break
            self.writer.submit(self.store.announce(piece, cells), epoch)
            ancestors.append(piece.id)
            kept, at = kept + end - at, end
            self.counts.kept_pieces += 1
        self.counts.kept_tokens += kept
        return kept

    def close(self) -> None:
        """Have what was kept written; the context may be freed then."""
        self.writer.close()

    def _piece(
        self, namespace: str, held: Tokens, at: int, end: int, ancestors: Sequence[str], top: TopLogits | None
    ) -> Piece:
        return Piece(
            namespace=namespace,
            key=self._key,
            model=self._model,
            start=at,
            prefix=digest_of(held[:at]),
            tokens=held[at:end].copy(),
            # a text that is to be found later may begin ahead of the piece
            text=self._spell(held[self._reach(held, at) : end].tolist()),
            ancestors=tuple(ancestors),
            top=top or TopLogits(),
        )

    def _reach(self, held: Tokens, at: int) -> int:
        """Where the letters ahead of a piece begin that belong to its text."""
        begin, count = at, 4 * REACH
        while begin > 0:
            begin = max(0, at - count)
            count *= 2
            if len(letters(self._spell(held[begin:at].tolist()).decode("utf-8", "replace"))) >= REACH:
                break
        return begin
