"""Whether a memory, or a text, can be stored: seen before anything else happens, so that a bad one costs nothing.

Nothing is encoded for it and nothing of it is left behind.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

from .days import FIRST_SECOND, LAST_SECOND, LAST_TOLD
from .errors import EmptyTextError, InvalidInputError, InvalidTextError, TextTooLongError
from .types import NewMemory


def check_memories(items: Iterable[NewMemory], max_bytes: int) -> None:
    """See that these can be stored.

    Raises:
        EmptyTextError, TextTooLongError, InvalidTextError, InvalidInputError: with what to do.
    """
    for item in items:
        _check_memory(item, max_bytes)


def _check_memory(item: NewMemory, max_bytes: int) -> None:
    check_text(item.text, max_bytes)
    if item.namespace == "":
        raise InvalidInputError("namespace is empty; leave it out for the default one")
    for name in ("namespace", "role", "conversation", "source"):
        value = getattr(item, name)
        if value is None and name in ("conversation", "source"):
            continue
        if not isinstance(value, str):
            raise InvalidInputError(f"{name} must be str, not {type(value).__name__}; convert it first")
        _utf8_size(value, name)
    _check_time("created_at", item.created_at, LAST_TOLD, "2999")
    _check_time("expires_at", item.expires_at, LAST_SECOND, "9999")
    _check_metadata(item)


def _check_time(name: str, value: object, latest: float, year: str) -> None:
    if value is None:
        return
    if not (isinstance(value, (int, float)) and _is_finite(value)):
        raise InvalidInputError(f"{name} is {value!r}; give seconds since 1970 as a finite number")
    if not FIRST_SECOND <= value <= latest:
        raise InvalidInputError(
            f"{name} is {value!r}, which is in no year from 1 to {year}; give seconds since 1970, not milli- or "
            "nanoseconds"
        )


def check_text(text: str, max_bytes: int) -> None:
    """Raise what `check_memories` raises for the text alone."""
    if not isinstance(text, str):
        raise InvalidTextError(f"a text must be str, not {type(text).__name__}; decode bytes first")
    if not text.strip():
        raise EmptyTextError("there is nothing in this text to remember or to look for; give it words")
    if "\0" in text:
        raise InvalidTextError(f"the text holds a NUL byte at position {text.index(chr(0))}; remove it")
    size = _utf8_size(text, "the text")
    if size > max_bytes:
        raise TextTooLongError(
            f"the text is {size:,} bytes long, one memory holds {max_bytes:,}. Split it "
            "(membank_llama.split_passages, or membank ingest FILE does it), or raise max_text_bytes"
        )


def _utf8_size(text: str, what: str) -> int:
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError as exc:
        raise InvalidTextError(
            f"{what} holds half of a surrogate pair at position {exc.start}; it was cut or decoded wrongly. "
            "Repair it with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from exc


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # a whole number of hundreds of digits
        return False


def _check_metadata(item: NewMemory) -> None:
    if item.metadata:
        try:
            json.dumps(dict(item.metadata), ensure_ascii=False).encode("utf-8")
        except (TypeError, ValueError) as exc:
            raise InvalidInputError(f"metadata cannot be written as JSON: {exc}; use plain values in it") from exc
