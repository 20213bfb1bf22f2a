"""The one file that touches what llama-cpp-python does not publish, so that a release that renames it breaks one file.

Tried with 0.3.16 and everything newer; each function says what it relies on.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import llama_cpp
from llama_cpp import _ctypes_extensions
from llama_cpp._internals import LlamaModel


def is_llama(model: object) -> bool:
    """Whether this is a `llama_cpp.Llama`, or stands for one: it has a loaded model in `_model`."""
    return hasattr(model, "_model")


def model_handle(llm: llama_cpp.Llama) -> Any:
    """The ``llama_model *`` of a Llama: `_model.model`."""
    return llm._model.model


def is_open(llm: llama_cpp.Llama) -> bool:
    """Whether a Llama still holds its model: `_model.model` is None once it is closed."""
    return bool(llm._model.model)


def exit_stack(llm: llama_cpp.Llama) -> ExitStack | None:
    """What a Llama frees when it is closed, newest first: `_model._exit_stack`; None where a version has none."""
    return getattr(llm._model, "_exit_stack", None)


def chat_handlers(llm: llama_cpp.Llama) -> dict[str, Any]:
    """The chat formats of a Llama's own, by name, which go before those of the library: `_chat_handlers`."""
    handlers: dict[str, Any] = llm.__dict__.setdefault("_chat_handlers", {})
    return handlers


def vocabulary_of_file(path: Path) -> Any:
    """A model opened without its weights, by `_internals.LlamaModel`: it tokenizes, detokenizes and closes as a Llama
    does."""
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    return cast(Any, LlamaModel(path_model=str(path), params=params, verbose=False))


def ggml_base() -> Any:
    """libggml-base beside llama.cpp's own library, by `_ctypes_extensions.load_shared_library`."""
    return _ctypes_extensions.load_shared_library("ggml-base", Path(llama_cpp.__file__).parent / "lib")
