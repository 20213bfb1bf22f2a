"""What restores and keeps KV state for a context, where the model's can be relied on."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp

from membank_llama.core.errors import BankStorageError, ModelFileError

from .cells import ContextCells
from .context_key import context_key
from .piece_store import PieceStore
from .prefix_cache import PieceWriter, PrefixCache
from .self_test import tested
from .whole_state import WholeStateCache

logger = logging.getLogger("membank_llama")


@dataclass(frozen=True)
class OpenContext:
    """A native context and what is known of it.

    Args:
        ctx, model: the ``llama_context *`` and the ``llama_model *``.
        params: the `llama_context_params` that it was made with; `n_seq_max` is above `spare`, `kv_unified` is set.
        path: the model's GGUF.
        spare: a sequence that nobody else uses.
        rope_scaling: the file's own kind of it.
        spell: the bytes of tokens, control tokens and all.
    """

    ctx: Any
    model: Any
    params: Any
    path: Path
    spare: int
    n_gpu_layers: int
    rope_scaling: str
    spell: Callable[[Sequence[int]], bytes]


def open_prefix_cache(
    store: PieceStore | None, context: OpenContext, writer: PieceWriter | None = None
) -> PrefixCache | None:
    """None where there is no store, or nothing of this model's KV state holds; the context must hold nothing yet."""
    if store is None or not store.budget or _is_recurrent(context.model):
        return None
    key, n_vocab = _key(context), _n_vocab(context.model)
    cells = ContextCells(context.ctx, context.spare, n_vocab)
    if not key or not tested(key, cells, n_vocab).holds:
        return None
    window = int(llama_cpp.llama_model_n_swa(context.model))
    return PrefixCache(store, key, context.path.stem, cells, context.spell, window, writer)


def open_kv_cache(store: PieceStore | None, context: OpenContext) -> PrefixCache | WholeStateCache | None:
    """The same; of a recurrent or hybrid model, whose state can't be cut, what keeps it whole."""
    if store is None or not store.budget or not _is_recurrent(context.model):
        return open_prefix_cache(store, context)
    key, n_vocab = _key(context), _n_vocab(context.model)
    cells = ContextCells(context.ctx, context.spare, n_vocab)
    if not key or not tested(key, cells, n_vocab, whole=True).holds:
        return None
    return WholeStateCache(store, key, context.path.stem, cells, context.spell)


def _is_recurrent(model: Any) -> bool:
    """Whether what a model holds is no cells by position, in some of its layers at least."""
    c = llama_cpp
    is_hybrid = getattr(c, "llama_model_is_hybrid", c.llama_model_is_recurrent)
    return bool(c.llama_model_is_recurrent(model) or is_hybrid(model))


def _n_vocab(model: Any) -> int:
    return int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model)))


def _key(context: OpenContext) -> str:
    """The context's key; empty where the model's file can't be read any more, or there is nothing to keep."""
    if not llama_cpp.llama_get_memory(context.ctx):
        return ""
    try:
        return context_key(
            context.path,
            context.params,
            n_ctx=int(llama_cpp.llama_n_ctx(context.ctx)),
            n_gpu_layers=context.n_gpu_layers,
            rope_scaling=context.rope_scaling,
            trained=_trained(context.model),
        )
    except (ModelFileError, BankStorageError, OSError) as exc:
        logger.warning("KV state is not kept: %s", exc)
        return ""


def _trained(model: Any) -> int:
    """Tokens up to which the factors of RoPE are the short ones, in a file that brings two sets of them."""
    original = _meta(model, f"{_meta(model, 'general.architecture')}.rope.scaling.original_context_length")
    if original.isascii() and original.isdigit():
        return int(original)
    return int(llama_cpp.llama_model_n_ctx_train(model))


def _meta(model: Any, key: str) -> str:
    buffer = ctypes.create_string_buffer(256)
    count = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if count >= 0 else ""
