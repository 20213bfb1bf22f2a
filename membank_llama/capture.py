"""Hidden states out of llama.cpp: the residual stream of one layer, for every token of a text.

The model's weights are shared; everything else is our own: a second native context, with an eval callback that
copies the tensor ``l_out-N`` the moment it is computed and then ends the graph, so that the layers above N cost
nothing. A chat on the same weights never notices: its context and its cache are not touched.

This is the only file that calls llama.cpp's C API for capture. Invariants: one decode at a time for a context (a
lock); whatever C may still point at lives as long as the context; the context is freed before the model; no Python
exception is lost inside a C callback.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt
from llama_cpp import _ctypes_extensions

from .errors import EncodingError, ModelError, ModelFileError
from .gguf_file import read_header
from .types import Vector

_log = logging.getLogger("membank_llama")
_host_log = logging.getLogger("llama-cpp-python")

POOLING_NONE = int(llama_cpp.LLAMA_POOLING_TYPE_NONE)
POOLING_RANK = int(llama_cpp.LLAMA_POOLING_TYPE_RANK)

TokenIds = Sequence[int]


@lru_cache(maxsize=1)
def _ggml() -> Any:
    """The tensor functions of libggml-base, with their C prototypes."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    lib = _ctypes_extensions.load_shared_library("ggml-base", folder)
    tensor = ctypes.c_void_p
    # const char * ggml_get_name(const struct ggml_tensor *); the others return int64_t, int64_t, size_t, bool
    for name, result in (
        ("ggml_get_name", ctypes.c_char_p),
        ("ggml_nelements", ctypes.c_int64),
        ("ggml_nrows", ctypes.c_int64),
        ("ggml_nbytes", ctypes.c_size_t),
        ("ggml_is_contiguous", ctypes.c_bool),
    ):
        function = getattr(lib, name)
        function.argtypes, function.restype = [tensor], result
    # void ggml_backend_tensor_get(const struct ggml_tensor * tensor, void * data, size_t offset, size_t size)
    lib.ggml_backend_tensor_get.argtypes = [tensor, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    lib.ggml_backend_tensor_get.restype = None
    return lib


@contextmanager
def quiet() -> Iterator[None]:
    """Keep llama.cpp's chatter about our own loading out of stderr, and the user's log level as it was."""
    before = _host_log.level
    _host_log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if _host_log.level == logging.CRITICAL:
            # NOTSET means that nobody chose a level and all would be printed: then as Llama(verbose=False) has it
            _host_log.setLevel(before or logging.ERROR)


class Weights:
    """A loaded model: opened from a file and then owned, or borrowed from a `llama_cpp.Llama`."""

    def __init__(self, model: llama_cpp.Llama | str | Path, *, n_gpu_layers: int = 0) -> None:
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self.host: llama_cpp.Llama | None = None
        if isinstance(model, (str, Path)):
            self.path = Path(model)
            read_header(self.path)
            self._handle = self._load(n_gpu_layers)
            self._stack.callback(llama_cpp.llama_model_free, self._handle)
            weakref.finalize(self, self._stack.close)
        else:
            self.host = model
            self.path = Path(model.model_path)
            self._handle = model._model.model
        self.n_layer = int(llama_cpp.llama_model_n_layer(self.handle))
        self.n_embd = int(llama_cpp.llama_model_n_embd(self.handle))
        n_out = getattr(llama_cpp, "llama_model_n_embd_out", llama_cpp.llama_model_n_embd)
        self.n_embd_out = int(n_out(self.handle))
        self.n_ctx_train = int(llama_cpp.llama_model_n_ctx_train(self.handle))
        self.architecture = self.meta("general.architecture") or "unknown"
        self.has_encoder = bool(llama_cpp.llama_model_has_encoder(self.handle))
        self.is_recurrent = bool(
            llama_cpp.llama_model_is_recurrent(self.handle) or llama_cpp.llama_model_is_hybrid(self.handle)
        )

    def _load(self, n_gpu_layers: int) -> Any:
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0x7FFFFFFF if n_gpu_layers < 0 else n_gpu_layers
        with quiet():
            llama_cpp.llama_backend_init()
            handle = llama_cpp.llama_model_load_from_file(str(self.path).encode(), params)
        if not handle:
            raise ModelFileError(
                f"llama.cpp cannot load {self.path}: its architecture may be newer than this llama.cpp, or memory is short; "
                "upgrade llama-cpp-python, or try a smaller model"
            )
        return handle

    @property
    def handle(self) -> Any:
        """The native model; an error once the Llama it came from, or this object, is closed."""
        if self.host is not None and self.host._model.model is None:
            self._handle = None
        if not self._handle:
            raise ModelError("the model is closed; open it again before encoding")
        return self._handle

    def meta(self, key: str) -> str | None:
        """A value of the file's metadata, as text."""
        buffer = ctypes.create_string_buffer(4096)
        size = llama_cpp.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if size >= 0 else None

    @property
    def pooling(self) -> int:
        """The pooling type that the file names; `POOLING_NONE` if it names none."""
        return int(self.meta(f"{self.architecture}.pooling_type") or POOLING_NONE)

    @property
    def adds_space(self) -> bool:
        """Whether the tokenizer itself puts a space before a text (SentencePiece does, unless the file says not)."""
        sentencepiece = (
            llama_cpp.llama_vocab_type(llama_cpp.llama_model_get_vocab(self.handle))
            == llama_cpp.LLAMA_VOCAB_TYPE_SPM
        )
        return bool(sentencepiece and self.meta("tokenizer.ggml.add_space_prefix") != "false")

    def tokenize(self, text: str, *, specials: bool, add: bool) -> list[int]:
        """Token ids; `add` puts BOS and the like around, `specials` reads control tokens that stand in the text."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        with self._lock:
            vocab = llama_cpp.llama_model_get_vocab(self.handle)
            for _ in range(2):
                buffer = (llama_cpp.llama_token * size)()
                count = llama_cpp.llama_tokenize(vocab, data, len(data), buffer, size, add, specials)
                if count >= 0:
                    return list(buffer[:count])
                size = -count
        raise EncodingError(f"the model's tokenizer refused a text of {len(data)} bytes")

    def close_first(self, child: Context) -> None:
        """Have `child` freed before the weights, whoever frees them: a borrowed Llama may be closed by its owner."""
        references = weakref.ref(self), weakref.ref(child)

        def close() -> None:
            weights, context = (reference() for reference in references)
            if context is not None:
                context.close()
            if weights is not None:
                with weights._lock:
                    weights._handle = None

        owner = self._stack if self.host is None else getattr(self.host._model, "_exit_stack", None)
        if owner is not None:
            owner.callback(close)

    def close(self) -> None:
        """Free the weights if they are ours; a borrowed Llama stays open."""
        with self._lock:
            self._handle = None
        with quiet():
            self._stack.close()


class Batch:
    """A `llama_batch` over numpy memory, filled without a Python loop over tokens."""

    def __init__(self, capacity: int, max_sequences: int) -> None:
        self.token = np.zeros(capacity, np.int32)
        self.pos = np.zeros(capacity, np.int32)
        self.n_seq = np.ones(capacity, np.int32)
        self.output = np.zeros(capacity, np.int8)
        self._ids = np.arange(max_sequences, dtype=np.int32)
        self._id_pointers = np.zeros(capacity, np.uintp)
        c = llama_cpp.llama_batch()
        c.token = _pointer(self.token, ctypes.c_int32)
        c.pos = _pointer(self.pos, ctypes.c_int32)
        c.n_seq_id = _pointer(self.n_seq, ctypes.c_int32)
        c.logits = _pointer(self.output, ctypes.c_int8)
        c.seq_id = ctypes.cast(self._id_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)))
        self.c = c

    def fill(self, sequences: Sequence[TokenIds], *, outputs: bool) -> int:
        """Lay the sequences out one after the other; returns the number of tokens."""
        at = 0
        for number, tokens in enumerate(sequences):
            end = at + len(tokens)
            self.token[at:end] = tokens
            self.pos[at:end] = np.arange(len(tokens))
            self._id_pointers[at:end] = self._ids.ctypes.data + number * self._ids.itemsize
            at = end
        self.output[:at] = outputs
        self.c.n_tokens = at
        return at


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))


@dataclass(frozen=True)
class Plan:
    """What a context is made for. `layer` None: the final states, pooled by the file's own type or one by one."""

    layer: int | None
    window: int
    max_sequences: int
    n_threads: int
    pooled: bool = False
    outputs: bool = False


class Context:
    """A native context on shared weights that yields hidden states; safe to call from several threads."""

    def __init__(self, weights: Weights, plan: Plan) -> None:
        self.weights, self.plan = weights, plan
        self.capacity = max(plan.window, min(512, plan.window * plan.max_sequences))
        self._lock = threading.Lock()
        self._watch = _Watch(plan.layer, weights.n_embd)
        self._batch = Batch(self.capacity, plan.max_sequences)
        self._ctx = self._open()
        # frees once: on close(), when nobody holds this object any more, or at exit
        self._free = weakref.finalize(self, llama_cpp.llama_free, self._ctx)
        weights.close_first(self)

    def _open(self) -> Any:
        plan, params = self.plan, llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = self.capacity
        params.n_seq_max = plan.max_sequences
        params.n_threads = params.n_threads_batch = plan.n_threads
        params.embeddings = plan.outputs or plan.layer is None
        params.pooling_type = -1 if plan.pooled else POOLING_NONE
        params.kv_unified = True
        params.no_perf = True
        if not params.embeddings and hasattr(params, "n_outputs_max"):
            params.n_outputs_max = (
                plan.max_sequences
            )  # no logits are wanted: spare the buffer for a whole batch
        if plan.layer is not None:
            params.cb_eval = self._watch.c
        with quiet():
            ctx = llama_cpp.llama_init_from_model(self.weights.handle, params)
        if not ctx:
            raise ModelError(
                f"llama.cpp could not make a context of {self.capacity} tokens for {self.weights.path}; "
                "free some memory or pass a smaller window"
            )
        return ctx

    def states(self, sequences: Sequence[TokenIds]) -> list[Vector]:
        """One decode. For each sequence the rows of its tokens, ``(n_tokens, n_embd)``, or ``(1, n_embd)`` if pooled.

        Raises:
            EncodingError: llama.cpp failed, or gave another number of rows than there are tokens.
        """
        lengths = [len(tokens) for tokens in sequences]
        if not all(lengths) or sum(lengths) > self.capacity or len(lengths) > self.plan.max_sequences:
            raise EncodingError(f"{lengths} tokens do not fit a batch of {self.capacity}")
        with self._lock:
            if self._ctx is None:
                raise ModelError("the adapter is closed; open it again before encoding")
            self._batch.fill(sequences, outputs=self._outputs)
            try:
                return self._decode(lengths)
            finally:
                self._forget()

    @property
    def _outputs(self) -> bool:
        return self.plan.outputs or self.plan.layer is None

    def _decode(self, lengths: list[int]) -> list[Vector]:
        total = sum(lengths)
        self._watch.expect(total)
        memory = llama_cpp.llama_get_memory(self._ctx)
        run = llama_cpp.llama_decode if memory else llama_cpp.llama_encode
        code = run(self._ctx, self._batch.c)
        self._watch.raise_stored()
        if code != 0:
            raise EncodingError(f"llama.cpp could not evaluate {total} tokens (code {code})")
        if self.plan.pooled:
            return [
                self._copy(llama_cpp.llama_get_embeddings_seq(self._ctx, n), 1) for n in range(len(lengths))
            ]
        if self.plan.layer is None:
            rows = self._copy(llama_cpp.llama_get_embeddings(self._ctx), total)
        else:
            rows = self._watch.rows()
        return np.split(rows, np.cumsum(lengths)[:-1])

    def _copy(self, pointer: Any, rows: int) -> Vector:
        if not pointer:
            raise EncodingError(f"{self.weights.path.name} gave no embeddings; it may not be made for them")
        return np.ctypeslib.as_array(pointer, (rows, self.weights.n_embd_out)).astype(np.float32, copy=True)

    def _forget(self) -> None:
        # after an early stop the cache of the upper layers is stale: nothing of it may be met again
        memory = llama_cpp.llama_get_memory(self._ctx)
        if memory:
            llama_cpp.llama_memory_clear(memory, False)

    def close(self) -> None:
        """Free the native context; a decode that runs is waited for."""
        with self._lock, quiet():
            self._ctx = None
            self._free()


class _Watch:
    """The eval callback: copies one named tensor, then ends the graph."""

    def __init__(self, layer: int | None, dim: int) -> None:
        self._name = f"l_out-{layer}".encode()
        self._dim = dim
        self._parts: list[Vector] = []
        self._missing = 0
        self._stored: BaseException | None = None
        ggml = _ggml()
        get_name, name = ggml.ggml_get_name, self._name

        def on_node(tensor: int, ask: bool, _user: Any) -> bool:
            # called for every node of the graph: the usual case is one C call
            try:
                if ask:
                    return self._missing <= 0 or bool(get_name(tensor) == name)
                if self._missing > 0:
                    self._take(ggml, tensor)
            except (
                BaseException
            ) as error:  # C cannot carry it (Ctrl-C lands here too): raised after the decode
                self._stored, self._missing = error, 0
                return ask
            return False

        self.c = llama_cpp.ggml_backend_sched_eval_callback(on_node)

    def expect(self, rows: int) -> None:
        self._parts, self._missing, self._stored = [], rows, None

    def _take(self, ggml: Any, tensor: int) -> None:
        count, rows = ggml.ggml_nelements(tensor), ggml.ggml_nrows(tensor)
        size = ggml.ggml_nbytes(tensor)
        kind = {4: np.float32, 2: np.float16}.get(size // count if count else 0)
        if kind is None or count != rows * self._dim or not ggml.ggml_is_contiguous(tensor):
            raise EncodingError(f"{self._name.decode()} holds {rows} rows of {count} values in {size} bytes")
        part = np.empty((rows, self._dim), kind)
        ggml.ggml_backend_tensor_get(tensor, part.ctypes.data, 0, size)
        self._parts.append(part.astype(np.float32, copy=False))
        self._missing -= rows

    def raise_stored(self) -> None:
        if self._stored is not None:
            stored, self._stored = self._stored, None
            raise stored

    def rows(self) -> Vector:
        """All rows of the decode; an error unless there is exactly one for each token."""
        if self._missing or not self._parts:
            raise EncodingError(f"{self._name.decode()}: {self._missing} token rows missing")
        return np.concatenate(self._parts)
