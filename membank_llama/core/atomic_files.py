"""Files that are there whole or not at all: written beside their place, then put into it.

Where anything fails, what stood there before stays, and nothing of the new file is left. The new file is mode 0600.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[Any]:
    """A new file to write to, which takes the place of `path` when the block ends well; text is UTF-8.

    Raises:
        OSError: the system refused.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    try:
        with os.fdopen(handle, mode, encoding=encoding, newline=newline) as file:
            yield file
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a whole file; raises as `replacing`."""
    with replacing(path) as file:
        file.write(data)
