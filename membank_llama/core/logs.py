"""What a log's line looks like: one record a line, whatever a client put into it.

Paths, model names and error texts that are logged come from clients. A line break in one would begin a line that looks
like the program's own, and an escape sequence would be obeyed by the terminal that shows the log; both are spelled out.
"""

from __future__ import annotations

import json
import logging
import re
import time

# controls of ASCII and Latin-1, what some programs break lines at, what turns the direction of a line, half characters
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def one_line(text: str) -> str:
    r"""The text with all that a terminal or a reader of lines would obey spelled as ``\n``, ``\x1b``, ``\u202e``."""
    return _UNSEEN.sub(_spelled, text)


def plain_json(text: str) -> str:
    r"""JSON whose strings hold nothing that a terminal obeys: spelled ``\u009b``, which is the same JSON."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _spelled(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape", "surrogatepass").decode("ascii")


class TextLines(logging.Formatter):
    """Time, level and message on one line; a traceback below it, indented."""

    def format(self, record: logging.LogRecord) -> str:
        lines = [f"{self.formatTime(record, '%H:%M:%S')} {record.levelname} {one_line(record.getMessage())}"]
        if record.exc_info:
            lines += [f"  | {one_line(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


class JsonLines(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return plain_json(json.dumps(line, ensure_ascii=False))
