"""OpenAI's Responses API: `/v1/responses`.

An answer is a list of items (a thought, a message, calls), each opened, filled and closed before the next where it is
streamed. Nothing is stored: `previous_response_id` and `conversation` are passed over, as Ollama does.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...asgi import WireError
from .. import fields
from ..exchange import SSE, Exchange, NamedEvent
from ..generation.answer import Delta
from ..generation.conversation_request import ConversationRequest, conversation
from ..generation.decode import PromptCount, Tally
from ..generation.reasoning import Think
from ..generation.tool_calls import ToolCall
from ..runtime.generation_service import GenerationService
from .openai_api import chosen_tools, openai_options, openai_think
from .response_items import response_grammar, response_messages, response_tools

_LIMITS = ("max_output_tokens",)
_ECHOED: tuple[tuple[str, Any], ...] = (
    ("instructions", None), ("tools", []), ("tool_choice", "auto"), ("truncation", "disabled"),
    ("parallel_tool_calls", True), ("text", {"format": {"type": "text"}}), ("top_p", 1.0), ("temperature", 1.0),
    ("reasoning", None), ("max_output_tokens", None), ("background", False), ("metadata", {}),
)  # fmt: skip
_FIXED: dict[str, Any] = {
    "previous_response_id": None, "presence_penalty": 0, "frequency_penalty": 0, "top_logprobs": 0,
    "max_tool_calls": None, "store": False, "service_tier": "default", "safety_identifier": None,
    "prompt_cache_key": None,
}  # fmt: skip


@dataclass
class _Item:
    """What an answer is made of: a `reasoning`, a `message`, or a `function_call` with its fields."""

    id: str
    type: str
    index: int
    text: str = ""
    call: ToolCall | None = None

    def shown(self, *, done: bool) -> dict[str, Any]:
        head = {"id": self.id, "type": self.type}
        if self.type == "reasoning":
            summary = [{"type": "summary_text", "text": self.text}]
            return head | ({"summary": summary, "encrypted_content": self.text} if done else {"summary": []})
        head["status"] = "completed" if done else "in_progress"
        if self.call is not None:
            arguments = _arguments(self.call) if done else ""
            return head | {"call_id": self.call.id, "name": self.call.name, "arguments": arguments}
        return head | {"role": "assistant", "content": [_part(self.text)] if done else []}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _arguments(call: ToolCall) -> str:
    return json.dumps(call.arguments, ensure_ascii=False)


@dataclass
class _ResponseFormat:
    """One answer as items; `asked` is the request, parts of which the answer repeats."""

    name: str
    asked: Mapping[str, Any]
    kind: str = SSE
    id: str = field(default_factory=lambda: f"resp_{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    _items: list[_Item] = field(default_factory=list)
    _open: bool = False
    _number: int = 0

    def begin(self, counted: PromptCount) -> list[Any]:
        started = self._response("in_progress")
        return self._sent(("response.created", {"response": started}), ("response.in_progress", {"response": started}))

    def piece(self, delta: Delta) -> list[Any]:
        return self._sent(*self._events(delta))

    def last(self, tally: Tally, load_ns: int) -> list[Any]:
        closing = list(self._close())
        response = self._finished(tally)
        return self._sent(*closing, (f"response.{response['status']}", {"response": response}))

    def whole(self, delta: Delta, tally: Tally, load_ns: int) -> Any:
        for _ in self._events(delta):
            pass
        if not self._items:
            self._add("message", "msg")
        return self._finished(tally)

    def failed(self, status: int, message: str) -> list[Any]:
        """What a stream says of an error."""
        code = "server_error" if status >= 500 else "invalid_prompt"
        response = self._response("failed") | {"error": {"code": code, "message": message}}
        return self._sent(("response.failed", {"response": response}))

    def _sent(self, *events: tuple[str, dict[str, Any]]) -> list[Any]:
        made = []
        for kind, payload in events:
            made.append(NamedEvent({"type": kind, "sequence_number": self._number, **payload}))
            self._number += 1
        return made

    def _response(self, status: str) -> dict[str, Any]:
        echoed = {name: self.asked[name] if self.asked.get(name) is not None else usual for name, usual in _ECHOED}
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": None,
            "status": status,
            "incomplete_details": None,
            "model": self.name,
            "output": [item.shown(done=True) for item in self._items],
            "error": None,
            "usage": None,
            **echoed,
            **_FIXED,
        }

    def _finished(self, tally: Tally) -> dict[str, Any]:
        cut = tally.reason == "length"
        made = self._response("incomplete" if cut else "completed")
        made["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        made["completed_at"] = None if cut else int(time.time())
        prompt, written = len(tally.prompt), len(tally.tokens)
        made["usage"] = {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": tally.cached_tokens},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + written,
        }
        return made

    def _add(self, kind: str, prefix: str, call: ToolCall | None = None) -> _Item:
        item = _Item(f"{prefix}_{secrets.token_hex(12)}", kind, len(self._items), call=call)
        self._items.append(item)
        return item

    def _events(self, delta: Delta) -> Iterator[tuple[str, dict[str, Any]]]:
        if delta.thinking:
            yield from self._into("reasoning", "rs")
            yield self._filled("response.reasoning_summary_text.delta", delta.thinking)
        if delta.content:
            yield from self._into("message", "msg")
            yield self._filled("response.output_text.delta", delta.content)
        for call in delta.calls:
            yield from self._called(call)

    def _into(self, kind: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Have an item of this kind open."""
        if self._open and self._items[-1].type == kind:
            return
        yield from self._close()
        item, self._open = self._add(kind, prefix), True
        yield "response.output_item.added", {"output_index": item.index, "item": item.shown(done=False)}
        if kind == "message":
            yield "response.content_part.added", self._at(part=_part(""))
        else:
            empty = {"type": "summary_text", "text": ""}
            yield "response.reasoning_summary_part.added", self._at(part=empty)

    def _filled(self, kind: str, text: str) -> tuple[str, dict[str, Any]]:
        self._items[-1].text += text
        logprobs: dict[str, Any] = {"logprobs": []} if self._items[-1].type == "message" else {}
        return kind, self._at(delta=text, **logprobs)

    def _at(self, **more: Any) -> dict[str, Any]:
        """Where in the answer the open item is."""
        item = self._items[-1]
        within = {"message": {"content_index": 0}, "reasoning": {"summary_index": 0}}.get(item.type, {})
        return {"item_id": item.id, "output_index": item.index, **within, **more}

    def _close(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if not self._open:
            return
        item, self._open = self._items[-1], False
        if item.type == "message":
            yield "response.output_text.done", self._at(text=item.text, logprobs=[])
            yield "response.content_part.done", self._at(part=_part(item.text))
        else:
            yield "response.reasoning_summary_text.done", self._at(text=item.text)
            part = {"type": "summary_text", "text": item.text}
            yield "response.reasoning_summary_part.done", self._at(part=part)
        yield "response.output_item.done", {"output_index": item.index, "item": item.shown(done=True)}

    def _called(self, call: ToolCall) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from self._close()
        item = self._add("function_call", "fc", call)
        yield "response.output_item.added", {"output_index": item.index, "item": item.shown(done=False)}
        yield "response.function_call_arguments.delta", self._at(delta=_arguments(call))
        yield "response.function_call_arguments.done", self._at(name=call.name, arguments=_arguments(call))
        yield "response.output_item.done", {"output_index": item.index, "item": item.shown(done=True)}


async def responses(service: GenerationService, x: Exchange) -> None:
    """`POST /v1/responses`."""
    body, name = x.body, fields.model_name(x.body)
    said, stream, think = response_messages(body), fields.flag(body, "stream", False), openai_think(body)
    if not any(message["role"] != "system" for message in said):
        raise WireError(400, "input is required")
    grammar = await asyncio.to_thread(response_grammar, body)
    shape = _ResponseFormat(name, body)
    target = await service.find_writing(name, "chat")
    given = response_tools(body)
    ask = ConversationRequest(
        target=target,
        messages=conversation(target, said),
        options=openai_options(target.served.parameters, body, _LIMITS),
        grammar=grammar,
        tools=await asyncio.to_thread(chosen_tools, given, _choice(body), target.facts.template),
        # a wish here: clients send it to every model
        think=think if target.facts.thinks else Think(),
    )
    x.failing = shape.failed
    await service.answer(ask, ask.options.num_ctx, None, x, shape, stream)


def _choice(body: Mapping[str, Any]) -> Any:
    """Of the tools; one that names what is no function of the client's is left to the model."""
    choice = body.get("tool_choice")
    if not isinstance(choice, dict) or fields.text(choice, "type") == "function":
        return choice
    return fields.text(choice, "mode", "auto") if fields.text(choice, "type") == "allowed_tools" else "auto"
