"""Anthropic's Messages API, read as messages and written back.

A user's message may hold results of tools ahead of its text, or nothing else: then it is no turn of the person. What is
put into one is a part of its own ahead of the words; instructions and parts with ``cache_control`` stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from membank_llama.memory.conversation_keys import text_of

from .client_request import Body, ChatRequest, in_turns, messages_of, shape_of, token_limit
from .person_text import said_in


def open_anthropic(body: Body, model: str) -> ChatRequest | None:
    """A call of `/v1/messages`; None where its messages are none."""
    messages = messages_of(body)
    if messages is None:
        return None
    output = body.get("output_config") or body.get("output_format")
    return ChatRequest(
        messages,
        lambda told: {**body, "messages": told},
        model,
        None,
        token_limit(body.get("max_tokens")),
        said=in_turns([_said(message) for message in messages]),
        shape=shape_of(body, output or None, [text_of(body.get("system"))], messages, body.get("system")),
    )


def _said(message: Mapping[str, Any]) -> Mapping[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role == "user":
        said = said_in(message)
        if said["role"] == "context" and "tool_result" in _kinds(content):
            return {**said, "role": "tool"}
        return said
    if role == "assistant":
        return {"role": role, "content": text_of(content), "tool_calls": "tool_use" in _kinds(content)}
    return {"role": role, "content": ""}


def _kinds(content: Any) -> set[Any]:
    return {part.get("type") for part in content if isinstance(part, dict)} if isinstance(content, list) else set()
