"""`open_unfollowed`: files in a directory that may come from a stranger, opened without following links."""

from __future__ import annotations

import os
from pathlib import Path

# a pipe would keep whoever opens it waiting
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))


def open_unfollowed(path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Like `os.open`, but for a link in the file's place.

    Raises:
        OSError: as `os.open`; a link is there.
    """
    return os.open(path, flags | _FLAGS, mode)
