"""The one file that touches what llama-cpp-python does not publish, so that a release that renames it breaks one file.

Tried with 0.3.16 and everything newer; each function says what it relies on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import llama_cpp
from llama_cpp import _ctypes_extensions, _logger
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


def own_log_callback() -> Any:
    """What llama-cpp-python gives llama.cpp's lines to when it is imported: `_logger.llama_log_callback`."""
    return _logger.llama_log_callback


def ggml_base() -> Any:
    """libggml-base beside llama.cpp's own library, by `_ctypes_extensions.load_shared_library`."""
    return _ctypes_extensions.load_shared_library("ggml-base", Path(llama_cpp.__file__).parent / "lib")


def is_exact_match(llm: llama_cpp.Llama, tokens: Sequence[int]) -> bool:
    """Whether a Llama holds exactly this prompt and can sample at once."""
    held = llm.n_tokens == len(tokens) and llm.input_ids[: llm.n_tokens].tolist() == list(tokens)
    return held and has_logits(llm)


def has_logits(llm: llama_cpp.Llama) -> bool:
    """Whether the logits that the context has are of the last token held: false (`_requires_eval`) behind a state that
    was loaded."""
    return not getattr(llm, "_requires_eval", False)


def is_as_its_file(llm: llama_cpp.Llama) -> bool:
    """Whether nothing was put into the model beside its file (`kv_overrides`, `lora_path`), and no logits of all tokens
    (`_logits_all`) or drafts of another model are kept."""
    return not (llm.kv_overrides or llm.lora_path or llm.draft_model or getattr(llm, "_logits_all", False))


def account_for(llm: llama_cpp.Llama, tokens: Sequence[int]) -> None:
    """Tell a Llama what its context has been given: `input_ids`, `n_tokens`, and that no logits are there yet
    (`_requires_eval`)."""
    llm.input_ids[: len(tokens)] = tokens
    llm.n_tokens = len(tokens)
    llm.__dict__["_requires_eval"] = True


class SpareSequence:
    """The attribute `context_params` of a Llama's class: whatever is set gets room for one sequence more.

    Llama.__init__ sets it ahead of making its context, and offers no other way to `n_seq_max`. The cache of all
    sequences is one, so nothing is taken from the first.
    """

    def __get__(self, llm: Any, _: type | None = None) -> Any:
        if llm is None:
            return self
        # one that was made as another class has them in the plain place
        found = llm.__dict__.get("context_params")
        params = llm.__dict__.get("_params_with_spare")
        if params is None:
            if found is None:
                raise AttributeError("context_params")
            return found
        if params.n_ubatch < params.n_seq_max:
            # llama.cpp tries a batch of one token for each sequence, and ends the process where that is too many
            params.n_seq_max = max(1, int(params.n_ubatch))
        return params

    def __set__(self, llm: Any, params: Any) -> None:
        params.n_seq_max, params.kv_unified = int(params.n_seq_max) + 1, True
        llm.__dict__["_params_with_spare"] = params
