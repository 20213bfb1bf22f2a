"""OpenAI's Responses API, read as messages and written back: every item of the input is a message of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from membank_llama.memory.conversation_keys import text_of

from .client_request import MOST_MESSAGES, ROLES, Body, ChatRequest, in_turns, instructions_in, shape_of, token_limit
from .person_text import said_in

_TEXTS = ("input_text", "text")


def open_responses(body: Body, model: str) -> ChatRequest | None:
    """A call of `/v1/responses`; None where its input is none."""
    given, most = body.get("input"), token_limit(body.get("max_output_tokens"))
    instructions = body.get("instructions")
    instructions = instructions if isinstance(instructions, str) else ""
    wanted = _format(body)
    if isinstance(given, str) and given.strip():
        alone = [{"role": "user", "content": given}]
        return ChatRequest(
            alone,
            lambda told: {**body, "input": told[0]["content"]},
            model,
            None,
            most,
            said=[said_in(alone[0])],
            shape=shape_of(body, wanted, [instructions], (), instructions),
        )
    if not isinstance(given, list) or not 0 < len(given) <= MOST_MESSAGES or not all(map(_is_item, given)):
        return None
    return ChatRequest(
        given,
        lambda told: {**body, "input": told},
        model,
        None,
        most,
        said=in_turns([_said(item) for item in given]),
        shape=shape_of(body, wanted, [instructions, *instructions_in(given)], given, instructions),
    )


def _is_item(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    return item.get("role") in ROLES if "role" in item else isinstance(item.get("type"), str)


def _said(item: Mapping[str, Any]) -> Mapping[str, Any]:
    role, kind = item.get("role"), str(item.get("type") or "message")
    if role == "user":
        return said_in(item, _TEXTS)
    if role == "assistant":
        return {"role": role, "content": text_of(item.get("content"))}
    if kind.endswith("_call"):
        return {"role": "assistant", "content": "", "tool_calls": True}
    return {"role": "tool" if kind.endswith("_output") else "context", "content": ""}


def _format(body: Body) -> Any:
    text = body.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    return wanted if isinstance(wanted, dict) and wanted.get("type") in ("json_schema", "json_object") else None
