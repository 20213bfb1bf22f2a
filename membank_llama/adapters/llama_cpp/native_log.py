"""What llama.cpp prints, as lines of the log: at debug level all of it, for its warnings are of no use in a chat."""

from __future__ import annotations

import ctypes
import logging
from typing import Any

import llama_cpp

from membank_llama.core.logs import one_line

from .private_api import own_log_callback

_log = logging.getLogger("membank_llama.llama_cpp")
_LEVELS = {1: "info", 2: "warning", 3: "error", 4: "debug"}
_MOST = 4096
_begun: list[bytes] = []


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _on_line(level: int, text: bytes, _: Any) -> None:
    """A line, or a part of one: those that go on are put together."""
    if not _log.isEnabledFor(logging.DEBUG):
        return
    if len(_begun) < _MOST:
        _begun.append(text or b"")
    if not text.endswith(b"\n"):
        return
    line = b"".join(_begun).decode("utf-8", "replace").strip()
    _begun.clear()
    if line.strip("."):
        _log.debug("%s: %s", _LEVELS.get(level, "llama.cpp"), one_line(line))


def log_native_lines(wanted: bool) -> None:
    """Have llama.cpp tell our log what it does; or llama-cpp-python's callback again, which prints."""
    llama_cpp.llama_log_set(_on_line if wanted else own_log_callback(), ctypes.c_void_p(0))
