"""`/completion` as llama.cpp's own server has it: a prompt as it is, and text that goes on from it.

Its other routes without `/v1` are those of OpenAI and Anthropic, and are answered by them. A model need not be named
where only one is served.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from ...asgi import WireError
from .. import fields
from ..exchange import SSE, Exchange
from ..generation import grammars
from ..generation.answer import Delta
from ..generation.conversation_request import RawRequest
from ..generation.decode import PromptCount, Tally
from ..generation.sampling_options import resolve
from ..runtime.generation_service import GenerationService

_SAME = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "repeat_last_n", "presence_penalty",
    "frequency_penalty", "mirostat", "mirostat_tau", "mirostat_eta", "seed", "stop",
)  # fmt: skip


@dataclass
class _TextFormat:
    """Text at the top; at its end, why it ended and what it took."""

    name: str
    kind: str = SSE

    def begin(self, _: PromptCount) -> list[Any]:
        return []

    def piece(self, delta: Delta) -> list[Any]:
        return [{"index": 0, "content": delta.content, "stop": False}] if delta.content else []

    def last(self, tally: Tally, load_ns: int) -> list[Any]:
        return [self.whole(Delta(), tally, load_ns)]

    def whole(self, delta: Delta, tally: Tally, load_ns: int) -> Any:
        kind = "limit" if tally.reason == "length" else "word" if tally.stopped_at else "eos"
        return {
            "index": 0,
            "content": delta.content,
            "stop": True,
            "model": self.name,
            "stop_type": kind,
            "stopping_word": tally.stopped_at,
            "truncated": False,
            "tokens_predicted": len(tally.tokens),
            "tokens_evaluated": len(tally.prompt),
            "tokens_cached": len(tally.prompt) + len(tally.tokens),
            "timings": _timings(tally),
        }


def _timings(tally: Tally) -> dict[str, Any]:
    made: dict[str, Any] = {"cache_n": tally.cached_tokens}
    for name, count, spent_ns in (
        ("prompt", tally.fresh_tokens, tally.prompt_ns),
        ("predicted", len(tally.tokens), tally.eval_ns),
    ):
        spent = spent_ns / 1e6
        made |= {
            f"{name}_n": count,
            f"{name}_ms": spent,
            f"{name}_per_token_ms": spent / max(count, 1),
            f"{name}_per_second": 1000.0 * count / spent if spent else 0.0,
        }
    return made


async def completion(service: GenerationService, x: Exchange) -> None:
    """`POST /completion`."""
    body = x.body
    prompt, stream = body.get("prompt"), fields.flag(body, "stream", False)
    if not isinstance(prompt, str):
        raise WireError(400, '"prompt" must be a string')
    if body.get("grammar"):
        raise WireError(400, '"grammar" is not taken here; say what the answer is to be in "json_schema"')
    options = {name: body[name] for name in _SAME if body.get(name) is not None}
    limit = fields.integer(body, "n_predict")
    if limit is not None:
        options["num_predict"] = limit
    schema = fields.mapping(body, "json_schema")
    grammar = await asyncio.to_thread(grammars.of_schema, schema) if schema else None
    name = fields.text(body, "model") or await _only(service)
    target = await service.find_writing(name, "completion")
    ask = RawRequest(target, prompt, resolve(target.served.parameters, options), grammar)
    await service.answer(ask, ask.options.num_ctx, None, x, _TextFormat(name), stream)


async def _only(service: GenerationService) -> str:
    """The one model that is served."""
    served = await asyncio.to_thread(service.catalogue.models)
    if len(served) != 1:
        raise WireError(400, "model is required")
    return served[0].name
