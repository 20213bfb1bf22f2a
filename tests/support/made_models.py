"""`models/make_tiny.py` as a module: GGUF files with random weights, made where they are needed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def make_tiny() -> ModuleType:
    pytest.importorskip("gguf")
    spec = importlib.util.spec_from_file_location("make_tiny", ROOT / "models" / "make_tiny.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mamba(path: Path) -> Path:
    """A random Mamba of four blocks: the state of a text is carried on, there is no attention."""
    gguf, tiny = pytest.importorskip("gguf"), make_tiny()
    tokens, scores, types = tiny.vocabulary()
    writer, rng = gguf.GGUFWriter(str(path), "mamba"), np.random.default_rng(0)
    dim, inner, state, rank, conv = 64, 128, 16, 4, 4
    writer.add_block_count(4)
    writer.add_context_length(512)
    writer.add_embedding_length(dim)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(conv)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    shapes = {
        "attn_norm.weight": (dim,), "ssm_in.weight": (2 * inner, dim), "ssm_conv1d.weight": (inner, conv),
        "ssm_conv1d.bias": (inner,), "ssm_x.weight": (rank + 2 * state, inner), "ssm_dt.weight": (inner, rank),
        "ssm_dt.bias": (inner,), "ssm_a": (inner, state), "ssm_d": (inner,), "ssm_out.weight": (dim, inner),
    }  # fmt: skip
    writer.add_tensor("token_embd.weight", rng.standard_normal((len(tokens), dim), dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(dim, np.float32))
    for block in range(4):
        for name, shape in shapes.items():
            values = rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1]))
            writer.add_tensor(f"blk.{block}.{name}", -np.abs(values) if name == "ssm_a" else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
