"""Rows of the registry: their columns, their checksums, and what makes a row a `Memory` again.

Checksums tell damage, not forgery: whoever can write the database can write them too. A changed byte in any field of a
memory is seen when it is read, and by `verify`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from membank_llama.core.errors import BankCorruptError
from membank_llama.core.provenance import KEY, provenance_of
from membank_llama.core.text_features import acts_of, speaker_of
from membank_llama.core.types import Memory, NewMemory

MOST_CHECKED, MOST_CHARACTERS = 8192, 1000
"""Rows that are known to be whole, and the longest text of one: the same ones are found over and over."""

CHECKED = (
    "id, text, text_hash, role, namespace, conversation, created_at, source, metadata, pinned, expires_at, seen, "
    "last_seen, speaker, asks"
)
"""Columns of a memory that its checksum is taken over, in order. Its slot moves with the activation file, and is
checked against the pointers."""

COLUMNS = f"{CHECKED}, checksum, slot"
COLUMN_NAMES = tuple(CHECKED.split(", "))
_TEXT_OR_NONE, _NUMBER_OR_NONE = (str, type(None)), (float, type(None))
_KINDS: tuple[Any, ...] = (
    int, str, bytes, str, str, _TEXT_OR_NONE, float, _TEXT_OR_NONE, str, int, _NUMBER_OR_NONE, int, float,
    _TEXT_OR_NONE, int,
)  # fmt: skip


def row_checksum(*fields: Any) -> bytes:
    """16 bytes that differ where a field does, in value or in type."""
    # escapes make the same of a text in every version of Unicode; floats are written so that they read back exactly
    return hashlib.sha256(ascii(fields).encode()).digest()[:16]


def is_whole(row: Sequence[Any]) -> bool:
    """Whether a row, whose last column is the checksum of those before it, is as it was written."""
    return bool(row[-1] == row_checksum(*row[:-1]))


def text_hash(text: str) -> bytes:
    """SHA-256 of the text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).digest()


def damaged(memory_id: Any) -> BankCorruptError:
    """What to say of a memory that is not what was stored."""
    return BankCorruptError(
        f"memory {memory_id} is damaged: it does not match its checksum. membank verify names all that are; restore "
        f"the bank from a copy, or give this memory up with: membank forget {memory_id}"
    )


def memories_of(rows: Iterable[Sequence[Any]]) -> list[Memory]:
    """Memories of rows of `COLUMNS`.

    Raises:
        BankCorruptError: one of them is not what was stored.
    """
    return [_memory_of(row) for row in rows]


def _check(row: Sequence[Any]) -> None:
    """Raises BankCorruptError where a row, with its checksum, is not what was stored."""
    *fields, _ = row
    memory_id, text, digest, metadata, expires = fields[0], fields[1], fields[2], fields[8], fields[10]
    try:
        if not is_whole(row) or not all(map(isinstance, fields, _KINDS)) or digest != text_hash(text):
            raise damaged(memory_id)
        known = {} if metadata == "{}" else json.loads(metadata)
    except (ValueError, RecursionError) as exc:
        raise damaged(memory_id) from exc
    if not (isinstance(known, dict) and all(map(math.isfinite, (fields[6], fields[12], expires or 0)))):
        raise damaged(memory_id)


@lru_cache(maxsize=MOST_CHECKED)
def _check_once(row: tuple[Any, ...], kinds: tuple[type, ...]) -> None:
    """`_check`, and not again where the same row was whole before; equal values of other kinds are not the same."""
    _check(row)


def _memory_of(row: Sequence[Any]) -> Memory:
    *fields, _, slot = row
    memory_id, text, digest, role, namespace, conversation, created, source, metadata, pinned, expires = fields[:11]
    told = fields[12]
    if isinstance(text, str) and len(text) <= MOST_CHARACTERS:
        _check_once(tuple(row[:-1]), tuple(map(type, row)))
    else:
        _check(row[:-1])
    # nobody else's: whoever is given it may change it
    known = {} if metadata == "{}" else json.loads(metadata)
    return Memory(
        id=memory_id,
        text=text,
        text_hash=digest.hex(),
        role=role,
        namespace=namespace,
        conversation=conversation,
        created_at=told,
        source=source,
        metadata=known,
        pinned=bool(pinned),
        expires_at=expires,
        slot=slot,
        first_told_at=created,
    )


def _created(item: NewMemory, now: float) -> float:
    # no negative zero: SQLite gives back a plain one
    return float(now if item.created_at is None else item.created_at) + 0.0


def text_hashes(texts: Iterable[str]) -> list[bytes]:
    """`text_hash` of each."""
    return [text_hash(text) for text in texts]


def rows_of(new: Iterable[tuple[int, NewMemory, bytes, int]], now: float) -> list[tuple[Any, ...]]:
    """Rows of `COLUMNS` for memories given as (id, memory, text hash, slot)."""
    return [_row_of(*one, now) for one in new]


def _row_of(memory_id: int, item: NewMemory, digest: bytes, slot: int, now: float) -> tuple[Any, ...]:
    metadata = json.dumps(dict(item.metadata), ensure_ascii=False) if item.metadata else "{}"
    created = _created(item, now)
    expires = None if item.expires_at is None else float(item.expires_at) + 0.0
    fields = (
        memory_id, item.text, digest, item.role, item.namespace, item.conversation, created, item.source, metadata,
        int(item.pinned), expires, 1, created,
        speaker_of(item.text, item.role, item.metadata), acts_of(item.text, item.role),
    )  # fmt: skip
    return (*fields, row_checksum(*fields), slot)


def told_again(row: Mapping[str, Any], item: NewMemory, now: float) -> dict[str, Any]:
    """What changes of a memory whose text comes once more: it is of the newest telling from then on, but a model that
    repeats what a person said adds nothing to it."""
    expires, told = row["expires_at"], _created(item, now)
    changed: dict[str, Any] = {
        "seen": row["seen"] + 1,
        "pinned": max(row["pinned"], int(item.pinned)),
        "expires_at": None if expires is None or item.expires_at is None else max(expires, float(item.expires_at)),
    }
    known = json.loads(row["metadata"])
    before = provenance_of(row["role"], row["source"], known)
    outranks = provenance_of(item.role, item.source, item.metadata) - before
    if outranks > 0 or (outranks == 0 and told >= row["last_seen"]):
        changed |= {
            "last_seen": max(row["last_seen"], told), "role": item.role,
            "speaker": speaker_of(item.text, item.role, item.metadata), "asks": acts_of(item.text, item.role),
        }  # fmt: skip
    if outranks > 0 and KEY in known:
        changed["metadata"] = json.dumps({key: known[key] for key in known if key != KEY}, ensure_ascii=False)
    return changed
