"""Ollama's own API for what is written: `/api/chat` and `/api/generate`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from ...asgi import WireError
from .. import durations, fields
from ..exchange import NDJSON, Exchange
from ..generation import grammars
from ..generation.answer import Delta
from ..generation.conversation_request import ConversationRequest, RawRequest, RequestedModel, conversation
from ..generation.decode import PromptCount, Tally
from ..generation.logprobs import check_alternatives
from ..generation.message_format import template_messages
from ..generation.reasoning import Think
from ..generation.sampling_options import SamplingOptions, resolve
from ..generation.tool_calls import Tools, style_of
from ..runtime.generation_service import GenerationService

_PLAIN_TEMPLATE = "{{.Prompt}}"


@dataclass
class _ChatFormat:
    """How `/api/chat` writes an answer: a message, then what it took."""

    name: str
    began: int = field(default_factory=time.perf_counter_ns)
    kind: str = NDJSON

    def _said(self, delta: Delta) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": delta.content}
        if delta.thinking:
            message["thinking"] = delta.thinking
        if delta.calls:
            message["tool_calls"] = [
                {"id": call.id, "function": {"index": n, "name": call.name, "arguments": call.arguments}}
                for n, call in enumerate(delta.calls)
            ]
        return {"message": message}

    def _context(self, tally: Tally) -> dict[str, Any]:
        return {}

    def begin(self, _: PromptCount) -> list[Any]:
        return []

    def piece(self, delta: Delta) -> list[Any]:
        head = {"model": self.name, "created_at": durations.now(), **self._said(delta), "done": False}
        return [head | _likely(delta)]

    def last(self, tally: Tally, load_ns: int) -> list[Any]:
        return [self.whole(Delta(), tally, load_ns)]

    def whole(self, delta: Delta, tally: Tally, load_ns: int) -> Any:
        return {
            "model": self.name,
            "created_at": durations.now(),
            **self._said(delta),
            "done": True,
            "done_reason": tally.reason,
            **self._context(tally),
            "total_duration": time.perf_counter_ns() - self.began,
            "load_duration": load_ns,
            "prompt_eval_count": len(tally.prompt),
            "prompt_eval_duration": tally.prompt_ns,
            "eval_count": len(tally.tokens),
            "eval_duration": tally.eval_ns,
            # what Ollama does not tell: how much of the prompt was there already
            "membank": {"cached_tokens": tally.cached_tokens},
            **_likely(delta),
        }

    def idle(self, reason: str) -> Any:
        """The answer to a request that only loads or unloads."""
        said = self._said(Delta())
        return {"model": self.name, "created_at": durations.now(), **said, "done": True, "done_reason": reason}


@dataclass
class _GenerateFormat(_ChatFormat):
    """`/api/generate` has its text at the top, and the tokens of it all at the end, unless it was raw."""

    raw: bool = False

    def _said(self, delta: Delta) -> dict[str, Any]:
        return {"response": delta.content} | ({"thinking": delta.thinking} if delta.thinking else {})

    def _context(self, tally: Tally) -> dict[str, Any]:
        return {} if self.raw else {"context": [*tally.prompt, *tally.tokens]}


def _likely(delta: Delta) -> dict[str, Any]:
    return {"logprobs": [one.shown() for one in delta.logprobs]} if delta.logprobs else {}


@dataclass(frozen=True)
class _Common:
    """What every request says beside its words."""

    target: RequestedModel
    options: SamplingOptions
    keep_alive: float | None
    stream: bool
    think: Think
    grammar: str | None
    truncate: bool
    alternatives: int | None


async def _common(service: GenerationService, x: Exchange, verb: str) -> _Common:
    body = x.body
    name = fields.model_name(body)
    stream, keep_alive = fields.flag(body, "stream", True), durations.keep_alive(body.get("keep_alive"))
    think, given = _think(body.get("think")), fields.mapping(body, "options")
    truncate = fields.flag(body, "truncate", True)
    # an answer ends where its context does: what was said before is not pushed out for it
    fields.flag(body, "shift", True)
    likely = check_alternatives(fields.flag(body, "logprobs", False), fields.integer(body, "top_logprobs"))
    grammar = await asyncio.to_thread(grammars.of_format, body.get("format"))
    target = await service.find_writing(name, verb)
    think.check(target.facts, name)
    options = resolve(target.served.parameters, given)
    return _Common(target, options, keep_alive, stream, think, grammar, truncate, likely)


def _think(value: Any) -> Think:
    """From a request's `think`; of Ollama's levels, no template of ours knows the highest."""
    return Think.parse("high" if value == "max" else value)


async def _idle(service: GenerationService, x: Exchange, shape: _ChatFormat, common: _Common) -> None:
    """Load, or unload, where there is nothing to answer."""
    if common.keep_alive == 0:
        service.unload(common.target)
        await x.reply(shape.idle("unload"))
        return
    await service.load(common.target, common.options.num_ctx, common.keep_alive)
    await x.reply(shape.idle("load"))


async def chat(service: GenerationService, x: Exchange) -> None:
    """`POST /api/chat`."""
    shape = _ChatFormat(fields.text(x.body, "model"))
    said = template_messages(fields.objects(x.body, "messages"))
    given = fields.objects(x.body, "tools")
    common = await _common(service, x, "chat")
    target = common.target
    if not said:
        await _idle(service, x, shape, common)
        return
    tools = await asyncio.to_thread(Tools, given, style_of(target.facts.template)) if given else None
    ask = ConversationRequest(
        target=target,
        messages=conversation(target, said),
        options=common.options,
        grammar=common.grammar,
        tools=tools,
        think=common.think,
        truncate=common.truncate,
        alternatives=common.alternatives,
    )
    await service.answer(ask, common.options.num_ctx, common.keep_alive, x, shape, common.stream)


async def generate(service: GenerationService, x: Exchange) -> None:
    """`POST /api/generate`."""
    body = x.body
    raw, prompt, suffix = (
        fields.flag(body, "raw", False),
        fields.text(body, "prompt"),
        fields.text(body, "suffix"),
    )
    system, template, context = (
        fields.text(body, "system"),
        fields.text(body, "template"),
        _context(body),
    )
    shape = _GenerateFormat(fields.text(body, "model"), raw=raw)
    if raw and (system or template or context):
        raise WireError(400, "raw mode does not support template, system, or context")
    if template and "".join(template.split()) != _PLAIN_TEMPLATE:
        raise WireError(
            400, 'templates in Go\'s language are not run here; leave "template" out, or send the prompt raw'
        )
    if body.get("images"):
        raise WireError(400, "this model does not support images")
    common = await _common(service, x, "generate")
    if not prompt and not suffix:
        await _idle(service, x, shape, common)
        return
    if raw or template or suffix:
        ask = _continued(common, prompt, suffix, context)
    else:
        ask = _spoken(common, prompt, system, context)
    await service.answer(ask, common.options.num_ctx, common.keep_alive, x, shape, common.stream)


def _continued(common: _Common, prompt: str, suffix: str, context: list[int]) -> ConversationRequest | RawRequest:
    """Text to go on with as it is."""
    return RawRequest(
        target=common.target,
        prompt=prompt,
        options=common.options,
        grammar=common.grammar,
        suffix=suffix,
        before=context,
        alternatives=common.alternatives,
    )


def _spoken(common: _Common, prompt: str, system: str, context: list[int]) -> ConversationRequest:
    """A prompt as what a person says."""
    said = [{"role": "user", "content": prompt}]
    return ConversationRequest(
        target=common.target,
        messages=conversation(common.target, said, system=system, fresh=not context),
        options=common.options,
        grammar=common.grammar,
        think=common.think,
        before=context,
        truncate=common.truncate,
        alternatives=common.alternatives,
    )


def _context(body: Any) -> list[int]:
    context = body.get("context")
    if context is None:
        return []
    if not isinstance(context, list) or not all(isinstance(n, int) and not isinstance(n, bool) for n in context):
        raise WireError(400, '"context" must be a list of integers')
    return context
