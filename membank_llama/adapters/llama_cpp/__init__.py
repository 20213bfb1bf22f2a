"""llama.cpp as an encoder: hidden states of a layer, tokens, and the choice of the layer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import LlamaCppAdapter

__all__ = ["LlamaCppAdapter"]


def __getattr__(name: str) -> Any:
    # when it is first named: who wants the tokenizer alone need not load all of it
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".adapter", __name__), name)
