"""From messages to the tokens of a prompt that fits.

A conversation longer than the context loses its oldest turns, never its system messages nor its newest
message; what is cut begins again at a user message, as templates want it. Where even that is too long the
caller is told. How much fits is looked for from the newest turn backwards, so that a long history costs no more
than what of it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

from membank_llama.core.message_layouts import TemplateMessage

from ...asgi import AbandonedError, WireError
from .generation_context import GenerationContext

Render = Callable[[Sequence[TemplateMessage]], str]

_ANSWER = 256
_LEAST = 16
"""Bytes of messages a token of context, below which the whole conversation is tried first."""


def fitting(
    model: GenerationContext,
    messages: Sequence[TemplateMessage],
    render: Render,
    num_predict: int,
    cancelled: Event | None = None,
) -> list[int]:
    """Tokens of the newest turns that leave room for an answer; of the last message alone, whatever its length.

    Raises:
        WireError: the last message alone is certainly longer than the context.
        AbandonedError: nobody waits any more.
    """
    room = model.n_ctx - min(num_predict if num_predict > 0 else _ANSWER, model.n_ctx // 8)

    def tokens_of(some: Sequence[TemplateMessage]) -> list[int] | None:
        """None where that is more than anything holds."""
        if cancelled is not None and cancelled.is_set():
            raise AbandonedError
        text = render(some)
        return None if model.exceeds(text) else model.tokenize(text)

    likely = len(messages) <= room and sum(len(str(m["content"])) for m in messages) <= _LEAST * room
    if likely:
        whole = tokens_of(messages)
        if whole is not None and len(whole) < room:
            return whole
    starts = _starts(messages)
    last = len(starts) - 1
    found = tokens_of(_from(messages, starts[last]))
    if found is None:
        raise too_long(model)
    if len(found) >= room:
        return found
    best, fits, misfits = found, last, -1
    step = 1
    while fits - misfits > 1:
        # in growing steps until one does not fit, then by halves
        tried = (fits + misfits) // 2 if misfits >= 0 else max(0, fits - step)
        found, step = tokens_of(_from(messages, starts[tried])), 2 * step
        if found is not None and len(found) < room:
            best, fits = found, tried
        else:
            misfits = tried
    if fits == 0 and not likely:
        whole = tokens_of(messages)
        best = whole if whole is not None and len(whole) < room else best
    return best


def too_long(model: GenerationContext) -> WireError:
    """The answer to a text that no counting is needed for."""
    return WireError(
        400,
        f"the input length exceeds the context length of {model.n_ctx:,} tokens by far; "
        "shorten it or ask for a larger num_ctx",
    )


def _starts(messages: Sequence[TemplateMessage]) -> list[int]:
    """Where a shortened conversation may begin, the longest first."""
    users = [at for at, message in enumerate(messages) if message["role"] == "user"]
    return users[1:] or [len(messages) - 1]


def _from(messages: Sequence[TemplateMessage], start: int) -> list[TemplateMessage]:
    return [m for at, m in enumerate(messages) if at >= start or m["role"] == "system"]


def with_system(messages: Sequence[TemplateMessage], system: str | None) -> list[TemplateMessage]:
    """The Modelfile's system message in front, where the request brings none at its head."""
    if not system or (messages and messages[0]["role"] == "system"):
        return list(messages)
    first: dict[str, Any] = {"role": "system", "content": system}
    return [first, *messages]
