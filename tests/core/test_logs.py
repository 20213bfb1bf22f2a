"""A log's line is one record: what a client sends makes no second one and obeys nothing."""

from __future__ import annotations

import json
import logging

from membank_llama.core.logs import JsonLines, TextLines, one_line

HOSTILE = "/x\n12:00:00 INFO fake\r\x1b[31mred\x9b1m\u2028\u202egnp.exe\x07\ud83d"


def record(message: str, error: Exception | None = None) -> logging.LogRecord:
    found = None if error is None else (type(error), error, None)
    return logging.LogRecord("membank_llama", logging.INFO, __file__, 1, "%s", (message,), found)


def controls(line: str) -> list[str]:
    return [c for c in line if not c.isprintable()]


def test_a_message_is_one_line_and_readable() -> None:
    line = TextLines().format(record(HOSTILE))
    assert controls(line) == []
    assert r"/x\n12:00:00 INFO fake\r\x1b[31mred\x9b1m" in line
    assert one_line("größer, 日本語, a < b\\n") == "größer, 日本語, a < b\\n"


def test_an_errors_text_stands_indented() -> None:
    lines = TextLines().format(record("it failed", ValueError(HOSTILE))).split("\n")
    assert lines[0].endswith("INFO it failed")
    assert all(line.startswith("  | ") for line in lines[1:])
    assert controls("".join(lines)) == []


def test_json_says_the_same_and_obeys_as_little() -> None:
    line = JsonLines().format(record(HOSTILE, ValueError(HOSTILE)))
    assert controls(line) == []
    assert json.loads(line)["message"] == HOSTILE
