"""The four ways in which a client asks for text, read as messages and written back.

`open_request` takes apart what it understands and nothing else: a body in which anything is not as the API's
documentation has it goes on untouched, and so does a call that has no user who asks (loading a model, filling in the
middle of code).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_TOKENS = 2**31 - 1
ROLES = ("system", "developer", "user", "assistant", "tool")

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
    """A number of tokens; None where it is none that a context could have."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS else None
