"""Hidden states out of llama.cpp: the residual stream of one layer, for every token of a text.

The weights are shared, everything else is our own: a second native context, whose eval callback (eval_callback.py)
copies the tensor ``l_out-N`` the moment it is computed and then ends the graph, so that the layers above N cost
nothing. A chat on the same weights never notices: its context and its cache are not touched.

With eval_callback.py the only file that calls llama.cpp's C API for capture. Invariants: one decode at a time in a
context (a lock); what C may still point at lives as long as the context; the context is freed before the
weights, whoever frees those.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import EncodingError, ModelError
from membank_llama.core.types import Vector

from .eval_callback import EvalCallback
from .loaded_model import POOLING_NONE, LoadedModel, end_handle, quiet

FINAL_STATES = -1
"""Asks for the states of a text's tokens ahead of pooling, in the place of a layer."""

_POOLING_OF_FILE = int(llama_cpp.LLAMA_POOLING_TYPE_UNSPECIFIED)


@contextmanager
def _interrupt_afterwards() -> Iterator[None]:
    """Hold Ctrl-C back. Python raises it at the entry of whatever runs next: in a callback from C it would be lost."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            before(*caught[0])


@dataclass(frozen=True)
class CapturePlan:
    """What a context is made for.

    `layer` None means the final state: one row a text by the file's own pooling type if `pooled`, else one
    a token. `outputs` marks every token as an output; without it a graph drops rows in its last layer.
    `below` names layers under `layer` whose states are kept in the same pass; `tokens` keeps what is pooled as well.
    """

    layer: int | None
    window: int
    max_sequences: int
    n_threads: int
    pooled: bool = False
    outputs: bool = False
    below: tuple[int, ...] = ()
    tokens: bool = False


class CaptureContext:
    """A native context on shared weights that yields hidden states; safe to call from several threads.

    Raises:
        ModelError: llama.cpp refused to make it.
    """

    def __init__(self, model: LoadedModel, plan: CapturePlan) -> None:
        self.plan = plan
        # one evaluation takes a full window, or many short texts; more tokens at once are not faster on a CPU
        self.capacity = max(plan.window, min(512, plan.window * plan.max_sequences))
        self.dim = model.n_embd_out if plan.layer is None else model.n_embd
        self._model = model  # kept alive: C points into it
        self._lock = threading.Lock()
        self.token_dim = model.n_embd if plan.tokens else self.dim
        layers = () if plan.layer is None else (*plan.below, plan.layer)
        self._callback = EvalCallback(layers, self.token_dim, final=plan.tokens)
        self._batch = _Batch(self.capacity, plan.max_sequences)
        self._ctx = [self._open()]
        free = partial(llama_cpp.llama_free, self._ctx[0])
        # frees once: on close(), when nobody holds this object any more, or at exit
        self._free = weakref.finalize(self, end_handle, self._lock, self._ctx, free)
        model.close_first(self)

    def _open(self) -> Any:
        plan, params = self.plan, llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = self.capacity  # one decode is one pass, tokens in order
        params.n_seq_max = plan.max_sequences
        params.n_threads = params.n_threads_batch = plan.n_threads
        params.kv_unified = True
        params.no_perf = True
        params.embeddings = plan.outputs
        params.pooling_type = _POOLING_OF_FILE if plan.pooled else POOLING_NONE
        if not plan.outputs:
            params.n_outputs_max = plan.max_sequences  # no buffer for a whole batch of logits that nobody wants
        if plan.layer is not None or plan.tokens:
            params.cb_eval = self._callback.c_callback
        with quiet():
            ctx = llama_cpp.llama_init_from_model(self._model.handle, params)
        if not ctx:
            raise ModelError(
                f"llama.cpp could not make a context of {self.capacity} tokens on {self._model.path}; "
                "free memory or pass a smaller window"
            )
        return ctx

    def states(self, sequences: Sequence[Sequence[int]]) -> list[Vector]:
        """Evaluate once. For each sequence the rows of its tokens, ``(n_tokens, dim)``; ``(1, dim)`` if pooled.

        Raises:
            EncodingError: llama.cpp failed, or gave another number of rows than there are tokens.
            ModelError: the context is closed.
        """
        return self._run(sequences, (self.plan.layer,))[0]

    def states_and_tokens(self, sequences: Sequence[Sequence[int]]) -> tuple[list[Vector], list[Vector]]:
        """Evaluate once, as `states()` does; beside it the states of each sequence's tokens, which pooling was of.

        Raises:
            EncodingError: as `states()`; or the graph does not show them.
        """
        if not self.plan.tokens:
            rows = self.states(sequences)
            return rows, rows
        pooled, tokens = self._run(sequences, (None, FINAL_STATES))
        return pooled, tokens

    def states_by_layer(self, sequences: Sequence[Sequence[int]]) -> dict[int, list[Vector]]:
        """Evaluate once, as `states()` does: the rows after each of the plan's layers."""
        layers = () if self.plan.layer is None else (*self.plan.below, self.plan.layer)
        return dict(zip(layers, self._run(sequences, layers), strict=True))

    def _run(self, sequences: Sequence[Sequence[int]], layers: Sequence[int | None]) -> list[list[Vector]]:
        lengths = [len(tokens) for tokens in sequences]
        if not lengths or min(lengths) < 1 or sum(lengths) > self.capacity or len(lengths) > self.plan.max_sequences:
            raise EncodingError(f"texts of {lengths} tokens are no batch of at most {self.capacity}")
        with self._lock:
            if not self._ctx:
                raise ModelError("the model is closed; open it again before encoding")
            memory = llama_cpp.llama_get_memory(self._ctx[0])
            self._batch.fill(sequences, outputs=self.plan.outputs)
            try:
                with _interrupt_afterwards():
                    self._evaluate(sum(lengths), llama_cpp.llama_decode if memory else llama_cpp.llama_encode)
                    return [self._rows(lengths, layer) for layer in layers]
            finally:
                if memory:
                    # after an early end the cache of the upper layers is stale: it must not be met again
                    llama_cpp.llama_memory_clear(memory, False)

    def _evaluate(self, total: int, run: Any) -> None:
        self._callback.expect(total)
        code = run(self._ctx[0], self._batch.c)
        self._callback.raise_stored()
        if code != 0:
            raise EncodingError(f"llama.cpp could not evaluate {total} tokens (code {code}); try a smaller window")

    def _rows(self, lengths: list[int], layer: int | None) -> list[Vector]:
        ctx, total = self._ctx[0], sum(lengths)
        if layer == FINAL_STATES:
            final = self._callback.final_rows()
            if final is None or len(final) != total:
                raise EncodingError(f"{self._model.path.name} does not show the states that it pools")
            return np.split(final, np.cumsum(lengths)[:-1])
        if self.plan.pooled:
            return [self._copy(llama_cpp.llama_get_embeddings_seq(ctx, n), 1) for n in range(len(lengths))]
        rows = self._copy(llama_cpp.llama_get_embeddings(ctx), total) if layer is None else self._callback.rows(layer)
        return np.split(rows, np.cumsum(lengths)[:-1])

    def _copy(self, pointer: Any, rows: int) -> Vector:
        if not pointer:
            raise EncodingError(f"{self._model.path.name} gave no embeddings")
        return np.ctypeslib.as_array(pointer, (rows, self.dim)).astype(np.float32, copy=True)

    def close(self) -> None:
        """Free the native context; waits for an evaluation that is running."""
        self._free()


class _Batch:
    """A `llama_batch` over numpy memory, filled without a Python loop over tokens."""

    def __init__(self, capacity: int, max_sequences: int) -> None:
        self._token, self._pos, self._count = (np.ones(capacity, np.int32) for _ in range(3))
        self._output = np.zeros(capacity, np.int8)
        self._ids = np.arange(max_sequences, dtype=np.int32)
        self._id_of = np.zeros(capacity, np.uintp)  # llama_seq_id **: for each token a pointer into _ids
        self.c = llama_cpp.llama_batch()
        self.c.token = _pointer(self._token, ctypes.c_int32)
        self.c.pos = _pointer(self._pos, ctypes.c_int32)
        self.c.n_seq_id = _pointer(self._count, ctypes.c_int32)
        self.c.seq_id = _pointer(self._id_of, ctypes.POINTER(ctypes.c_int32))
        self.c.logits = _pointer(self._output, ctypes.c_int8)

    def fill(self, sequences: Sequence[Sequence[int]], *, outputs: bool) -> None:
        """Lay the sequences out one after the other."""
        at = 0
        for number, tokens in enumerate(sequences):
            end = at + len(tokens)
            self._token[at:end] = tokens
            self._pos[at:end] = np.arange(len(tokens))
            self._id_of[at:end] = self._ids.ctypes.data + number * self._ids.itemsize
            at = end
        self._output[:at] = outputs
        self.c.n_tokens = at


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
