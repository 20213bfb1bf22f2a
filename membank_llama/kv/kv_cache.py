"""`KVCache`: what `PrefixCache`, by pieces, and `WholeStateCache` share: a context's state restored and kept."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from membank_llama.core.errors import BankCorruptError

from .cells import ContextCells
from .piece import Cells, Piece, StoredPiece, TopLogits, is_gone
from .piece_store import PieceStore
from .piece_writer import PieceWriter

logger = logging.getLogger("membank_llama")

LEAST = 16
"""Tokens below which neither restoring nor keeping is worth it."""


@dataclass(frozen=True)
class KVParts:
    """What state is kept of and where.

    Args:
        store: the bank's pieces.
        key: of the context, by `context_key`.
        model: its name, for people.
        cells: the context's.
        spell: the bytes of tokens, control tokens and all.
    """

    store: PieceStore
    key: str
    model: str
    cells: ContextCells
    spell: Callable[[Sequence[int]], bytes]


class KVCache(ABC):
    """Restores ahead of a prompt and keeps behind an answer, for one context."""

    def __init__(self, parts: KVParts) -> None:
        self.store, self.cells = parts.store, parts.cells
        self.counts = parts.store.counts
        self.writer = PieceWriter(parts.store)
        self._key, self._model, self._spell = parts.key, parts.model, parts.spell

    @abstractmethod
    def restore(self, namespace: str, tokens: Sequence[int], seq: int, held: int) -> int:
        """Have a sequence hold more of a prompt, of which it holds the first `held` tokens; how many it holds now."""

    @abstractmethod
    def keep(self, namespace: str, tokens: Sequence[int], seq: int, since: str, top: TopLogits | None = None) -> int:
        """Have what a sequence holds written, as far as it is not yet; how many tokens that is.

        Args:
            tokens: all that the sequence holds.
            since: the store's epoch ahead of the prompt, as `begin` gives it; nothing is kept where something was
                forgotten since, as the prompt may hold it.
            top: the logits behind the last token, where they are known.
        """

    def may_keep(self, tokens: Sequence[int], since: str) -> bool:
        """Whether what a sequence holds is worth keeping, and may be."""
        return len(tokens) >= LEAST and not self.writer.is_full and self.store.epoch() == since

    def cells_of(self, stored: StoredPiece) -> Cells | None:
        """The cells of a piece; None where it is gone, or damaged, and then it is deleted."""
        try:
            return stored.cells()
        except BankCorruptError as exc:
            if not is_gone(exc):
                logger.warning("%s", exc)
                self.counts.rejected += 1
            self.store.drop(stored)
            return None

    def submit(self, piece: Piece, cells: Cells, epoch: str, *, new: int) -> None:
        """Have a piece found from now on, and written; `new`: tokens of it that none was of before."""
        self.writer.submit(self.store.announce(piece, cells), epoch)
        self.counts.kept_pieces += 1
        self.counts.kept_tokens += new

    def count_restored(self, tokens: int) -> None:
        """So many tokens need not be evaluated."""
        self.counts.restores += 1
        self.counts.restored_tokens += tokens

    def close(self) -> None:
        """Have what was kept written; the context may be freed then."""
        self.writer.close()
