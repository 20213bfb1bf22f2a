"""Text is what a file's mark says it is, or UTF-8; everything else is called by what it seems to be."""

from __future__ import annotations

import pytest

from membank_llama.core.errors import InvalidTextError
from membank_llama.core.text_encodings import beginning_of, decoded_text, is_binary, marked_encoding, what_it_is

TEXT = "Grüße aus Zürich 🐙"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_with_or_without_a_mark(encoding: str) -> None:
    data = TEXT.encode(encoding)
    assert not is_binary(data)
    assert decoded_text(data, "a.txt") == TEXT
    for end in range(4, len(data)):
        assert TEXT.startswith(beginning_of(data[:end]))


@pytest.mark.parametrize(("order", "mark"), [("utf-16-be", b"\xfe\xff"), ("utf-32-be", b"\0\0\xfe\xff")])
def test_the_other_order(order: str, mark: bytes) -> None:
    assert decoded_text(mark + TEXT.encode(order), "a.txt") == TEXT


def test_a_bad_byte_is_named_by_its_place() -> None:
    with pytest.raises(InvalidTextError, match=r"a\.txt is not UTF-8: byte 0xe9 at offset 103"):
        decoded_text(b"caf\xe9", "a.txt", 100)
    with pytest.raises(InvalidTextError, match=r"a\.txt is not UTF-16: byte 0x00 at offset 2"):
        decoded_text(b"\xff\xfe\x00\xd8", "a.txt")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7", "a PDF"),
        ("plain".encode("utf-16-le"), "UTF-16LE without the mark"),
        ("plain".encode("utf-16-be"), "UTF-16BE without the mark"),
        (b"\x89PNG\0\0", "byte 0x00 at offset 4"),
    ],
)
def test_what_is_no_text(data: bytes, name: str) -> None:
    assert is_binary(data)
    assert name in what_it_is(data)
    assert marked_encoding(data) is None
