"""Long-term memory for llama.cpp and Ollama models: captured hidden states, stored and recalled on this machine."""

from __future__ import annotations

from ._version import __version__
from .adapters.base import ModelAdapter
from .adapters.llama_cpp import LlamaCppAdapter
from .adapters.mock import MockAdapter
from .bank import IngestResult, Integration, MemBank
from .errors import MembankError
from .passages import split_passages
from .pointer import PointerRecord
from .recall import RecallResult
from .types import Memory, NewMemory

__all__ = [
    "IngestResult",
    "Integration",
    "LlamaCppAdapter",
    "MemBank",
    "MembankError",
    "Memory",
    "MockAdapter",
    "ModelAdapter",
    "NewMemory",
    "PointerRecord",
    "RecallResult",
    "__version__",
    "split_passages",
]
