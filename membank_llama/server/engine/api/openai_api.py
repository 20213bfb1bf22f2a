"""OpenAI's API over the same answers: a translation of requests and of what comes back, nothing more."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...asgi import WireError
from .. import fields
from ..exchange import SSE, Exchange
from ..generation import grammars
from ..generation.answer import Delta
from ..generation.conversation_request import ConversationRequest, RawRequest, conversation
from ..generation.decode import PromptCount, Tally
from ..generation.logprobs import check_alternatives
from ..generation.message_format import template_messages
from ..generation.reasoning import Think
from ..generation.sampling_options import SamplingOptions, resolve
from ..generation.tool_calls import ToolCall, Tools, style_of
from ..runtime.generation_service import GenerationService

_DONE = b"[DONE]"
_SAME = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "stop")


@dataclass
class _ChatFormat:
    """What chat and completions share."""

    name: str
    usage: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    created: int = field(default_factory=lambda: int(time.time()))
    kind: str = SSE
    object: str = "chat.completion"
    prefix: str = "chatcmpl"
    called: int = 0

    def _frame(self, choices: list[Any], *, chunk: bool) -> dict[str, Any]:
        made = self.object + (".chunk" if chunk and self.object == "chat.completion" else "")
        return {
            "id": f"{self.prefix}-{self.id}",
            "object": made,
            "created": self.created,
            "model": self.name,
            "system_fingerprint": "fp_ollama",
            "choices": choices,
        }

    def _said(self, delta: Delta) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": delta.content}
        if delta.thinking:
            message["reasoning"] = delta.thinking
        if delta.calls:
            message["tool_calls"] = [_call(call, self.called + n) for n, call in enumerate(delta.calls)]
            self.called += len(delta.calls)
        return message

    def _choice(self, delta: Delta, reason: str | None, *, chunk: bool) -> dict[str, Any]:
        made = {"index": 0, "delta" if chunk else "message": self._said(delta), "finish_reason": reason}
        likely = [one.shown() for one in delta.logprobs]
        return made | ({"logprobs": {"content": likely, "refusal": None}} if likely else {})

    def _reason(self, tally: Tally) -> str:
        return "tool_calls" if self.called else tally.reason

    def begin(self, _: PromptCount) -> list[Any]:
        return []

    def piece(self, delta: Delta) -> list[Any]:
        frame = self._frame([self._choice(delta, None, chunk=True)], chunk=True)
        return [frame | ({"usage": None} if self.usage else {})]

    def last(self, tally: Tally, load_ns: int) -> list[Any]:
        pieces: list[Any] = [self._frame([self._choice(Delta(), self._reason(tally), chunk=True)], chunk=True)]
        if self.usage:
            pieces.append(self._frame([], chunk=True) | {"usage": _usage(tally)})
        return [*pieces, _DONE]

    def whole(self, delta: Delta, tally: Tally, load_ns: int) -> Any:
        choice = self._choice(delta, None, chunk=False)
        choice["finish_reason"] = self._reason(tally)
        return self._frame([choice], chunk=False) | {"usage": _usage(tally)}


@dataclass
class _CompletionFormat(_ChatFormat):
    """`/v1/completions`: bare text, after the prompt where that was asked for."""

    object: str = "text_completion"
    prefix: str = "cmpl"
    echo: str = ""

    def _choice(self, delta: Delta, reason: str | None, *, chunk: bool) -> dict[str, Any]:
        text, self.echo = self.echo + delta.content, ""
        return {"text": text, "index": 0, "logprobs": None, "finish_reason": reason}


def _usage(tally: Tally) -> dict[str, Any]:
    prompt, answer = len(tally.prompt), len(tally.tokens)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": tally.cached_tokens},
    }


def _call(call: ToolCall, index: int) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "index": index, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def openai_options(
    parameters: Mapping[str, Any],
    body: Mapping[str, Any],
    limits: Sequence[str] = ("max_completion_tokens", "max_tokens"),
) -> SamplingOptions:
    """The options of a request, whose longest answer is under the first of `limits` that it has.

    Raises:
        WireError: a value is of the wrong type or out of range.
    """
    given: dict[str, Any] = {name: body[name] for name in _SAME if body.get(name) is not None}
    limit = next((found for name in limits if (found := fields.integer(body, name)) is not None), None)
    if limit is not None:
        given["num_predict"] = limit
    # OpenAI's defaults, which Ollama keeps to on this API unless the Modelfile says otherwise
    return resolve({"temperature": 1.0, "top_p": 1.0, **parameters}, given)


def _format(body: Mapping[str, Any]) -> str | None:
    wanted = fields.mapping(body, "response_format")
    kind = fields.text(wanted, "type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return grammars.of_format("json")
    if kind == "json_schema":
        return grammars.of_schema(fields.mapping(fields.mapping(wanted, "json_schema"), "schema"))
    raise WireError(400, f"response_format must be text, json_object or json_schema, not {kind[:40]!r}")


def openai_think(body: Mapping[str, Any]) -> Think:
    """How much is to be thought, from a request's effort.

    Raises:
        WireError: an effort that does not exist.
    """
    effort = fields.text(fields.mapping(body, "reasoning"), "effort") or fields.text(body, "reasoning_effort")
    if not effort:
        return Think()
    if effort in ("none", "minimal"):
        return Think(False)
    return Think.parse("high" if effort in ("xhigh", "max") else effort)


def chosen_tools(given: Sequence[Mapping[str, Any]], choice: Any, template: str | None) -> Tools | None:
    """The tools of a request, and whether one of them has to be called.

    Raises:
        WireError: the choice is none of those that there are, or a tool is malformed.
    """
    if not given or choice == "none":
        return None
    only: str | None = None
    if isinstance(choice, dict):
        only = fields.text(fields.mapping(choice, "function"), "name") or fields.text(choice, "name")
    elif choice not in (None, "auto", "required", "any"):
        raise WireError(400, "tool_choice must be none, auto, required, or name a function")
    return Tools(given, style_of(template), forced=bool(only) or choice in ("required", "any"), only=only)


def _wants_usage(body: Mapping[str, Any]) -> bool:
    return fields.flag(fields.mapping(body, "stream_options"), "include_usage", False)


async def chat_completions(service: GenerationService, x: Exchange) -> None:
    """`POST /v1/chat/completions`."""
    body, name = x.body, fields.model_name(x.body)
    said, stream = template_messages(fields.objects(body, "messages")), fields.flag(body, "stream", False)
    if not said:
        raise WireError(400, "[] is too short - 'messages'")
    shape, think = _ChatFormat(name, usage=_wants_usage(body)), openai_think(body)
    likely = check_alternatives(fields.flag(body, "logprobs", False), fields.integer(body, "top_logprobs"))
    grammar = await asyncio.to_thread(_format, body)
    target = await service.find_writing(name, "chat")
    ask = ConversationRequest(
        target=target,
        messages=conversation(target, said),
        options=openai_options(target.served.parameters, body),
        grammar=grammar,
        tools=await asyncio.to_thread(
            chosen_tools, fields.objects(body, "tools"), body.get("tool_choice"), target.facts.template
        ),
        # an effort is a wish here: clients send it to every model
        think=think if target.facts.thinks else Think(),
        alternatives=likely,
    )
    await service.answer(ask, ask.options.num_ctx, None, x, shape, stream)


async def completions(service: GenerationService, x: Exchange) -> None:
    """`POST /v1/completions`: the prompt as it is, without a template."""
    body, name = x.body, fields.model_name(x.body)
    prompt, suffix = body.get("prompt"), fields.text(body, "suffix")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise WireError(400, "prompt must be a string")
    echo = prompt if fields.flag(body, "echo", False) else ""
    shape, stream = _CompletionFormat(name, usage=_wants_usage(body), echo=echo), fields.flag(body, "stream", False)
    target = await service.find_writing(name, "generate")
    ask = RawRequest(target, prompt, openai_options(target.served.parameters, body), None, suffix)
    await service.answer(ask, ask.options.num_ctx, None, x, shape, stream)


async def list_models(service: GenerationService, x: Exchange) -> None:
    """`GET /v1/models`."""
    served = sorted(await asyncio.to_thread(service.catalogue.models), key=lambda one: -one.modified_at)
    await x.reply({"object": "list", "data": [_model(one.name, one.modified_at) for one in served]})


async def retrieve_model(service: GenerationService, x: Exchange) -> None:
    """`GET /v1/models/{model}`."""
    name = x.path.removeprefix("/v1/models/")
    target = await service.find(name)
    await x.reply(_model(name, target.served.modified_at))


def _model(name: str, modified_at: float) -> dict[str, Any]:
    owner = name.rpartition("/")[0] or "library"
    return {"id": name, "object": "model", "created": int(modified_at), "owned_by": owner}
