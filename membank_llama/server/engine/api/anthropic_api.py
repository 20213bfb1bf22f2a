"""Anthropic's Messages API: `/v1/messages` and `/v1/messages/count_tokens`.

A message is made of blocks. Streamed, each is opened, filled and closed before the next, between a `message_start` that
says what the prompt came to and a `message_delta` that says why the answer ended. `input_tokens` are those that were
evaluated; what the prompt cache held stands beside them, as with Anthropic.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from ...asgi import AbandonedError, WireError
from .. import fields
from ..exchange import SSE, Exchange, NamedEvent
from ..generation.answer import Delta
from ..generation.conversation_request import ConversationRequest, conversation
from ..generation.decode import PromptCount, Tally
from ..generation.generation_context import GenerationContext
from ..generation.reasoning import Think
from ..generation.sampling_options import resolve
from ..generation.tool_calls import ToolCall
from ..runtime.async_bridge import Work
from ..runtime.embedder import Embedder
from ..runtime.generation_service import GenerationService
from .anthropic_messages import anthropic_messages, anthropic_think, anthropic_tools
from .openai_api import chosen_tools

_SAME = ("temperature", "top_p", "top_k")
_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


@dataclass
class _MessageFormat:
    """One answer as blocks."""

    name: str
    stops: tuple[str, ...] = ()
    kind: str = SSE
    id: str = field(default_factory=lambda: f"msg_{secrets.token_hex(12)}")
    _open: str = ""
    _index: int = -1
    _called: bool = False

    def begin(self, counted: PromptCount) -> list[Any]:
        message = self._message([], None, None, _usage(counted.total, counted.cached, 0))
        return [NamedEvent({"type": "message_start", "message": message})]

    def piece(self, delta: Delta) -> list[Any]:
        return [NamedEvent(event) for event in self._events(delta)]

    def last(self, tally: Tally, load_ns: int) -> list[Any]:
        reason, stopped_at = self._ended(tally)
        delta = {"stop_reason": reason, "stop_sequence": stopped_at}
        ending = {"type": "message_delta", "delta": delta, "usage": _counts(tally)}
        return [NamedEvent(event) for event in (*self._close(), ending, {"type": "message_stop"})]

    def whole(self, delta: Delta, tally: Tally, load_ns: int) -> Any:
        self._called = bool(delta.calls)
        content = [
            *([_EMPTY["thinking"] | {"thinking": delta.thinking}] if delta.thinking else []),
            *([_EMPTY["text"] | {"text": delta.content}] if delta.content else []),
            *(_tool_use(call) | {"input": call.arguments} for call in delta.calls),
        ]
        return self._message(content, *self._ended(tally), _counts(tally))

    def _message(self, content: list[Any], reason: str | None, stopped_at: str | None, usage: Any) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.name,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": stopped_at,
            "usage": usage,
        }

    def _ended(self, tally: Tally) -> tuple[str, str | None]:
        if self._called:
            return "tool_use", None
        if tally.reason == "length":
            return "max_tokens", None
        # a stop string of the Modelfile's is none that the client knows of
        return ("stop_sequence", tally.stopped_at) if tally.stopped_at in self.stops else ("end_turn", None)

    def _events(self, delta: Delta) -> Iterator[dict[str, Any]]:
        for kind, text in (("thinking", delta.thinking), ("text", delta.content)):
            if text:
                yield from self._into(kind)
                yield self._filled({"type": f"{kind}_delta", kind: text})
        for call in delta.calls:
            self._called = True
            yield from self._begun("tool_use", _tool_use(call))
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            yield self._filled({"type": "input_json_delta", "partial_json": arguments})

    def _into(self, kind: str) -> Iterator[dict[str, Any]]:
        if self._open != kind:
            yield from self._begun(kind, _EMPTY[kind])

    def _begun(self, kind: str, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._close()
        self._open, self._index = kind, self._index + 1
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _filled(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _close(self) -> Iterator[dict[str, Any]]:
        if self._open:
            self._open = ""
            yield {"type": "content_block_stop", "index": self._index}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}


def _counts(tally: Tally) -> dict[str, int]:
    return _usage(len(tally.prompt), tally.cached_tokens, len(tally.tokens))


def _usage(prompt: int, cached: int, written: int) -> dict[str, int]:
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": written,
    }


async def _asked(service: GenerationService, x: Exchange, options: dict[str, Any]) -> ConversationRequest:
    """The conversation of a request."""
    body, name = x.body, fields.model_name(x.body)
    said, think = anthropic_messages(body), anthropic_think(body)
    given, choice = anthropic_tools(body)
    if not any(message["role"] != "system" for message in said):
        raise WireError(400, "messages is required")
    target = await service.find_writing(name, "chat")
    return ConversationRequest(
        target=target,
        messages=conversation(target, said),
        options=resolve(target.served.parameters, options),
        tools=await asyncio.to_thread(chosen_tools, given, choice, target.facts.template),
        # a wish here: clients send it to every model
        think=think if target.facts.thinks else Think(),
    )


async def messages(service: GenerationService, x: Exchange) -> None:
    """`POST /v1/messages`."""
    body = x.body
    fields.model_name(body)
    limit, stream = fields.integer(body, "max_tokens"), fields.flag(body, "stream", False)
    if limit is None or limit <= 0:
        raise WireError(400, "max_tokens is required and must be positive")
    options: dict[str, Any] = {name: body[name] for name in _SAME if body.get(name) is not None}
    options["num_predict"] = limit
    stops = body.get("stop_sequences")
    if stops:
        options["stop"] = stops
    ask = await _asked(service, x, options)
    shape = _MessageFormat(ask.target.name, ask.options.stop if stops else ())
    await service.answer(ask, ask.options.num_ctx, None, x, shape, stream)


async def count_tokens(service: GenerationService, x: Exchange) -> None:
    """`POST /v1/messages/count_tokens`: by the model's own template and vocabulary."""
    ask, found = await _asked(service, x, {}), 0
    async with service.stream(ask.target, ask.options.num_ctx, None, _counting(ask)) as (counts, _):
        try:
            async for count in counts:
                found = count
        except AbandonedError as exc:
            raise WireError(503, "the server is closing") from exc
    await x.reply({"input_tokens": found})


def _counting(ask: ConversationRequest) -> Callable[[GenerationContext | Embedder], Work[int]]:
    def on(native: GenerationContext | Embedder) -> Work[int]:
        def work(cancelled: Event) -> Iterator[int]:
            if not isinstance(native, GenerationContext):
                raise WireError(400, f'"{ask.target.name}" does not support chat')
            yield ask.count(native, cancelled)

        return work

    return on
