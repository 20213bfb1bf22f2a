"""`LoadedModel`: a GGUF that llama.cpp has loaded, owned or borrowed from a `llama_cpp.Llama`.

Contexts on it are freed ahead of it, whoever frees it; a handle is taken out of use and freed once, after whoever is
using it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import llama_cpp

from membank_llama.core.errors import InvalidInputError, ModelError, ModelFileError
from membank_llama.core.native_lines import register_switch
from membank_llama.gguf.checks import check_loadable

from .native_log import log_native_lines
from .private_api import exit_stack, is_llama, is_open, model_handle
from .tokenizer import LONGEST_TOKEN, Tokenizer

_host_log = logging.getLogger("llama-cpp-python")
_ALL_LAYERS = 0x7FFFFFFF

register_switch(log_native_lines)

POOLING_NONE = int(llama_cpp.LLAMA_POOLING_TYPE_NONE)
POOLING_RANK = int(llama_cpp.LLAMA_POOLING_TYPE_RANK)


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


def end_handle(lock: threading.Lock, handle: list[Any], free: Callable[[], object] | None = None) -> None:
    """Take a native handle out of use, and free it: once, after whoever is using it."""
    with lock:
        handle.clear()
    if free is not None:
        with quiet():
            free()


def load_native(path: str | Path, *, vocab_only: bool = False, n_gpu_layers: int = 0) -> Any:
    """A ``llama_model *`` that the caller frees; null where llama.cpp cannot load the file. -1 layers: all of them."""
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = vocab_only
    params.n_gpu_layers = _ALL_LAYERS if n_gpu_layers < 0 else n_gpu_layers
    llama_cpp.llama_backend_init()
    return llama_cpp.llama_model_load_from_file(str(path).encode("utf-8", "surrogateescape"), params)


def meta_of(handle: Any, key: str) -> str | None:
    """A value of a loaded model's metadata as text, or None."""
    buffer = ctypes.create_string_buffer(1024)
    size = llama_cpp.llama_model_meta_val_str(handle, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if size >= 0 else None


def is_recurrent(handle: Any) -> bool:
    """Whether what a loaded model holds of a text is no cells by position, in some of its layers at least."""
    c = llama_cpp
    is_hybrid = getattr(c, "llama_model_is_hybrid", c.llama_model_is_recurrent)
    return bool(c.llama_model_is_recurrent(handle) or is_hybrid(handle))


def default_threads() -> int:
    """Half the processors: llama.cpp gains nothing from the other half of each core."""
    return max(1, (os.cpu_count() or 2) // 2)


class Closable(Protocol):
    """What lives on a loaded model."""

    def close(self) -> None: ...


class LoadedModel:
    """A loaded model: read from a file and owned, or borrowed from a `llama_cpp.Llama`, which is kept alive.

    Raises:
        ModelFileError: the file is missing, damaged, or of a kind that llama.cpp does not load.
        InvalidInputError: `model` is neither a path nor a Llama.
    """

    def __init__(self, model: llama_cpp.Llama | str | Path, *, n_gpu_layers: int = 0) -> None:
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._pieces: dict[int, str] = {}
        self.host: llama_cpp.Llama | None = None
        if isinstance(model, (str, Path)):
            self.path = Path(model).resolve()
            check_loadable(self.path)
            self._handle = self._load(n_gpu_layers)
            self._stack.callback(llama_cpp.llama_model_free, self._handle[0])
            weakref.finalize(self, end_handle, self._lock, self._handle, self._stack.close)
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
        self.is_recurrent = is_recurrent(handle)
        self.n_ctx_train = int(c.llama_model_n_ctx_train(handle))
        self.architecture = self.meta("general.architecture") or "unknown"
        self.pooling = int(self.meta(f"{self.architecture}.pooling_type") or POOLING_NONE)
        sentencepiece = c.llama_vocab_type(c.llama_model_get_vocab(handle)) == c.LLAMA_VOCAB_TYPE_SPM
        self.adds_space = sentencepiece and self.meta("tokenizer.ggml.add_space_prefix") != "false"

    def _load(self, n_gpu_layers: int) -> list[Any]:
        with quiet():
            handle = load_native(self.path, n_gpu_layers=n_gpu_layers)
        if not handle:
            raise ModelFileError(
                f"llama.cpp could not load {self.path}; upgrade llama-cpp-python if the model is newer, "
                "free memory if it is large, or download it again"
            )
        return [handle]

    @property
    def handle(self) -> Any:
        """The native model; an error once this object, or the Llama it came from, is closed."""
        if not self._handle or (self.host is not None and not is_open(self.host)):
            raise ModelError("the model is closed; open it again before encoding")
        return self._handle[0]

    def meta(self, key: str) -> str | None:
        """A value of the file's metadata as text, or None."""
        return meta_of(self.handle, key)

    def tokenize(self, text: str, *, specials: bool, add: bool) -> list[int]:
        """Token ids; `add` puts BOS and the like around, `specials` reads control tokens in the text as such."""
        with self._lock:
            _ = self.handle  # raises once it is closed
            return self.tokenizer.tokenize(text, specials=specials, add=add)

    def piece(self, token: int) -> str:
        """The text of one token; of one that is no whole character, its bytes in hexadecimal digits."""
        known = self._pieces.get(token)
        if known is None:
            buffer = ctypes.create_string_buffer(LONGEST_TOKEN)
            vocab = llama_cpp.llama_model_get_vocab(self.handle)
            size = llama_cpp.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, False)
            data = buffer.raw[: max(0, size)]
            try:
                known = data.decode()
            except UnicodeDecodeError:
                known = data.hex()
            self._pieces[token] = known
        return known

    def close_first(self, child: Closable) -> None:
        """Have `child` freed ahead of the model: the owner of a borrowed Llama may close it at any time."""
        references = weakref.ref(self), weakref.ref(child)

        def close() -> None:
            model, context = references[0](), references[1]()
            if context is not None:
                context.close()
            if model is not None:
                end_handle(model._lock, model._handle)

        owner = self._stack if self.host is None else exit_stack(self.host)
        if owner is not None:
            owner.callback(close)

    def close(self) -> None:
        """Free the weights if they are ours; a borrowed Llama stays open."""
        end_handle(self._lock, self._handle, self._stack.close)
