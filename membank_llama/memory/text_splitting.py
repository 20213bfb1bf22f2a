"""From files to memories: long texts cut into passages, JSON Lines read a memory a line.

A text is cut where it hurts least: between paragraphs, then sentences, then words, and within a word only
where a single one is too long. Passages in order hold every character of the text but white space. What is
not UTF-8 text is refused with the place of the first bad byte.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from membank_llama.core.days import parse_instant
from membank_llama.core.errors import EmptyTextError, InvalidInputError, InvalidTextError
from membank_llama.core.types import DEFAULT_NAMESPACE, NewMemory, Spans

MAX_CHARS = 1200
LONG = 1600
"""Characters above which a memory is encoded in passages; up to there one vector holds it."""

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
# the look behind keeps a long row of dots from being tried again from each of them
_SENTENCE = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’»)\]]*\s+|[。！？]+[」』”’）]*\s*")
_SPACE = re.compile(r"\s+")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_JOINER = "\u200d"

_TIMES = ("created_at", "expires_at")
_LINE_KEYS = {"text", "role", "conversation", "namespace", "metadata", "source", "pinned", *_TIMES}
_EXPORTED_KEYS = {"id", "text_hash"}
"""What an export says beside them; a bank gives its own."""


def clean_text(text: str) -> str:
    """The text with U+FFFD in place of NUL and lone surrogates, which cannot be stored."""
    return _UNSTORABLE.sub("\ufffd", text)


def split_passages(text: str, max_chars: int = MAX_CHARS) -> list[str]:
    """Cut a text into passages of at most `max_chars` characters, none of them empty or blank.

    Neighbouring paragraphs (or sentences, or words) stay together as long as they fit.

    Raises:
        InvalidInputError: max_chars below 1.
    """
    if max_chars < 1:
        raise InvalidInputError(f"max_chars must be at least 1, got {max_chars}")
    spans = _pack(text, 0, len(text), max_chars, (_PARAGRAPH, _SENTENCE, _SPACE))
    return [text[start:end] for start, end in spans]


def clean_passages(text: str) -> list[str]:
    """The passages of a text that was said, each of which can be stored."""
    return split_passages(clean_text(text))


def passage_spans(text: str) -> Spans:
    """The passages in which a memory is encoded: the whole where it is no longer than `LONG`."""
    if len(text) <= LONG:
        return ((0, len(text)),)
    starts = [0, *(start for start, _ in _pack(text, 0, len(text), MAX_CHARS, (_PARAGRAPH, _SENTENCE, _SPACE))[1:])]
    return tuple(zip(starts, [*starts[1:], len(text)], strict=True))


def passages_of_texts(texts: Sequence[str]) -> tuple[list[Spans], list[str]]:
    """The passages of each text, and what is encoded of all of them in order: the text itself, or its passages without
    the white space around them."""
    spans = [passage_spans(text) for text in texts]
    encoded = [
        text if len(cuts) == 1 else text[start:stop].strip()
        for text, cuts in zip(texts, spans, strict=True)
        for start, stop in cuts
    ]
    return spans, encoded


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
    if bad := _UNSTORABLE.search(value):
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


def _pack(text: str, start: int, end: int, limit: int, bounds: tuple[re.Pattern[str], ...]) -> list[tuple[int, int]]:
    """Spans of text[start:end] without outer white space, each at most `limit` long."""
    start, end = _trim(text, start, end)
    if start == end:
        return []
    if end - start <= limit:
        return [(start, end)]
    if not bounds:
        return _cut(text, start, end, limit)
    cuts = [match.end() for match in bounds[0].finditer(text, start, end)]
    spans: list[tuple[int, int]] = []
    for piece in zip([start, *cuts], [*cuts, end], strict=True):
        low, high = _trim(text, *piece)
        if low == high:
            continue
        if spans and high - spans[-1][0] <= limit:
            spans[-1] = (spans[-1][0], high)
        elif high - low <= limit:
            spans.append((low, high))
        else:
            spans += _pack(text, low, high, limit, bounds[1:])
    return spans


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _cut(text: str, start: int, end: int, limit: int) -> list[tuple[int, int]]:
    """Cut one long word, not within a letter and its accents or a joined emoji where that can be helped."""
    spans = []
    while end - start > limit:
        cut = start + limit
        while cut > start + max(1, limit // 2) and _belongs_to_the_left(text, cut):
            cut -= 1
        if _belongs_to_the_left(text, cut):
            cut = start + limit
        spans.append((start, cut))
        start = cut
    return [*spans, (start, end)]


def _belongs_to_the_left(text: str, position: int) -> bool:
    letter = text[position]
    joined = _JOINER in (letter, text[position - 1])
    return joined or unicodedata.category(letter).startswith("M") or "\U0001f3fb" <= letter <= "\U0001f3ff"
