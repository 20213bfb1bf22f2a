"""Makers of vectors: one module for each host library, all of them a `ModelAdapter`.

An adapter is imported when it is first named, so that nobody loads the host library of another.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import ModelAdapter

if TYPE_CHECKING:
    from .hashing import MockAdapter
    from .huggingface import HuggingFaceAdapter
    from .llama_cpp.adapter import LlamaCppAdapter

__all__ = ["HuggingFaceAdapter", "LlamaCppAdapter", "MockAdapter", "ModelAdapter"]

_HOMES = {
    "HuggingFaceAdapter": ".huggingface",
    "LlamaCppAdapter": ".llama_cpp.adapter",
    "MockAdapter": ".hashing",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home, __name__), name)
    return value
