"""The four ways in which a client asks for text, read as messages and written back.

`open_request` takes apart what it understands and nothing else: a body in which anything is not as the API's
documentation has it goes on untouched, and so does a call that has no user who asks (loading a model, filling in the
middle of code). `reply_of` reads the answer that went by, streamed or whole, afterwards: nothing is parsed on its way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "developer", "user", "assistant", "tool")

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)\s*", re.DOTALL)

_MOST_COUNT = 2**31 - 1
_MOST_MESSAGES = 50_000

Body = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a client asks, as messages.

    `place` gives the body with these messages in place of the client's. `raw`: the one message is a prompt that was
    templated by the client.
    """

    messages: list[dict[str, Any]]
    place: Callable[[list[dict[str, Any]]], Body]
    model: str
    n_ctx: int | None = None
    max_tokens: int | None = None
    raw: bool = False
    context: bytes | None = None


@dataclass(frozen=True)
class Reply:
    """What was answered: its text, whether the answer came to its end, and Ollama's `context` of a generate call."""

    text: str = ""
    whole: bool = False
    context: bytes | None = None


def open_request(path: str, body: Body) -> Asked | None:
    """The question in a request; None where memory has no part in it."""
    opener = _OPENERS.get(path)
    model = body.get("model")
    return None if opener is None or not isinstance(model, str) else opener(body, model)


def is_asking(path: str) -> bool:
    """Whether calls to this path may have a memory."""
    return path in _OPENERS


def _ollama_chat(body: Body, model: str) -> Asked | None:
    messages = _messages(body)
    if messages is None or not all(isinstance(m.get("content", ""), str) for m in messages):
        return None
    return Asked(messages, lambda told: {**body, "messages": told}, model, *_limits(body))


def _openai_chat(body: Body, model: str) -> Asked | None:
    messages = _messages(body)
    if messages is None:
        return None
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    return Asked(messages, lambda told: {**body, "messages": told}, model, None, _count(most))


def _generate(body: Body, model: str) -> Asked | None:
    prompt, context = body.get("prompt"), body.get("context")
    if not isinstance(prompt, str) or not prompt.strip() or body.get("suffix"):
        return None
    history = json.dumps(context, separators=(",", ":")).encode() if context else None
    return Asked(
        [{"role": "user", "content": prompt}],
        lambda told: {**body, "prompt": told[-1]["content"]},
        model,
        *_limits(body),
        raw=body.get("raw") is True,
        context=history,
    )


def _completions(body: Body, model: str) -> Asked | None:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip() or body.get("suffix") or body.get("echo"):
        return None
    return Asked(
        [{"role": "user", "content": prompt}],
        lambda told: {**body, "prompt": told[-1]["content"]},
        model,
        None,
        _count(body.get("max_tokens")),
    )


_OPENERS: Mapping[str, Callable[[Body, str], Asked | None]] = {
    "/api/chat": _ollama_chat,
    "/api/generate": _generate,
    "/v1/chat/completions": _openai_chat,
    "/v1/completions": _completions,
}


def _messages(body: Body) -> list[dict[str, Any]] | None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= _MOST_MESSAGES:
        return None
    if not all(isinstance(message, dict) and message.get("role") in ROLES for message in messages):
        return None
    return messages


def _limits(body: Body) -> tuple[int | None, int | None]:
    options = body.get("options")
    if not isinstance(options, dict):
        return None, None
    return _count(options.get("num_ctx")), _count(options.get("num_predict"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_COUNT else None


# -- what was answered


def reply_of(path: str, raw: bytes) -> Reply:
    """The reply in the bytes of a response; a stream that was cut off gives what it held so far."""
    said: list[str] = []
    whole, context = False, None
    for part in _parts(raw):
        text, last = _piece(path, part)
        said.append(text)
        whole = whole or last
        if part.get("context"):
            context = json.dumps(part["context"], separators=(",", ":")).encode()
    return Reply(without_thinking("".join(said)), whole, context)


def without_thinking(text: str) -> str:
    """A reply without what a model thought aloud before it."""
    return _THINKING.sub("", text)


def _parts(raw: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of a body: the one, one a line, or one an event."""
    for line in raw.split(b"\n"):
        text = line.strip().removeprefix(b"data:").strip()
        if not text.startswith(b"{"):
            continue
        try:
            part = json.loads(text)
        except (ValueError, RecursionError):
            part = None
        if isinstance(part, dict):
            yield part
    if raw.lstrip().startswith(b"{\n"):
        # indented over several lines
        try:
            yield json.loads(raw)
        except (ValueError, RecursionError):
            return


def _piece(path: str, part: Mapping[str, Any]) -> tuple[str, bool]:
    """The text of one part, and whether it says that the reply is over."""
    if path == "/api/generate":
        return _text(part.get("response")), part.get("done") is True
    if path == "/api/chat":
        message = part.get("message")
        return _text(message.get("content") if isinstance(message, dict) else None), part.get("done") is True
    choices = part.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "", False
    choice = choices[0]
    inner = choice.get("delta") or choice.get("message") or {}
    text = inner.get("content") if isinstance(inner, dict) and inner else choice.get("text")
    return _text(text), choice.get("finish_reason") is not None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
