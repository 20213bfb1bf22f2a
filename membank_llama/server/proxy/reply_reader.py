"""The answer of an upstream, read as it goes by: streamed or whole, in any of the APIs.

A piece is read when its line is complete, so that no answer, however long, takes the event loop's time at its end; and
no more of it is kept than is remembered of one turn.
"""

from __future__ import annotations

import json

from membank_llama.core.surrogates import repaired_text
from membank_llama.memory.conversation_keys import without_thinking

from .client_request import ChatReply
from .reply_parts import PromptTokens, reader_of, tokens_of

MOST_LINE = 4 * 1024 * 1024
"""Bytes of one line, or of an answer that is not streamed; what is longer is not remembered."""
MOST_CHARACTERS = 256 * 1024
"""Characters of an answer that are kept, thoughts included."""


class ReplyReader:
    """Reads an answer piece by piece."""

    def __init__(self, path: str) -> None:
        self._read = reader_of(path)
        self._said: list[str] = []
        self._calls: dict[int, list[str]] = {}
        self._characters = 0
        self._whole = False
        self._context: bytes | None = None
        self._rest: list[bytes] = []
        self._waiting = 0
        self._spread: list[bytes] | None = None
        self._spread_bytes = 0
        self._begun = False
        self.tokens: PromptTokens | None = None
        """What a llama-server says that it has read; None where nothing is said of it."""
        self.over = False
        """Whether the last part of a stream has gone by: some clients hang up on it without waiting for the end."""

    def feed(self, data: bytes) -> None:
        """The next piece, cut anywhere."""
        first, *lines = data.split(b"\n")
        self._keep(first)
        for line in lines:
            self._line(b"".join(self._rest))
            self._rest, self._waiting = [], 0
            self._keep(line)

    def reply(self) -> ChatReply:
        """What has been said so far."""
        self._line(b"".join(self._rest))
        self._rest, self._waiting = [], 0
        if self._spread is not None:
            self._part(b"\n".join(self._spread))
            self._spread = None
        calls = tuple("".join(pieces) for pieces in self._calls.values())
        return ChatReply(without_thinking(repaired_text("".join(self._said))), self._whole, self._context, calls)

    def _keep(self, data: bytes) -> None:
        self._waiting += len(data)
        if self._waiting <= MOST_LINE:
            self._rest.append(data)
        else:
            self._rest = []

    def _line(self, line: bytes) -> None:
        text = line.strip().removeprefix(b"data:").strip()
        if self._spread is not None:
            self._spread_bytes += len(line)
            if self._spread_bytes <= MOST_LINE:
                self._spread.append(line)
        elif text == b"{" and not self._begun:
            # one object, indented over several lines
            self._spread = [line]
        elif text.startswith(b"{"):
            self._part(text)
        elif text == b"[DONE]":
            self.over = True
        self._begun = self._begun or bool(text)

    def _part(self, text: bytes) -> None:
        try:
            part = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(part, dict):
            return
        read = self._read(part)
        room = MOST_CHARACTERS - self._characters
        self._said.append(read.text[:room])
        self._characters += len(read.text[:room])
        for number, piece in read.calls:
            if self._characters < MOST_CHARACTERS:
                self._calls.setdefault(number, []).append(piece)
                self._characters += len(piece)
        self._whole = self._whole or read.whole
        self.over = self.over or read.last
        if "timings" in part or "usage" in part or "message" in part:
            self.tokens = tokens_of(part, self.tokens)
        if part.get("context"):
            self._context = json.dumps(part["context"], separators=(",", ":")).encode()


def reply_of(path: str, raw: bytes) -> ChatReply:
    """The reply in the bytes of a response; a stream that was cut off gives what it held so far."""
    reader = ReplyReader(path)
    reader.feed(raw)
    return reader.reply()
