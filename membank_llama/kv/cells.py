"""`ContextCells`: the cells of a native context's KV cache, by sequence and position; the only file that moves them.

The context must have been made with one sequence more than whoever uses it needs (`n_seq_max`), and with a unified
cache: the spare sequence is where pieces are cut out and put in. Copying between sequences moves no data. A context
belongs to one thread, and so does this.

Source: llama.h, `llama_memory_seq_*` and `llama_state_seq_*`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from .piece import Cells, TopLogits
from .token_batch import TokenBatch

Logits = npt.NDArray[np.float32]

KEPT_LOGITS = 32


class ContextCells:
    """Cells of one context.

    Args:
        ctx: the ``llama_context *``, open as long as this is used.
        spare: a sequence that nobody else uses.
        n_vocab: tokens of the vocabulary.
    """

    def __init__(self, ctx: Any, spare: int, n_vocab: int) -> None:
        self._ctx = ctx
        self._memory = llama_cpp.llama_get_memory(ctx)
        self.spare = spare
        self._n_vocab = n_vocab

    def span(self, seq: int) -> tuple[int, int]:
        """The first position that a sequence holds in every layer, and the one behind its last; (0, 0) where empty."""
        first = int(llama_cpp.llama_memory_seq_pos_min(self._memory, seq))
        return (0, 0) if first < 0 else (first, int(llama_cpp.llama_memory_seq_pos_max(self._memory, seq)) + 1)

    def share(self, source: int, target: int, begin: int, end: int) -> None:
        """Give the cells of ``[begin, end)`` to another sequence too."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, begin, end)

    def drop(self, seq: int, begin: int = 0, end: int = -1) -> bool:
        """Take cells from a sequence, all from `begin` on by default; False where the model can't do so in part."""
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, seq, begin, end))

    def take(self, seq: int, begin: int, end: int) -> Cells | None:
        """A copy of the cells of ``[begin, end)``; None where some are not there any more."""
        self.drop(self.spare)
        self.share(seq, self.spare, begin, end)
        try:
            return self._state(self.spare) if self.span(self.spare) == (begin, end) else None
        finally:
            self.drop(self.spare)

    def put(self, seq: int, cells: Cells, whole: tuple[int, int], begin: int, end: int) -> bool:
        """Add cells to a sequence, of the positions `whole` those of ``[begin, end)``; whether they are there now."""
        self.drop(self.spare)
        try:
            if not self._fill(self.spare, cells) or self.span(self.spare) != whole:
                return False
            self.share(self.spare, seq, begin, end)
            return self.span(seq)[1] == end
        finally:
            self.drop(self.spare)

    def take_whole(self, seq: int, end: int) -> Cells | None:
        """A copy of all that a sequence of so many tokens holds, of a model whose state can't be cut; None where it
        holds something else."""
        return self._state(seq) if self.span(seq)[1] == end else None

    def put_whole(self, seq: int, cells: Cells, end: int) -> bool:
        """Have a sequence that holds nothing hold that; whether it does."""
        return self._fill(seq, cells) and self.span(seq)[1] == end

    def _state(self, seq: int) -> Cells | None:
        """All that llama.cpp exports of a sequence."""
        size = int(llama_cpp.llama_state_seq_get_size(self._ctx, seq))
        data = np.empty(size, np.uint8)
        written = int(llama_cpp.llama_state_seq_get_data(self._ctx, _bytes(data), size, seq)) if size else 0
        return data[:written] if written else None

    def _fill(self, seq: int, cells: Cells) -> bool:
        """Have llama.cpp read back what it exported; whether it took all of it."""
        return int(llama_cpp.llama_state_seq_set_data(self._ctx, _bytes(cells), len(cells), seq)) == len(cells)

    def top_logits(self) -> TopLogits:
        """The greatest logits of the token evaluated last."""
        logits = self._logits()
        return TopLogits() if logits is None else top_of(logits)

    def logits_behind(self, seq: int, token: int, position: int) -> Logits | None:
        """The logits behind a token that is evaluated once more, at a position that the sequence holds; the sequence
        stays as it is. None where llama.cpp can't."""
        self.drop(self.spare)
        self.share(seq, self.spare, 0, position)
        try:
            logits = self._logits() if self.evaluate(self.spare, [token], position) else None
            return None if logits is None else logits.copy()
        finally:
            self.drop(self.spare)

    def evaluate(self, seq: int, tokens: Sequence[int], start: int) -> bool:
        """Evaluate a few tokens from a position on, with logits behind the last; False where llama.cpp can't."""
        # a larger batch than the context was made for ends the process
        most = min(len(tokens), int(llama_cpp.llama_n_batch(self._ctx)))
        batch = TokenBatch(most)
        try:
            parts = range(0, len(tokens), most)
            return all(batch.decode(self._ctx, seq, tokens[at : at + most], start + at) == 0 for at in parts)
        finally:
            batch.free()

    def _logits(self) -> Logits | None:
        pointer = llama_cpp.llama_get_logits_ith(self._ctx, -1)
        if not pointer:
            return None
        view: Logits = np.ctypeslib.as_array(pointer, (self._n_vocab,))
        return view


def top_of(logits: Logits) -> TopLogits:
    """The greatest of some logits, ``(n_vocab,)``."""
    best = np.argsort(logits)[-KEPT_LOGITS:].astype(np.int32)
    return TopLogits(best, logits[best].copy())


def _bytes(data: Cells) -> Any:
    return ctypes.cast(data.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
