"""This machine's key, with which the pieces that it writes are signed.

Cells of a KV cache are read back by native code. A bank that was downloaded, or came by mail, may bring such files
along; without the key's signature they are never looked at. The key is worth nothing elsewhere, and where it is lost
what was signed with it is evaluated once more.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from membank_llama.core.errors import BankStorageError
from membank_llama.core.paths import default_cache

NAME = "kv.key"
_BYTES = 32


def machine_key(directory: Path | None = None) -> bytes:
    """32 bytes, made at the first call; mode 0600, in the cache directory.

    Raises:
        BankStorageError: it can be neither read nor made.
    """
    path = (directory or default_cache()) / NAME
    try:
        with suppress(FileNotFoundError):
            return _read(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{NAME}-{os.getpid()}-{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
        try:
            # whoever was first has it
            with suppress(FileExistsError):
                _place(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        return _read(path)
    except OSError as exc:
        raise BankStorageError(f"cannot use {path}: {exc.strerror or exc}; check the cache directory") from exc


def _place(draft: Path, path: Path) -> None:
    """Give a whole file its name, unless there is one of that name."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:
        # a file system without hard links
        if not path.exists():
            draft.replace(path)


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    if len(data) != _BYTES:
        raise OSError(f"it holds {len(data)} bytes and not {_BYTES}; delete it")
    return data
