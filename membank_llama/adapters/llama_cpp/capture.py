"""Hidden states out of llama.cpp: the residual stream of one layer, for every token of a text.

The weights are shared, everything else is our own: a second native context, whose eval callback (watch.py)
copies the tensor ``l_out-N`` the moment it is computed and then ends the graph, so that the layers above N cost
nothing. A chat on the same weights never notices: its context and its cache are not touched.

With watch.py the only file that calls llama.cpp's C API for capture. Invariants: one decode at a time in a
context (a lock); what C may still point at lives as long as the context; the context is freed before the
weights, whoever frees those.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import EncodingError, InvalidInputError, ModelError, ModelFileError
from membank_llama.core.types import Vector
from membank_llama.gguf.checks import check_loadable

from .eval_callback import Watch
from .private_api import is_llama, model_handle
from .tokenizer import Tokenizer

_host_log = logging.getLogger("llama-cpp-python")
_ALL_LAYERS = 0x7FFFFFFF

POOLING_NONE = int(llama_cpp.LLAMA_POOLING_TYPE_NONE)
POOLING_RANK = int(llama_cpp.LLAMA_POOLING_TYPE_RANK)
_POOLING_OF_FILE = int(llama_cpp.LLAMA_POOLING_TYPE_UNSPECIFIED)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep llama.cpp's chatter about our own work out of stderr; the user's log level stays as it was."""
    before = _host_log.level
    _host_log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if _host_log.level == logging.CRITICAL:
            # NOTSET: nobody chose, and everything would be printed; then as Llama(verbose=False) has it
            _host_log.setLevel(before or logging.ERROR)


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


def _end(lock: threading.Lock, handle: list[Any], free: Callable[[], object] | None = None) -> None:
    """Take a native handle out of use, and free it: once, after whoever is using it."""
    with lock:
        handle.clear()
    if free is not None:
        with quiet():
            free()


class Weights:
    """A loaded model: read from a file and owned, or borrowed from a `llama_cpp.Llama`, which is kept alive.

    Raises:
        ModelFileError: the file is missing, damaged, or of a kind that llama.cpp does not load.
        InvalidInputError: `model` is neither a path nor a Llama.
    """

    def __init__(self, model: llama_cpp.Llama | str | Path, *, n_gpu_layers: int = 0) -> None:
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self.host: llama_cpp.Llama | None = None
        if isinstance(model, (str, Path)):
            self.path = Path(model).resolve()
            check_loadable(self.path)
            self._handle = self._load(n_gpu_layers)
            self._stack.callback(llama_cpp.llama_model_free, self._handle[0])
            weakref.finalize(self, _end, self._lock, self._handle, self._stack.close)
        elif is_llama(model):
            self.host, self.path = model, Path(model.model_path).resolve()
            self._handle = [model_handle(model)]
        else:
            raise InvalidInputError(f"model must be a path or a llama_cpp.Llama; it is {type(model).__name__}")
        handle = self._handle  # not self, which is freed as soon as nobody holds it
        self.tokenizer = Tokenizer(lambda: llama_cpp.llama_model_get_vocab(handle[0]))
        self._read_facts(self.handle)

    def _read_facts(self, handle: Any) -> None:
        c = llama_cpp
        self.n_layer = int(c.llama_model_n_layer(handle))
        self.n_embd = int(c.llama_model_n_embd(handle))
        # newer than the oldest llama-cpp-python we take
        self.n_embd_out = int(getattr(c, "llama_model_n_embd_out", c.llama_model_n_embd)(handle))
        is_hybrid = getattr(c, "llama_model_is_hybrid", c.llama_model_is_recurrent)
        self.is_recurrent = bool(c.llama_model_is_recurrent(handle) or is_hybrid(handle))
        self.n_ctx_train = int(c.llama_model_n_ctx_train(handle))
        self.architecture = self.meta("general.architecture") or "unknown"
        self.pooling = int(self.meta(f"{self.architecture}.pooling_type") or POOLING_NONE)
        sentencepiece = c.llama_vocab_type(c.llama_model_get_vocab(handle)) == c.LLAMA_VOCAB_TYPE_SPM
        self.adds_space = sentencepiece and self.meta("tokenizer.ggml.add_space_prefix") != "false"

    def _load(self, n_gpu_layers: int) -> list[Any]:
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = _ALL_LAYERS if n_gpu_layers < 0 else n_gpu_layers
        with quiet():
            llama_cpp.llama_backend_init()
            handle = llama_cpp.llama_model_load_from_file(str(self.path).encode("utf-8", "surrogateescape"), params)
        if not handle:
            raise ModelFileError(
                f"llama.cpp could not load {self.path}; upgrade llama-cpp-python if the model is newer, "
                "free memory if it is large, or download it again"
            )
        return [handle]

    @property
    def handle(self) -> Any:
        """The native model; an error once this object, or the Llama it came from, is closed."""
        if not self._handle or (self.host is not None and not self.host._model.model):
            raise ModelError("the model is closed; open it again before encoding")
        return self._handle[0]

    def meta(self, key: str) -> str | None:
        """A value of the file's metadata as text, or None."""
        buffer = ctypes.create_string_buffer(1024)
        size = llama_cpp.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if size >= 0 else None

    def tokenize(self, text: str, *, specials: bool, add: bool) -> list[int]:
        """Token ids; `add` puts BOS and the like around, `specials` reads control tokens in the text as such."""
        with self._lock:
            _ = self.handle  # raises once it is closed
            return self.tokenizer.tokenize(text, specials=specials, add=add)

    def close_first(self, child: Context) -> None:
        """Have `child` freed ahead of the weights: the owner of a borrowed Llama may close it at any time."""
        references = weakref.ref(self), weakref.ref(child)

        def close() -> None:
            weights, context = references[0](), references[1]()
            if context is not None:
                context.close()
            if weights is not None:
                _end(weights._lock, weights._handle)

        owner = self._stack if self.host is None else getattr(self.host._model, "_exit_stack", None)
        if owner is not None:
            owner.callback(close)

    def close(self) -> None:
        """Free the weights if they are ours; a borrowed Llama stays open."""
        _end(self._lock, self._handle, self._stack.close)


@dataclass(frozen=True)
class Plan:
    """What a context is made for.

    `layer` None means the final state: one row a text by the file's own pooling type if `pooled`, else one
    a token. `outputs` marks every token as an output; without it a graph drops rows in its last layer.
    `below` names layers under `layer` whose states are kept in the same pass.
    """

    layer: int | None
    window: int
    max_sequences: int
    n_threads: int
    pooled: bool = False
    outputs: bool = False
    below: tuple[int, ...] = ()


class Context:
    """A native context on shared weights that yields hidden states; safe to call from several threads.

    Raises:
        ModelError: llama.cpp refused to make it.
    """

    def __init__(self, weights: Weights, plan: Plan) -> None:
        self.plan = plan
        # one evaluation takes a full window, or many short texts; more tokens at once are not faster on a CPU
        self.capacity = max(plan.window, min(512, plan.window * plan.max_sequences))
        self.dim = weights.n_embd_out if plan.layer is None else weights.n_embd
        self._weights = weights  # kept alive: C points into it
        self._lock = threading.Lock()
        self._watch = Watch(() if plan.layer is None else (*plan.below, plan.layer), self.dim)
        self._batch = _Batch(self.capacity, plan.max_sequences)
        self._ctx = [self._open()]
        free = partial(llama_cpp.llama_free, self._ctx[0])
        # frees once: on close(), when nobody holds this object any more, or at exit
        self._free = weakref.finalize(self, _end, self._lock, self._ctx, free)
        weights.close_first(self)

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
        if plan.layer is not None:
            params.cb_eval = self._watch.c_callback
        with quiet():
            ctx = llama_cpp.llama_init_from_model(self._weights.handle, params)
        if not ctx:
            raise ModelError(
                f"llama.cpp could not make a context of {self.capacity} tokens on {self._weights.path}; "
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
        self._watch.expect(total)
        code = run(self._ctx[0], self._batch.c)
        self._watch.raise_stored()
        if code != 0:
            raise EncodingError(f"llama.cpp could not evaluate {total} tokens (code {code}); try a smaller window")

    def _rows(self, lengths: list[int], layer: int | None) -> list[Vector]:
        ctx, total = self._ctx[0], sum(lengths)
        if self.plan.pooled:
            return [self._copy(llama_cpp.llama_get_embeddings_seq(ctx, n), 1) for n in range(len(lengths))]
        rows = self._copy(llama_cpp.llama_get_embeddings(ctx), total) if layer is None else self._watch.rows(layer)
        return np.split(rows, np.cumsum(lengths)[:-1])

    def _copy(self, pointer: Any, rows: int) -> Vector:
        if not pointer:
            raise EncodingError(f"{self._weights.path.name} gave no embeddings")
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
