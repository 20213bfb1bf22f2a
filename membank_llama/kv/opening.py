"""What restores and keeps KV state for a context, where the model's can be relied on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp

from membank_llama.adapters.llama_cpp.loaded_model import is_recurrent, meta_of
from membank_llama.core.errors import BankStorageError, ModelFileError

from .cells import ContextCells
from .context_key import context_key
from .kv_cache import KVCache, KVParts
from .piece_store import PieceStore
from .prefix_cache import PrefixCache
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
        spell: the bytes of tokens, control tokens and all.
    """

    ctx: Any
    model: Any
    params: Any
    path: Path
    spare: int
    n_gpu_layers: int
    spell: Callable[[Sequence[int]], bytes]


def open_prefix_cache(store: PieceStore | None, context: OpenContext) -> PrefixCache | None:
    """None where there is no store, or nothing of this model's KV state holds; the context must hold nothing yet."""
    if is_recurrent(context.model):
        return None
    parts = _parts(store, context, whole=False)
    window = int(llama_cpp.llama_model_n_swa(context.model))
    return None if parts is None else PrefixCache(parts, window)


def open_kv_cache(store: PieceStore | None, context: OpenContext) -> KVCache | None:
    """The same; of a recurrent or hybrid model, whose state can't be cut, what keeps it whole."""
    if not is_recurrent(context.model):
        return open_prefix_cache(store, context)
    parts = _parts(store, context, whole=True)
    return None if parts is None else WholeStateCache(parts)


def _parts(store: PieceStore | None, context: OpenContext, *, whole: bool) -> KVParts | None:
    if store is None or not store.budget:
        return None
    key, n_vocab = _key(context), _n_vocab(context.model)
    cells = ContextCells(context.ctx, context.spare, n_vocab)
    if not key or not tested(key, cells, n_vocab, whole=whole).holds:
        return None
    return KVParts(store, key, context.path.stem, cells, context.spell)


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
            rope_scaling=_scaling(context.model, "type"),
            trained=_trained(context.model),
        )
    except (ModelFileError, BankStorageError, OSError) as exc:
        logger.warning("KV state is not kept: %s", exc)
        return ""


def _trained(model: Any) -> int:
    """Tokens up to which the factors of RoPE are the short ones, in a file that brings two sets of them."""
    original = _scaling(model, "original_context_length")
    if original.isascii() and original.isdigit():
        return int(original)
    return int(llama_cpp.llama_model_n_ctx_train(model))


def _scaling(model: Any, name: str) -> str:
    """What the file says of how RoPE is scaled; empty where it says nothing."""
    return meta_of(model, f"{meta_of(model, 'general.architecture')}.rope.scaling.{name}") or ""
