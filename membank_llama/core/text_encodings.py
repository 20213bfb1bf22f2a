"""Bytes as text: UTF-8, or what the mark at the beginning of a file says, UTF-16 or UTF-32."""

from __future__ import annotations

import codecs

from .errors import InvalidTextError

_MARKS = (
    # UTF-32 ahead of UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_UNMARKED = {(False, True): "UTF-16LE", (True, False): "UTF-16BE"}
_SAMPLE = 64
UNMARKED = "without the mark that says so, as far as can be told"


def marked_encoding(data: bytes) -> str | None:
    """The encoding that a byte order mark tells; None of UTF-8, and where there is no mark."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)


def is_binary(data: bytes) -> bool:
    """Whether the beginning of a file, or all of it, is no text."""
    return (b"\0" in data and marked_encoding(data) is None) or data.startswith(b"%PDF-")


def beginning_of(data: bytes) -> str:
    """The text that the first bytes of a file begin with, whose last letter may be cut in two."""
    return data.decode(marked_encoding(data) or "UTF-8", "ignore").lstrip("\ufeff \t\r\n")


def decoded_text(data: bytes, where: str, offset: int = 0) -> str:
    """The text, without a mark ahead of it.

    Args:
        where: the place, for messages; `offset`: of the data in it.

    Raises:
        InvalidTextError: it is none; with the place of the first bad byte.
    """
    encoding = marked_encoding(data) or "UTF-8"
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InvalidTextError(
            f"{where} is not {encoding}: byte 0x{data[error.start]:02x} at offset {offset + error.start}; "
            "convert it to UTF-8 first"
        ) from error


def what_it_is(data: bytes) -> str:
    """What to call bytes that are no text."""
    if data.startswith(b"%PDF-"):
        return "a PDF and not a text file"
    even, odd = data[:_SAMPLE:2], data[1:_SAMPLE:2]
    empty = (bool(even) and not any(even), bool(odd) and not any(odd))
    if empty in _UNMARKED and len(data) % 2 == 0:
        return f"{_UNMARKED[empty]} {UNMARKED}"
    return f"not a text file (byte 0x00 at offset {data.find(0)})"
