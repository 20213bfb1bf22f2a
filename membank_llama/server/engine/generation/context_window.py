"""From messages to the tokens of a prompt that fits.

A conversation longer than the context loses its oldest turns, never its system messages nor its newest
message; what is cut begins again at a user message, as templates want it. Where even that is too long the
caller is told. How much fits is looked for from the newest turn backwards, so that a long history costs no more
than what of it fits.

Where nobody has said how large the context is to be, it follows the conversation: a longer one gets a larger context,
up to what the model was trained for and memory allows, before anything is left out.
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
    *,
    most: int | None = None,
    truncate: bool = True,
) -> list[int]:
    """Tokens of the newest turns that leave room for an answer; of the last message alone, whatever its length.

    Args:
        most: what the context may grow to; None: it may not.
        truncate: whether turns may be left out.

    Raises:
        WireError: the last message alone is certainly longer than the context, or nothing may be left out and it is.
        AbandonedError: nobody waits any more.
    """
    widest = max(most or 0, model.n_ctx)

    def tokens_of(some: Sequence[TemplateMessage], limit: int | None = None) -> list[int] | None:
        """None where that is more than anything holds."""
        if cancelled is not None and cancelled.is_set():
            raise AbandonedError
        text = render(some)
        return None if model.exceeds(text, limit) else model.tokenize(text)

    most_room = _room(widest, num_predict)
    short = len(messages) <= most_room and sum(len(str(m["content"])) for m in messages) <= _LEAST * most_room
    whole = tokens_of(messages, widest) if short or not truncate else None
    enlarge(model, widest if whole is None else len(whole), num_predict, widest)
    if whole is not None and len(whole) < (_room(model.n_ctx, num_predict) if truncate else model.n_ctx):
        return whole
    if not truncate:
        raise too_long(model)
    return _newest(model, messages, tokens_of, _room(model.n_ctx, num_predict), tried=short)


def _newest(
    model: GenerationContext,
    messages: Sequence[TemplateMessage],
    tokens_of: Callable[[Sequence[TemplateMessage]], list[int] | None],
    room: int,
    *,
    tried: bool,
) -> list[int]:
    """The most turns that fit; the whole conversation too where it was not `tried`."""
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
        at = (fits + misfits) // 2 if misfits >= 0 else max(0, fits - step)
        found, step = tokens_of(_from(messages, starts[at])), 2 * step
        if found is not None and len(found) < room:
            best, fits = found, at
        else:
            misfits = at
    if fits == 0 and not tried:
        whole = tokens_of(messages)
        best = whole if whole is not None and len(whole) < room else best
    return best


def enlarge(model: GenerationContext, tokens: int, num_predict: int, most: int) -> None:
    """Have the context hold so many tokens and an answer, if it may grow to that."""
    size = model.n_ctx
    while size < most and tokens >= _room(size, num_predict):
        size *= 2
    if size > model.n_ctx:
        model.grow(min(size, most))


def _room(n_ctx: int, num_predict: int) -> int:
    """Tokens of a prompt that leave room for an answer."""
    return n_ctx - min(num_predict if num_predict > 0 else _ANSWER, n_ctx // 8)


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
