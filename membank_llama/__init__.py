"""Long-term memory for llama.cpp and Ollama models: captured hidden states, stored and recalled on this machine."""

from __future__ import annotations

from ._version import __version__
from .adapters.base import ModelAdapter
from .adapters.llama_cpp import LlamaCppAdapter
from .adapters.mock import MockAdapter
from .bank import MemBank
from .errors import MembankError
from .items import IngestResult, Integration
from .llama import Llama, remember
from .passages import split_passages
from .pointer import PointerRecord
from .recall import RecallResult
from .session import ChatMemory, LastRecall, MemoryOptions
from .types import Memory, NewMemory

__all__ = [
    "ChatMemory",
    "IngestResult",
    "Integration",
    "LastRecall",
    "Llama",
    "LlamaCppAdapter",
    "MemBank",
    "MembankError",
    "Memory",
    "MemoryOptions",
    "MockAdapter",
    "ModelAdapter",
    "NewMemory",
    "PointerRecord",
    "RecallResult",
    "__version__",
    "remember",
    "split_passages",
]
