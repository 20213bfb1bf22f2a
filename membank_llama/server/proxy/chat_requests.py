"""The ways in which a client asks for text, read as messages and written back.

`open_request` takes apart what it understands and nothing else: a body in which anything is not as the API's
documentation has it goes on untouched, and so does a call that has no user who asks (loading a model, filling in the
middle of code). The routes are those of Ollama, OpenAI, Anthropic, LM Studio and llama-server, which has them with and
without ``/v1``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from membank_llama.memory.raw_prompts import find_user_turn

from .anthropic_requests import open_anthropic
from .client_request import Body, ChatRequest, instructions_in, messages_of, said_by_all, shape_of, token_limit
from .responses_requests import open_responses


def open_request(path: str, body: Body) -> ChatRequest | None:
    """The question in a request; None where memory has no part in it."""
    opener = _OPENERS.get(path)
    # llama-server has one model and asks for no name
    model = body.get("model", "")
    return None if opener is None or not isinstance(model, str) else opener(body, model)


def _ollama_chat(body: Body, model: str) -> ChatRequest | None:
    messages = messages_of(body)
    if messages is None or not all(isinstance(m.get("content") or "", str) for m in messages):
        return None
    shape = shape_of(body, _ollama_format(body), instructions_in(messages), messages)
    return ChatRequest(
        messages,
        lambda told: {**body, "messages": told},
        model,
        *_limits(body),
        said=said_by_all(messages),
        shape=shape,
    )


def _openai_chat(body: Body, model: str) -> ChatRequest | None:
    messages = messages_of(body)
    if messages is None:
        return None
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    wanted = body.get("response_format")
    schema = wanted if isinstance(wanted, dict) and wanted.get("type") in ("json_schema", "json_object") else None
    shape = shape_of(body, schema, instructions_in(messages), messages)
    return ChatRequest(
        messages,
        lambda told: {**body, "messages": told},
        model,
        None,
        token_limit(most),
        said=said_by_all(messages),
        shape=shape,
    )


def _generate(body: Body, model: str) -> ChatRequest | None:
    prompt, context = body.get("prompt"), body.get("context")
    if not isinstance(prompt, str) or not prompt.strip() or body.get("suffix"):
        return None
    history = json.dumps(context, separators=(",", ":")).encode() if context else None
    raw = body.get("raw") is True
    system = body.get("system")
    alone = [{"role": "user", "content": prompt}]
    return ChatRequest(
        alone,
        lambda told: {**body, "prompt": told[-1]["content"]},
        model,
        *_limits(body),
        raw=raw,
        context=history,
        said=_said_in_raw(prompt) if raw else said_by_all(alone),
        shape=shape_of({}, _ollama_format(body), [system] if isinstance(system, str) else ()),
    )


def _completions(body: Body, model: str) -> ChatRequest | None:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip() or body.get("suffix") or body.get("echo"):
        return None
    alone = [{"role": "user", "content": prompt}]
    most = body.get("max_tokens", body.get("n_predict"))
    raw = find_user_turn(prompt).start > 0
    return ChatRequest(
        alone,
        lambda told: {**body, "prompt": told[-1]["content"]},
        model,
        None,
        token_limit(most),
        raw=raw,
        said=_said_in_raw(prompt) if raw else alone,
    )


def _said_in_raw(prompt: str) -> list[dict[str, Any]]:
    """The newest turn in a prompt that a client has templated; nothing where it follows no template."""
    found = find_user_turn(prompt)
    return [{"role": "user", "content": found.text.strip()} if found.start else {"role": "context", "content": ""}]


def _counted(body: Body, model: str) -> ChatRequest | None:
    request = open_anthropic(body, model)
    return None if request is None else replace(request, counts=True)


_OPENERS: Mapping[str, Callable[[Body, str], ChatRequest | None]] = {
    "/api/chat": _ollama_chat,
    "/api/generate": _generate,
    **dict.fromkeys(("/v1/chat/completions", "/chat/completions", "/api/v0/chat/completions"), _openai_chat),
    **dict.fromkeys(("/v1/completions", "/completions", "/completion", "/api/v0/completions"), _completions),
    **dict.fromkeys(("/v1/messages", "/messages"), open_anthropic),
    **dict.fromkeys(("/v1/messages/count_tokens", "/messages/count_tokens"), _counted),
    **dict.fromkeys(("/v1/responses", "/responses"), open_responses),
}
GENERATION_PATHS = frozenset(_OPENERS)
"""Where text is asked for: calls to these may have a memory."""


def _ollama_format(body: Body) -> Any:
    return body.get("format") or None


def _limits(body: Body) -> tuple[int | None, int | None]:
    options = body.get("options")
    if not isinstance(options, dict):
        return None, None
    return token_limit(options.get("num_ctx")), token_limit(options.get("num_predict"))
