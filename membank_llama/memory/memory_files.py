"""Files read as memories: texts cut into passages, JSON Lines a memory a line.

UTF-16 and UTF-32 are read where a file begins with their mark. What is no text is refused with the place of the first
bad byte, or passed over in a directory, by name.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from membank_llama.core.days import LAST_SECOND, LAST_TOLD, read_instant
from membank_llama.core.errors import EmptyTextError, InvalidInputError, InvalidTextError
from membank_llama.core.text_encodings import decoded_text, is_binary, marked_encoding, what_it_is
from membank_llama.core.types import DEFAULT_NAMESPACE, NewMemory

from .text_splitting import MAX_CHARS, UNSTORABLE, clean_text, split_passages

PassedOver: TypeAlias = Callable[[str, str], None]
"""Told of a file that is not read: its name in its directory, and why."""

Taken: TypeAlias = Callable[[Path, str], bool]
"""Whether somebody else reads a file, of this name in its directory."""

NOT_READABLE = "not readable"
HEAD = 8192
"""Bytes by which a file is known to be text or not."""
_TIMES = {"created_at": LAST_TOLD, "expires_at": LAST_SECOND}
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
    passed_over: PassedOver | None = None,
    taken: Taken | None = None,
) -> Iterator[NewMemory]:
    """The memories in a file, in a directory, or in standard input ("-").

    JSON Lines (a `.jsonl` file, or whatever `jsonl` says) hold one object a line with the keys text
    (required), role, created_at (since the epoch in seconds, milli-, micro- or nanoseconds, or ISO 8601, this machine's
    time where it names no zone), conversation, namespace, metadata and source; what a line leaves out comes from the
    arguments. They are read as they are asked for, so the lines before a bad one have been handed out.

    Any other file is text and is cut into passages, each with the file's name as `source` and its number,
    from 0, as `metadata["part"]`. A directory is read with all below it, sorted by path, without hidden and
    binary files; names are then relative to it. `passed_over` is told of each of those, and then of what is not UTF-8
    or cannot be read too, which is an error without it. Files that `taken` says yes to are left to whoever asks.

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
            yield from items_of_text(stream.read(), defaults, max_chars=max_chars)
        return
    root = Path(path)
    if root.is_dir():
        yield from _below(root, defaults, max_chars, jsonl, passed_over, taken)
    elif not (taken and taken(root, root.name)):
        yield from _memories_of_file(root, replace(defaults, source=clean_text(root.name)), max_chars, jsonl, False)


def _below(
    root: Path,
    defaults: NewMemory,
    max_chars: int,
    jsonl: bool | None,
    passed_over: PassedOver | None,
    taken: Taken | None,
) -> Iterator[NewMemory]:
    for file in files_below(root, passed_over):
        name = name_below(root, file)
        if taken and taken(file, name):
            continue
        try:
            yield from _memories_of_file(file, replace(defaults, source=name), max_chars, jsonl, True)
        except UnreadableFileError:
            if passed_over is None:
                raise
            passed_over(name, NOT_READABLE)
        except InvalidTextError as error:
            if passed_over is not None and not _holds_lines(file, jsonl):
                passed_over(name, reason_of(error, file))
            elif not isinstance(error, _NotTextError):
                raise


class _NotTextError(InvalidTextError):
    """A file is binary."""


class UnreadableFileError(InvalidInputError):
    """The system does not give a file out."""


def reason_of(error: InvalidInputError, file: Path) -> str:
    """What an error says of a file, without its name, the place in it, and advice: the same of all files of a kind."""
    said = str(error).removeprefix(str(file)).removeprefix(" is ")
    return re.split(r"[;:]| \(", said, maxsplit=1)[0]


def items_of_text(data: bytes, defaults: NewMemory, *, max_chars: int = MAX_CHARS) -> Iterator[NewMemory]:
    """The passages of a text that is at hand; raises as `read_items`. `defaults`: all of them but text and part."""
    yield from _memories_of_text(data, str(defaults.source), defaults, max_chars)


def _holds_lines(path: Path, jsonl: bool | None) -> bool:
    return path.suffix.lower() == ".jsonl" if jsonl is None else jsonl


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """All of a file, or its beginning.

    Raises:
        UnreadableFileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(-1 if most is None else most)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UnreadableFileError:
    return UnreadableFileError(f"{path} cannot be read: {error.strerror or error}; check the path, its owner and mode")


def _memories_of_file(
    path: Path, defaults: NewMemory, max_chars: int, jsonl: bool | None, below: bool
) -> Iterator[NewMemory]:
    # a model of many gigabytes is known by its beginning
    head = read_bytes(path, HEAD)
    if _holds_lines(path, jsonl):
        if marked_encoding(head):
            text = decoded_text(read_bytes(path), str(path))
            yield from _memories_of_lines(text.encode("utf-8", "surrogatepass").split(b"\n"), str(path), defaults)
            return
        with path.open("rb") as lines:
            yield from _memories_of_lines(lines, str(path), defaults)
        return
    if below and is_binary(head):
        raise _NotTextError(f"{path} is {what_it_is(head)}; convert it to UTF-8 text first")
    yield from _memories_of_text(read_bytes(path), str(path), defaults, max_chars)


def _memories_of_text(data: bytes, where: str, defaults: NewMemory, max_chars: int) -> Iterator[NewMemory]:
    if is_binary(data):
        raise _NotTextError(f"{where} is {what_it_is(data)}; convert it to UTF-8 text first")
    for part, passage in enumerate(split_passages(decoded_text(data, where), max_chars)):
        yield replace(defaults, text=passage, metadata={"part": part})


def _memories_of_lines(lines: Iterable[bytes], where: str, defaults: NewMemory) -> Iterator[NewMemory]:
    offset = 0
    for number, line in enumerate(lines, start=1):
        place = f"{where}, line {number}"
        text = decoded_text(line, place, offset)
        offset += len(line)
        if text.strip():
            yield memory_of_line(text, place, defaults)


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
        return read_instant(value, latest=_TIMES[key])
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInputError(
            f'{where}: "{key}" must be seconds since 1970 or like 2025-01-31T12:00:00Z, got {value!r:.40}'
        ) from error


def name_below(root: Path, path: Path) -> str:
    """What to call a file in a directory; a name in no encoding too."""
    return clean_text(path.relative_to(root).as_posix())


def files_below(root: Path, passed_over: PassedOver | None = None) -> Iterator[Path]:
    """The files to read below a directory, sorted by path; told of those that are hidden, none, or out of reach.

    Raises:
        UnreadableFileError: the directory itself cannot be read.
    """
    found = []

    def pass_over(folder: str, name: str, why: str) -> None:
        if passed_over is not None:
            slash = "/" if name.endswith("/") else ""
            passed_over(name_below(root, Path(folder, name)) + slash, why)

    def locked(error: OSError) -> None:
        where = Path(error.filename)
        if where == root:
            raise _unreadable(root, error) from error
        pass_over(str(where.parent), f"{where.name}/", NOT_READABLE)

    for folder, folders, files in os.walk(root, onerror=locked):
        for name in sorted(one for one in folders if one.startswith(".")):
            pass_over(folder, f"{name}/", "hidden")
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(one for one in files if one.startswith(".")):
            pass_over(folder, name, "hidden")
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    for file in sorted(found):
        why = _why_not(file)
        if why is None:
            yield file
        else:
            pass_over(str(file.parent), file.name, why)


def _why_not(file: Path) -> str | None:
    try:
        # what is no regular file (a socket, a dangling link) holds nothing to read
        return None if file.is_file() else "no regular file"
    except OSError:
        # in a directory that may be listed and not entered
        return NOT_READABLE
