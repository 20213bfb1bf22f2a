"""A chat model from its file, with errors that say what to do. What is heavy is imported inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from membank_llama.core.errors import ModelError, ModelFileError
from membank_llama.kv.kv_types import KV_TYPES

DEFAULT_CONTEXT = 4096


def load_chat_model(path: Path, options: dict[str, Any]) -> Any:
    """A `llama_cpp.Llama` that can chat.

    Raises:
        ModelFileError: the file is damaged, or llama.cpp cannot load it.
        ModelError: it makes embeddings.
    """
    from jinja2 import TemplateError

    from membank_llama.gguf.capabilities import read_facts
    from membank_llama.gguf.checks import check_loadable, unreadable_template
    from membank_llama.memory.llama_with_memory import SafeLlama

    from ..status_line import StatusLine

    check_loadable(path)
    if not read_facts(path).causal:
        raise ModelError(f"{path} makes embeddings and cannot chat; give it as --encoder, and a chat model as MODEL")
    try:
        with StatusLine(f"loading {path.stem} …"):
            return SafeLlama(str(path), **options)
    except TemplateError as exc:
        raise unreadable_template(path, exc) from exc
    except (ValueError, RuntimeError, AssertionError) as exc:
        raise ModelFileError(
            f"llama.cpp cannot load {path}: {exc}. It may be of a kind this version does not know, or too large for "
            "this machine; pip install -U llama-cpp-python, or a smaller model or --ctx, may help, and MEMBANK_DEBUG=1 "
            "shows what llama.cpp says of it"
        ) from exc


def llama_options(
    path: Path, context: int | None, threads: int | None, gpu_layers: int, *, seed: int | None, kv_type: str
) -> dict[str, Any]:
    """What a Llama is made with; None: what its model was made for, or as llama.cpp has it."""
    from membank_llama.kv.context_key import GGML_TYPES

    options: dict[str, Any] = {"n_ctx": context or trained_context(path), "n_gpu_layers": gpu_layers}
    options |= {"n_threads": threads, "n_threads_batch": threads, "verbose": False}
    options |= {} if seed is None else {"seed": seed}
    if kv_type != KV_TYPES[0]:
        # values of another type than f16 need flash attention
        options |= {"type_k": GGML_TYPES[kv_type], "type_v": GGML_TYPES[kv_type], "flash_attn": True}
    return options


def trained_context(path: Path) -> int:
    """Tokens of context: what a model was made for, and not more than a small machine has room for."""
    from membank_llama.gguf.capabilities import read_facts

    trained = read_facts(path).n_ctx_train
    return min(DEFAULT_CONTEXT, trained) if trained > 0 else DEFAULT_CONTEXT
