"""Texts cut into passages, and files, directories and JSON Lines read as memories."""

from __future__ import annotations

import io
import json
import random
import sys
from pathlib import Path

import pytest
from support.growth import grows_with_the_square

from membank_llama.core.errors import EmptyTextError, InvalidInputError, InvalidTextError
from membank_llama.core.types import NewMemory
from membank_llama.memory.memory_files import read_items
from membank_llama.memory.text_splitting import clean_text, split_passages


def without_space(text: str) -> str:
    return "".join(text.split())


def test_a_short_text_is_one_passage() -> None:
    assert split_passages("  Hello there.\n\nHow are you?\n") == ["Hello there.\n\nHow are you?"]
    assert split_passages(" \n\t ") == []
    assert split_passages("") == []


def test_cut_between_paragraphs_first() -> None:
    text = "One two. Three.\r\n\r\nFour five six.\n  \n\nSeven."
    assert split_passages(text, 25) == ["One two. Three.", "Four five six.\n  \n\nSeven."]
    assert split_passages(text, 16) == ["One two. Three.", "Four five six.", "Seven."]


def test_then_between_sentences() -> None:
    text = 'He said "stop!" and left. Was that all? Yes… It was (so it seems). 3.14 is no end.'
    assert split_passages(text, 30) == [
        'He said "stop!" and left.',
        "Was that all? Yes…",
        "It was (so it seems).",
        "3.14 is no end.",
    ]
    assert split_passages("今日は晴れ。明日は雨！本当？", 7) == ["今日は晴れ。", "明日は雨！", "本当？"]


def test_then_between_words_and_last_within_one() -> None:
    assert split_passages("alpha beta gamma delta", 11) == ["alpha beta", "gamma delta"]
    assert split_passages("a " + "x" * 25 + " b", 10) == ["a", "x" * 10, "x" * 10, "xxxxx b"]


def test_letters_keep_their_accents() -> None:
    text = "e\u0301" * 10
    assert split_passages(text, 5) == ["e\u0301" * 2] * 5
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert split_passages(family * 2, 8) == [family, family]
    assert "".join(split_passages("\u0301" * 50, 3)) == "\u0301" * 50
    assert split_passages("e\u0301\u0301", 1) == ["e", "\u0301", "\u0301"]


def test_nothing_is_lost_but_white_space() -> None:
    rng = random.Random(7)
    alphabet = [
        "a",
        "B",
        "é",
        "e\u0301",
        "雨",
        "。",
        ".",
        "!",
        "?",
        '"',
        ")",
        " ",
        " ",
        "\n",
        "\n\n",
        "\t",
        "\u00a0",
        "🙂",
        "\u200d",
    ]
    for _ in range(300):
        text = "".join(rng.choices(alphabet, k=rng.randrange(200)))
        limit = rng.randrange(1, 40)
        passages = split_passages(text, limit)
        assert without_space("".join(passages)) == without_space(text)
        assert all(0 < len(passage) <= limit and passage == passage.strip() for passage in passages)


@pytest.mark.parametrize("unit", [".", "\n", " ", "x", ".)", "a. ", '."', "\n \n", "é\n"])
def test_a_long_text_takes_no_long_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    assert without_space("".join(split_passages(text))) == without_space(text)
    assert not grows_with_the_square(lambda size: split_passages(unit * (size // len(unit))), 1_000_000)


def test_impossible_length() -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        split_passages("text", 0)


def test_text_that_cannot_be_stored_is_cleaned() -> None:
    assert clean_text("a\0b\ud800c\udfffd🙂") == "a\ufffdb\ufffdc\ufffdd🙂"


def test_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_bytes("\ufeffFirst paragraph.\n\nSecond paragraph.".encode())
    items = list(read_items(path, max_chars=20, role="document", namespace="work", conversation="c"))
    assert items == [
        NewMemory(text, {"part": part}, "document", "work", "c", None, "notes.md")
        for part, text in enumerate(["First paragraph.", "Second paragraph."])
    ]
    path.write_text("")
    assert list(read_items(str(path))) == []


def test_a_directory_in_order_without_hidden_and_binary_files(tmp_path: Path) -> None:
    for name, data in {
        "b.txt": b"b",
        "a/z.rst": b"z",
        "a/.hidden": b"no",
        ".git/config": b"no",
        "image.png": b"\x89PNG\0\0",
        "paper.pdf": b"%PDF-1.7 no",
        "log.jsonl": b'{"text": "a line"}\n',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    items = list(read_items(tmp_path))
    assert [(item.text, item.source) for item in items] == [
        ("z", "a/z.rst"),
        ("b", "b.txt"),
        ("a line", "log.jsonl"),
    ]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    lines = [
        {"text": "one\u2028two"},
        {
            "text": "two", "role": "assistant", "created_at": "2025-01-31T12:00:00Z", "conversation": "c",
            "namespace": "n", "metadata": {"a": [1]}, "source": "elsewhere",
        },
        {"text": "three", "created_at": 12.5, "role": None, "metadata": None},
        {"text": "four", "created_at": "1970-01-02"},
        {"text": "five", "created_at": "1970-01-01T01:00:00+01:00"},
    ]  # fmt: skip
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n \r\n")
    assert list(read_items(path, namespace="given")) == [
        NewMemory("one\u2028two", namespace="given", source="chat.jsonl"),
        NewMemory("two", {"a": [1]}, "assistant", "n", "c", 1738324800.0, "elsewhere"),
        NewMemory("three", namespace="given", created_at=12.5, source="chat.jsonl"),
        NewMemory("four", namespace="given", created_at=86400.0, source="chat.jsonl"),
        NewMemory("five", namespace="given", created_at=0.0, source="chat.jsonl"),
    ]


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ('{"text": "a", "colour": 1, "b": 2}', InvalidInputError, "unknown key 'b', 'colour'; known are"),
        ('{"role": "user"}', InvalidInputError, '"text" is missing'),
        ('{"text": null}', InvalidInputError, '"text" is missing'),
        ('{"text": 3}', InvalidInputError, '"text" must be a string, got int'),
        ('{"text": " "}', EmptyTextError, "the text is empty"),
        ('{"text": "a\\ud800"}', InvalidTextError, "cannot be stored"),
        ('{"text": "a\\u0000"}', InvalidTextError, "cannot be stored"),
        ('{"text": "a", "metadata": [1]}', InvalidInputError, '"metadata" must be an object'),
        ('{"text": "a", "metadata": {"x": NaN}}', InvalidInputError, "not JSON"),
        ('{"text": "a", "created_at": true}', InvalidInputError, '"created_at" must be'),
        ('{"text": "a", "created_at": "yesterday"}', InvalidInputError, '"created_at" must be'),
        ('{"text": "a", "created_at": 1' + "0" * 400 + "}", InvalidInputError, '"created_at" must be'),
        ('["text"]', InvalidInputError, "expected an object, got list"),
        ("text", InvalidInputError, "not JSON"),
        ("[" * 100_000, InvalidInputError, "not JSON|expected an object"),
        ('{"text": "a\0"}', InvalidInputError, "not JSON"),
    ],
)
def test_lines_that_are_no_memory(tmp_path: Path, line: str, error: type[Exception], message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "good"}\n\n' + line + "\n", encoding="utf-8")
    items = read_items(path)
    assert next(items).text == "good"
    with pytest.raises(error, match=message) as caught:
        next(items)
    assert "bad.jsonl, line 3" in str(caught.value)


def test_files_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("naïve".encode("latin-1"))
    for where in (path, tmp_path):
        with pytest.raises(InvalidTextError, match=r"latin\.txt is not UTF-8: byte 0xef at offset 2"):
            list(read_items(where))
    path.write_bytes(b"text\0")
    with pytest.raises(InvalidTextError, match="byte 0x00 at offset 4"):
        list(read_items(path))
    path.write_bytes(b"%PDF-1.4")
    with pytest.raises(InvalidTextError, match="is a PDF"):
        list(read_items(path))
    lines = tmp_path / "latin.jsonl"
    lines.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(InvalidTextError, match=r"line 2 is not UTF-8: byte 0xff at offset 24"):
        list(read_items(lines))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="check the path"):
        list(read_items(tmp_path / "missing.txt"))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"typed in")))
    assert list(read_items("-")) == [NewMemory("typed in", {"part": 0}, source="stdin")]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "a"}\n{"text": "b"}')))
    assert [item.text for item in read_items("-", jsonl=True)] == ["a", "b"]
