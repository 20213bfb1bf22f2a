"""Files read as memories: texts cut into passages, JSON Lines a memory a line.

What is not UTF-8 text is refused with the place of the first bad byte.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from membank_llama.core.days import parse_instant
from membank_llama.core.errors import EmptyTextError, InvalidInputError, InvalidTextError
from membank_llama.core.types import DEFAULT_NAMESPACE, NewMemory

from .text_splitting import MAX_CHARS, UNSTORABLE, split_passages

_TIMES = ("created_at", "expires_at")
_LINE_KEYS = {"text", "role", "conversation", "namespace", "metadata", "source", "pinned", *_TIMES}
_EXPORTED_KEYS = {"id", "text_hash", "provenance", "first_told_at"}
"""What an export says beside them; a bank gives its own."""


def read_items(
    path: Path | str,
    *,
    max_chars: int = MAX_CHARS,
    jsonl: bool | None = None,
    role: str = "user",
    namespace: str = DEFAULT_NAMESPACE,
    conversation: str | None = None,
) -> Iterator[NewMemory]:
    """The memories in a file, in a directory, or in standard input ("-").

    JSON Lines (a `.jsonl` file, or whatever `jsonl` says) hold one object a line with the keys text
    (required), role, created_at (seconds since the epoch, or ISO 8601, taken as UTC where it names no zone),
    conversation, namespace, metadata and source; what a line leaves out comes from the arguments. They are
    read as they are asked for, so the lines before a bad one have been handed out.

    Any other file is text and is cut into passages, each with the file's name as `source` and its number,
    from 0, as `metadata["part"]`. A directory is read with all below it, sorted by path, without hidden and
    binary files; names are then relative to it.

    Raises:
        InvalidTextError: not UTF-8, or not text at all; with the path and the byte.
        InvalidInputError: a file that is missing or cannot be read, or a line that is no memory (which one).
    """
    defaults = NewMemory("", role=role, namespace=namespace, conversation=conversation, source="stdin")
    if str(path) == "-":
        stream = sys.stdin.buffer
        if jsonl:
            yield from _memories_of_lines(stream, "stdin", defaults)
        else:
            yield from _memories_of_text(stream.read(), "stdin", defaults, max_chars)
        return
    root = Path(path)
    if not root.is_dir():
        yield from _memories_of_file(root, replace(defaults, source=root.name), max_chars, jsonl, False)
        return
    for file in _files_below(root):
        source = replace(defaults, source=file.relative_to(root).as_posix())
        yield from _memories_of_file(file, source, max_chars, jsonl, True)


def _memories_of_file(
    path: Path, defaults: NewMemory, max_chars: int, jsonl: bool | None, skip_binary: bool
) -> Iterator[NewMemory]:
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".jsonl" if jsonl is None else jsonl:
                yield from _memories_of_lines(file, str(path), defaults)
                return
            data = file.read()
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be read: {error.strerror or error}; check the path, its owner and mode"
        ) from error
    if not (skip_binary and _is_binary(data)):
        yield from _memories_of_text(data, str(path), defaults, max_chars)


def _memories_of_text(data: bytes, where: str, defaults: NewMemory, max_chars: int) -> Iterator[NewMemory]:
    if _is_binary(data):
        raise InvalidTextError(
            f"{where} is not a text file (byte 0x00 at offset {data.find(0)}); convert it to UTF-8 text first"
            if 0 in data
            else f"{where} is a PDF and not a text file; convert it to UTF-8 text first"
        )
    text = _decoded(data, where).removeprefix("\ufeff")
    for part, passage in enumerate(split_passages(text, max_chars)):
        yield replace(defaults, text=passage, metadata={"part": part})


def _memories_of_lines(lines: Iterable[bytes], where: str, defaults: NewMemory) -> Iterator[NewMemory]:
    offset = 0
    for number, line in enumerate(lines, start=1):
        place = f"{where}, line {number}"
        text = _decoded(line, place, offset).removeprefix("\ufeff")
        offset += len(line)
        if text.strip():
            yield memory_of_line(text, place, defaults)


def _decoded(data: bytes, where: str, offset: int = 0) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidTextError(
            f"{where} is not UTF-8: byte 0x{data[error.start]:02x} at offset {offset + error.start}; "
            "convert it to UTF-8 first"
        ) from error


def _is_binary(data: bytes) -> bool:
    return b"\0" in data or data.startswith(b"%PDF-")


def memory_of_line(line: str, where: str, defaults: NewMemory, *, foreign: bool = False) -> NewMemory:
    """A memory written as one JSON object.

    Args:
        where: the place, for messages.
        defaults: what holds where the object says nothing.
        foreign: pass over keys that no memory has.

    Raises:
        InvalidInputError, EmptyTextError, InvalidTextError: with the place.
    """
    try:
        item = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{where}: not JSON ({error}); write one object a line") from error
    if not isinstance(item, dict):
        raise InvalidInputError(f"{where}: expected an object, got {type(item).__name__}")
    unknown = sorted(set(item) - _LINE_KEYS - _EXPORTED_KEYS)
    if unknown and not foreign:
        raise InvalidInputError(
            f"{where}: unknown key {', '.join(map(repr, unknown))}; known are {', '.join(sorted(_LINE_KEYS))}"
        )
    given = {key: value for key, value in item.items() if value is not None and key in _LINE_KEYS}
    if "text" not in given:
        raise InvalidInputError(f'{where}: the key "text" is missing')
    for key in sorted(given.keys() - {"metadata", "pinned", *_TIMES}):
        _check_string(given[key], key, where)
    if not given["text"].strip():
        raise EmptyTextError(f"{where}: the text is empty; leave the line out")
    for key, kind, name in (("metadata", dict, "an object"), ("pinned", bool, "true or false")):
        if not isinstance(given.get(key, kind()), kind):
            raise InvalidInputError(f'{where}: "{key}" must be {name}, got {given[key]!r:.40}')
    times = {key: _time(given[key], key, where) for key in _TIMES if key in given}
    return replace(defaults, **{**given, **times})


def _check_string(value: Any, key: str, where: str) -> None:
    if not isinstance(value, str):
        raise InvalidInputError(f'{where}: "{key}" must be a string, got {type(value).__name__}')
    if bad := UNSTORABLE.search(value):
        raise InvalidTextError(f'{where}: "{key}" holds {bad[0]!r}, which cannot be stored; take it out')


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _time(value: Any, key: str, where: str) -> float:
    """Seconds since 1970, of a number or an ISO 8601 string (days.py)."""
    try:
        if isinstance(value, str):
            return parse_instant(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError, OSError):
        pass
    raise InvalidInputError(
        f'{where}: "{key}" must be seconds since 1970 or like 2025-01-31T12:00:00Z, got {value!r:.40}'
    )


def _files_below(root: Path) -> Iterator[Path]:
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    # what is no regular file (a socket, a dangling link) holds nothing to read
    yield from (file for file in sorted(found) if file.is_file())
