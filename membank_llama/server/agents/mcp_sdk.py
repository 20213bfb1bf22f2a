"""The official MCP SDK, loaded when the first agent asks: whoever serves none waits for none of it."""

from __future__ import annotations

import importlib
import logging
from functools import cache
from types import ModuleType
from typing import Any

from membank_llama.core.errors import MissingExtraError

logger = logging.getLogger("membank_llama")

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
        found = importlib.import_module(module)
    except ImportError as exc:
        raise MissingExtraError(HOW_TO_GET_IT) from exc
    own = logging.getLogger("mcp")
    if not own.handlers:
        own.propagate = False
        own.addHandler(_IntoOurs())
    return found


class _IntoOurs(logging.Handler):
    """Writes what the SDK logs into our log, in its form; what an agent got wrong is told to the agent."""

    def emit(self, record: logging.LogRecord) -> None:
        level = logging.WARNING if record.levelno >= logging.ERROR else logging.DEBUG
        logger.log(level, "mcp: %s", record.getMessage(), exc_info=record.exc_info)
