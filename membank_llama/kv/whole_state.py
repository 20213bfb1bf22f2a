"""`WholeStateCache`: for models whose state is no cells by position, recurrent and hybrid ones: all of it or nothing.

Such a state stands for exactly the tokens that made it and can't be cut, so it is kept at the end of a turn and
restored only where a prompt begins with all of them. What attention layers a hybrid model has are written anew each
time: a large state is kept only once it has grown by a part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .kv_cache import LEAST, KVCache
from .piece import Piece, TopLogits, digest_of

LARGE = 32 << 20
"""Bytes from which a state is kept only where it has grown by one part in `GROWTH`."""
GROWTH = 8


class WholeStateCache(KVCache):
    """Restores and keeps what the sequences of one context hold, each as a whole."""

    def restore(self, namespace: str, tokens: Sequence[int], seq: int, held: int) -> int:
        """Have a sequence hold more of a prompt; how many tokens it holds now, none where that went wrong."""
        stored = self.store.longest_whole(namespace, self._key, np.array(tokens[:-1], np.int32))
        if stored is None or stored.piece.end - held < LEAST:
            return held
        state = self.cells_of(stored)
        if state is None:
            return held
        self.cells.drop(seq)
        if not self.cells.put_whole(seq, state, stored.piece.end):
            self.cells.drop(seq)
            return 0
        self.store.used([stored])
        self.count_restored(stored.piece.end - held)
        return stored.piece.end

    def keep(self, namespace: str, tokens: Sequence[int], seq: int, since: str, top: TopLogits | None = None) -> int:
        """Have what a sequence holds written, where it has grown enough; how many tokens that is."""
        if not self.may_keep(tokens, since):
            return 0
        held = np.array(tokens, np.int32)
        before = self.store.longest_whole(namespace, self._key, held)
        known = 0 if before is None else before.piece.end
        least = LEAST if before is None or before.nbytes < LARGE else max(LEAST, known // GROWTH)
        if len(held) - known < least:
            return 0
        state = self.cells.take_whole(seq, len(held))
        if state is None:
            return 0
        piece = Piece(
            namespace=namespace,
            key=self._key,
            model=self._model,
            start=0,
            prefix=digest_of(held[:0]),
            tokens=held,
            text=self._spell(held.tolist()),
            top=top or TopLogits(),
        )
        self.submit(piece, state, since, new=len(held) - known)
        return len(held) - known
