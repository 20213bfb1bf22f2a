"""Long-term memory for llama.cpp and Ollama models: captured hidden states, stored and recalled on this machine.

Names are imported when they are first used, so that `membank --help` does not wait for llama.cpp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._moved import install as _install
from ._version import __version__

if TYPE_CHECKING:
    from .adapters.base import ModelAdapter
    from .adapters.hashing import MockAdapter
    from .adapters.llama_cpp.adapter import LlamaCppAdapter
    from .core.errors import MembankError
    from .core.provenance import Provenance as Provenance
    from .core.types import Memory, NewMemory
    from .memory.bank import MemBank
    from .memory.chat_memory import ChatMemory
    from .memory.ingest_results import IngestResult, Integration
    from .memory.llama_with_memory import Llama, remember
    from .memory.prompt_injection import LastRecall, MemoryOptions
    from .memory.sharing.shared_bank import open_shared
    from .memory.text_splitting import split_passages
    from .recall.query import RecallResult
    from .store.pointers import PointerRecord

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
    "Provenance",
    "RecallResult",
    "__version__",
    "open_shared",
    "remember",
    "split_passages",
]

_HOMES = {
    "ChatMemory": ".memory.chat_memory",
    "IngestResult": ".memory.ingest_results",
    "Integration": ".memory.ingest_results",
    "LastRecall": ".memory.prompt_injection",
    "Llama": ".memory.llama_with_memory",
    "LlamaCppAdapter": ".adapters.llama_cpp.adapter",
    "MemBank": ".memory.bank",
    "MembankError": ".core.errors",
    "Memory": ".core.types",
    "MemoryOptions": ".memory.prompt_injection",
    "MockAdapter": ".adapters.hashing",
    "ModelAdapter": ".adapters.base",
    "NewMemory": ".core.types",
    "PointerRecord": ".store.pointers",
    "Provenance": ".core.provenance",
    "RecallResult": ".recall.query",
    "open_shared": ".memory.sharing.shared_bank",
    "remember": ".memory.llama_with_memory",
    "split_passages": ".memory.text_splitting",
}


_install()


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home, __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
