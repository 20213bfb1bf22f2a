"""Modules that stood at the root in 0.1.0: programs that import from them go on working, and are told where things are.

A module of that name is made of what the present one holds, when it is first imported.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = __package__ or "membank_llama"

MOVED = {
    "adapters.mock": "adapters.hashing",
    "bank": "memory.bank",
    "capture": "adapters.llama_cpp.capture",
    "errors": "core.errors",
    "items": "memory.ingest_results",
    "llama": "memory.llama_with_memory",
    "passages": "memory.text_splitting",
    "pointer": "store.pointers",
    "prompt": "memory.prompt_block",
    "query": "recall.query",
    "reminder": "memory.prompt_injection",
    "session": "memory.chat_memory",
    "signals": "recall.signals",
    "types": "core.types",
    "upkeep": "store.maintenance.compact",
}


class _Moved(MetaPathFinder, Loader):
    """Finds what is in `MOVED`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == PACKAGE and name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.partition(".")[2]
        now = f"{PACKAGE}.{MOVED[name]}"
        warnings.warn(f"{module.__name__} is {now} now", DeprecationWarning, stacklevel=2)
        vars(module).update({key: value for key, value in vars(import_module(now)).items() if key[:2] != "__"})


def install() -> None:
    """Have the import system ask here last of all."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
