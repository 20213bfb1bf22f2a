"""What the numbers in a KV cache depend on beside the tokens: one string, the same only where cells can change places.

The model by its fingerprint, which takes samples, and by size and time of its files; llama.cpp by its version (the
numerics and the form of an exported state are its own); and of the context: types of K and V, flash attention, RoPE,
windows, where it is computed. LoRA adapters change the weights, so a context that has one is given no key.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import llama_cpp

from membank_llama.gguf.fingerprint import fingerprint
from membank_llama.gguf.split_files import parts_of

from .kv_types import KV_TYPES

GGML_TYPES = {name: int(getattr(llama_cpp, f"GGML_TYPE_{name.upper()}")) for name in KV_TYPES}

_OF_CONTEXT = (
    "type_k", "type_v", "flash_attn_type", "rope_scaling_type", "rope_freq_base", "rope_freq_scale", "yarn_ext_factor",
    "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow", "yarn_orig_ctx", "attention_type", "offload_kqv",
    "swa_full",
)  # fmt: skip
_GROWS_WITH_CONTEXT = "longrope"


def context_key(
    path: Path, params: Any, *, n_ctx: int, n_gpu_layers: int, rope_scaling: str = "", trained: int = 0
) -> str:
    """64 hex digits.

    Args:
        path: the model's GGUF.
        params: the `llama_context_params` that the context was made with.
        n_ctx: tokens of it; they count only where RoPE is scaled by them (`rope_scaling` of the file).
        trained: tokens beyond which a model may have other factors for RoPE, whatever its file says of scaling.
    """
    known: dict[str, Any] = {name: getattr(params, name, None) for name in _OF_CONTEXT}
    known |= {
        "model": fingerprint(path),
        "files": [(status.st_size, status.st_mtime_ns) for status in map(Path.stat, parts_of(path))],
        "llama_cpp": getattr(llama_cpp, "__version__", ""),
        "gpu": n_gpu_layers,
        "is_long": 0 < trained < n_ctx,
        "n_ctx": n_ctx if rope_scaling == _GROWS_WITH_CONTEXT else 0,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()
