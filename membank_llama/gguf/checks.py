"""What a GGUF must not say, beyond being whole: values on which llama.cpp ends the process in place of an error.

Whoever opens a model's file with llama.cpp calls `check_loadable` first. It knows what has been seen to end it; for a
file from the network that is not enough, see trial_load.py.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from membank_llama.core.errors import ModelFileError

from .header import ArrayLength, GGUFHeader, file_state, read_header, read_strings

MOST_LAYERS = 512
MOST_EXPERTS = 512
MOST_POOLING = 4
_TOKENS = "tokenizer.ggml.tokens"
_EPSILONS = ("layer_norm_rms_epsilon", "layer_norm_epsilon", "group_norm_epsilon")
_NO_TOKENIZER = ("none", "no_vocab")


def check_loadable(path: str | Path) -> None:
    """Refuse a file that is damaged, or on which llama.cpp would end the process.

    Raises:
        ModelFileError: with what is wrong.
    """
    _check(*file_state(Path(path)))


def unreadable_template(path: str | Path, error: Exception) -> ModelFileError:
    """What to say of a file whose chat template cannot be read."""
    why = " ".join(str(error).split())
    return ModelFileError(f"the chat template of {path} cannot be read: {why}; choose another file of this model")


@lru_cache(maxsize=64)
def _check(path: Path, _mtime: int, _size: int) -> None:
    header = read_header(path)
    wrong = _wrong_number(header) or _wrong_tokens(header)
    if wrong:
        raise ModelFileError(f"{path} cannot be loaded: {wrong}; choose another file of this model")


def _wrong_number(header: GGUFHeader) -> str:
    arch, meta = header.architecture, header.metadata

    def number(name: str) -> int | None:
        value = meta.get(f"{arch}.{name}")
        return value if isinstance(value, int) and not isinstance(value, ArrayLength) else None

    layers, experts, used = number("block_count"), number("expert_count"), number("expert_used_count")
    if layers is not None and not 1 <= layers <= MOST_LAYERS:
        return f"it says that it has {layers:,} layers"
    nextn = number("nextn_predict_layers")
    if nextn is not None and not 0 <= nextn <= (layers or 0):
        return f"it says that {nextn:,} of its {layers or 0:,} layers predict the next token"
    if experts is not None and not 0 <= experts <= MOST_EXPERTS:
        return f"it says that it has {experts:,} experts"
    if used is not None and not (1 if experts else 0) <= used <= (experts or 0):
        return f"it says that it uses {used:,} of {experts or 0:,} experts"
    if experts and f"{arch}.expert_used_count" not in meta:
        return f"it says that it has {experts:,} experts, and not how many it uses"
    pooling = number("pooling_type")
    if pooling is not None and not -1 <= pooling <= MOST_POOLING:
        return f"it names the pooling {pooling:,}, which there is not"
    for key, value in meta.items():
        if key.endswith(_EPSILONS) and not _is_small(value):
            return f"{key} is {value!r}"
    return ""


def _is_small(value: Any) -> bool:
    if isinstance(value, ArrayLength):
        return True
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1


def _wrong_tokens(header: GGUFHeader) -> str:
    kind = header.metadata.get("tokenizer.ggml.model")
    if kind in _NO_TOKENIZER:
        return "it has no tokenizer"
    if _TOKENS not in header.metadata:
        return ""
    # as llama.cpp reads them: up to a NUL, and empty ones by their number
    tokens = [
        token.partition(b"\0")[0] or b"[EMPTY_%d]" % number
        for number, token in enumerate(read_strings(header.path, _TOKENS))
    ]
    known = set(tokens)
    if len(known) != len(tokens):
        return f"{len(tokens) - len(known):,} of its tokens are there twice"
    # llama.cpp looks a byte up when a text holds a character that is no token, and takes it to be there
    if kind == "llama" and not all(b"<0x%02X>" % byte in known or bytes([byte]) in known for byte in range(256)):
        return "its tokenizer lacks tokens for single bytes"
    return ""
