"""Checksums of rows: a changed byte in any field of a memory is seen when it is read, and by `verify`.

They tell damage, not forgery: whoever can write the database can write them too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

CHECKED = (
    "id, text, text_hash, role, namespace, conversation, created_at, source, metadata, pinned, expires_at, seen, "
    "last_seen, speaker, asks"
)
"""Columns of a memory that its checksum is taken over, in order. Its slot moves with the activation file, and is
checked against the pointers."""

COUNT = CHECKED.count(",") + 1


def row_checksum(*fields: Any) -> bytes:
    """16 bytes that differ where a field does, in value or in type."""
    # escapes make the same of a text in every version of Unicode; floats are written so that they read back exactly
    return hashlib.sha256(ascii(fields).encode()).digest()[:16]


def is_whole(row: Sequence[Any]) -> bool:
    """Whether a row, whose last column is the checksum of those before it, is as it was written."""
    return bool(row[-1] == row_checksum(*row[:-1]))
