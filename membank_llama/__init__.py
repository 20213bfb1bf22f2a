"""Long-term memory for llama.cpp and Ollama models: captured hidden states, stored and recalled on this machine.

Names are imported when they are first used, so that `membank --help` does not wait for llama.cpp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .adapters.base import ModelAdapter
    from .adapters.llama_cpp import LlamaCppAdapter
    from .adapters.mock import MockAdapter
    from .bank import MemBank
    from .errors import MembankError
    from .items import IngestResult, Integration
    from .llama import Llama, remember
    from .passages import split_passages
    from .pointer import PointerRecord
    from .query import RecallResult
    from .reminder import LastRecall, MemoryOptions
    from .session import ChatMemory
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

_HOMES = {
    "ChatMemory": ".session",
    "IngestResult": ".items",
    "Integration": ".items",
    "LastRecall": ".session",
    "Llama": ".llama",
    "LlamaCppAdapter": ".adapters.llama_cpp",
    "MemBank": ".bank",
    "MembankError": ".errors",
    "Memory": ".types",
    "MemoryOptions": ".session",
    "MockAdapter": ".adapters.mock",
    "ModelAdapter": ".adapters.base",
    "NewMemory": ".types",
    "PointerRecord": ".pointer",
    "RecallResult": ".recall",
    "remember": ".llama",
    "split_passages": ".passages",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home, __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
