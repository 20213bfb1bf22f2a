"""The official MCP SDK, loaded when the first agent asks: whoever serves none waits for none of it."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any

from membank_llama.core.errors import MissingExtraError

HOW_TO_GET_IT = "MCP needs the package mcp; install it with: pip install 'membank-llama[mcp]'"


def load_sdk(module: str) -> Any:
    """A module of the SDK, or of what comes along with it.

    Raises:
        MissingExtraError: it is not installed.
    """
    return _loaded(module)


@cache
def _loaded(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise MissingExtraError(HOW_TO_GET_IT) from exc
