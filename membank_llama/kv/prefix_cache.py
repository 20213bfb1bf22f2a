"""`PrefixCache`: what stands between a context and the pieces on disk, for one loaded model.

`restore()` before a prompt is evaluated, `keep()` behind an answer; both on the thread that the context belongs to.
Writing is another thread's. Nothing here can fail a call: where anything is in doubt, fewer tokens are restored, and
llama.cpp evaluates the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from .agreement import agree
from .cover import CoverPart
from .kv_cache import LEAST, KVCache, KVParts
from .overlap import REACH, letters
from .piece import Piece, Tokens, TopLogits, digest_of

logger = logging.getLogger("membank_llama")

LONGEST_PIECE = 1024


class PrefixCache(KVCache):
    """Restores and keeps the beginnings of what one context evaluates.

    Args:
        window: tokens of a sliding window, 0 for none: no piece is longer, so that every layer's cells are in it.
    """

    def __init__(self, parts: KVParts, window: int = 0) -> None:
        super().__init__(parts)
        self._window = window
        self._longest = min(LONGEST_PIECE, window) if window > 0 else LONGEST_PIECE

    def found(self, namespace: str, tokens: Sequence[int], held: int) -> list[CoverPart]:
        """The pieces for a sequence that holds so many of a prompt's tokens; none where they would gain it little."""
        wanted = np.array(tokens[:-1], np.int32)
        if len(wanted) - held < LEAST:
            return []
        parts = self.store.cover(namespace, self._key, wanted)
        return parts if parts and parts[-1].end - held >= LEAST else []

    def restore(self, namespace: str, tokens: Sequence[int], seq: int, held: int) -> int:
        """Have a sequence hold more of a prompt; how many tokens it holds now, less than all of the prompt; fewer than
        before where that went wrong.

        Args:
            held: tokens of the prompt that the sequence holds already, and nothing behind them.
        """
        return self.put_back(self.found(namespace, tokens, held), tokens, seq, held)

    def put_back(self, parts: Sequence[CoverPart], tokens: Sequence[int], seq: int, held: int) -> int:
        """The same with the pieces that were `found`."""
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
        self.store.used([part.stored for part in parts if part.end <= at])
        self.count_restored(at - held)
        return at

    def _put(self, parts: Sequence[CoverPart], seq: int, held: int) -> int:
        at = held
        for part in parts:
            if part.end <= at:
                continue
            piece = part.stored.piece
            cells = self.cells_of(part.stored)
            if cells is None:
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

    def keep(self, namespace: str, tokens: Sequence[int], seq: int, since: str, top: TopLogits | None = None) -> int:
        """Have what a sequence holds written, as far as it is not yet; how many tokens that is."""
        if not self.may_keep(tokens, since):
            return 0
        held = np.array(tokens, np.int32)
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
            self.submit(piece, cells, since, new=end - at)
            ancestors.append(piece.id)
            kept, at = kept + end - at, end
        return kept

    def _piece(
        self, namespace: str, held: Tokens, at: int, end: int, ancestors: Sequence[str], top: TopLogits | None
    ) -> Piece:
        # a text that is to be found later may begin ahead of the piece
        begin = self._reach(held, at)
        return Piece(
            namespace=namespace,
            key=self._key,
            model=self._model,
            start=at,
            prefix=digest_of(held[:at]),
            tokens=held[at:end].copy(),
            text=self._spell(held[begin:end].tolist()),
            ahead=len(self._spell(held[begin:at].tolist())),
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
