"""`TokenBatch`: tokens of one sequence on their way into `llama_decode`, with logits behind the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np


class TokenBatch:
    """A `llama_batch` of a fixed capacity, filled without a Python loop over tokens; `free()` it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._batch = llama_cpp.llama_batch_init(capacity, 0, 1)
        view, b = np.ctypeslib.as_array, self._batch
        self._token, self._pos = view(b.token, (capacity,)), view(b.pos, (capacity,))
        self._output = view(b.logits, (capacity,))
        view(b.n_seq_id, (capacity,))[:] = 1
        self._seq = -1

    def decode(self, ctx: Any, seq: int, tokens: Sequence[int], start: int) -> int:
        """Evaluate them from a position on; what `llama_decode` returns: 0 is well, 1 where there is no room."""
        count = len(tokens)
        self._token[:count] = tokens
        self._pos[:count] = np.arange(start, start + count)
        self._output[:count] = 0
        self._output[count - 1] = 1
        if seq != self._seq:
            for n in range(self.capacity):
                self._batch.seq_id[n][0] = seq
            self._seq = seq
        self._batch.n_tokens = count
        return int(llama_cpp.llama_decode(ctx, self._batch))

    def free(self) -> None:
        """Free the native memory."""
        llama_cpp.llama_batch_free(self._batch)
