"""From messages to the tokens of a prompt that fits.

A conversation longer than the context loses its oldest turns, never its system messages nor its newest
message; what is cut begins again at a user message, as templates want it. Where even that is too long the
caller is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .native import NativeModel
from .template import Message

Render = Callable[[Sequence[Message]], str]

_ANSWER = 256


def fitting(model: NativeModel, messages: Sequence[Message], render: Render, num_predict: int) -> list[int]:
    """Tokens of the newest turns that leave room for an answer; of the last message alone, whatever its length."""
    answer = min(num_predict if num_predict > 0 else _ANSWER, model.n_ctx // 8)
    tokens = model.tokenize(render(messages))
    if len(tokens) < model.n_ctx - answer:
        return tokens
    starts = _starts(messages)
    low, high, best = 0, len(starts) - 1, tokens
    while low <= high:
        middle = (low + high) // 2
        found = model.tokenize(render(_from(messages, starts[middle])))
        if len(found) < model.n_ctx - answer or middle == len(starts) - 1:
            best = found
        if len(found) < model.n_ctx - answer:
            high = middle - 1
        else:
            low = middle + 1
    return best


def _starts(messages: Sequence[Message]) -> list[int]:
    """Where a shortened conversation may begin, the longest first."""
    users = [at for at, message in enumerate(messages) if message["role"] == "user"]
    return users[1:] or [len(messages) - 1]


def _from(messages: Sequence[Message], start: int) -> list[Message]:
    return [m for at, m in enumerate(messages) if at >= start or m["role"] == "system"]


def with_system(messages: Sequence[Message], system: str | None) -> list[Message]:
    """The Modelfile's system message in front, where the request brings none at its head."""
    if not system or (messages and messages[0]["role"] == "system"):
        return list(messages)
    first: dict[str, Any] = {"role": "system", "content": system}
    return [first, *messages]
