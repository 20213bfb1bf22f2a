"""Makers of vectors: one module for each host library, all of them a `ModelAdapter`."""

from __future__ import annotations

from .base import ModelAdapter
from .huggingface import HuggingFaceAdapter
from .llama_cpp import LlamaCppAdapter
from .mock import MockAdapter

__all__ = ["HuggingFaceAdapter", "LlamaCppAdapter", "MockAdapter", "ModelAdapter"]
