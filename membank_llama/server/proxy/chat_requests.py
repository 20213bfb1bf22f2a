"""The four ways in which a client asks for text, read as messages and written back.

`open_request` takes apart what it understands and nothing else: a body in which anything is not as the API's
documentation has it goes on untouched, and so does a call that has no user who asks (loading a model, filling in the
middle of code).

Some calls a client makes for itself: a title for the chat, tags, suggestions. They hold the conversation again or no
user at all, so they leave no memory and get none. They are known by how the clients word them; a person who asks for a
title in words of their own is answered as always.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from membank_llama.memory.conversation_keys import text_of

MOST_TOKENS = 2**31 - 1
ROLES = ("system", "developer", "user", "assistant", "tool")

_MOST_MESSAGES = 50_000
_BEGINNING = 600

_WORDED = re.compile(
    "|".join(
        (
            # Open WebUI: title, tags, follow-ups, search queries, image prompts, autocompletion, emoji
            r"\A### Task:\s*\n(?:Generate|Suggest|Analyze|Create|You are an autocompletion|Your task is to reflect)",
            r"\A### Task:.*?<chat_history>",
            r"\ABased on the chat history, determine whether a search is necessary",
            r"\AAvailable Tools: .*Return .* JSON",
            r"\AYour task is to reflect the speaker's likely facial expression",
            # LibreChat, LobeChat, Chatbox, Continue and others: names for a conversation
            r"\A(?:Please )?(?:provide|generate|create|write|give)\b[^.\n]{0,60}\b(?:title|name|headline)\b"
            r"[^.\n]{0,40}\b(?:conversation|chat|dialogue|thread|session)\b",
            r"\ABased on the (?:chat history|conversation)[^.\n]{0,80}\b(?:title|name)\b",
            r"\ASummari[sz]e (?:the|this|our) (?:conversation|chat|dialogue)\b[^.\n]{0,40}\b(?:title|words)\b",
            r"\AGiven the following[^.\n]{0,60}(?:please )?reply with a title for the chat",
        )
    ),
    re.DOTALL | re.IGNORECASE,
)
_INFILL = re.compile(
    r"<\|?fim[_▁-]?(?:prefix|begin|suffix|hole|middle|end)\|?>|<｜fim▁\w+｜>|<PRE> |\[SUFFIX\]|\[PREFIX\]"
)

Body = dict[str, Any]


@dataclass(frozen=True)
class ChatRequest:
    """What a client asks, as messages.

    `place` gives the body with these messages in place of the client's. `raw`: the one message is a prompt that was
    templated by the client.
    """

    messages: list[dict[str, Any]]
    place: Callable[[list[dict[str, Any]]], Body]
    model: str
    n_ctx: int | None = None
    max_tokens: int | None = None
    raw: bool = False
    context: bytes | None = None


@dataclass(frozen=True)
class ChatReply:
    """What was answered: its text, whether the answer came to its end, and Ollama's `context` of a generate call."""

    text: str = ""
    whole: bool = False
    context: bytes | None = None


def open_request(path: str, body: Body) -> ChatRequest | None:
    """The question in a request; None where memory has no part in it."""
    opener = _OPENERS.get(path)
    model = body.get("model")
    return None if opener is None or not isinstance(model, str) else opener(body, model)


def is_auxiliary(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nobody but the client itself asks this."""
    users = [message for message in messages if message.get("role") == "user"]
    if len(users) != 1:
        return False
    text = text_of(users[0].get("content")).lstrip()
    return bool(_WORDED.search(text[:_BEGINNING]) or _INFILL.search(text))


def _ollama_chat(body: Body, model: str) -> ChatRequest | None:
    messages = _messages(body)
    if messages is None or not all(isinstance(m.get("content", ""), str) for m in messages):
        return None
    return ChatRequest(messages, lambda told: {**body, "messages": told}, model, *_limits(body))


def _openai_chat(body: Body, model: str) -> ChatRequest | None:
    messages = _messages(body)
    if messages is None:
        return None
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    return ChatRequest(messages, lambda told: {**body, "messages": told}, model, None, _count(most))


def _generate(body: Body, model: str) -> ChatRequest | None:
    prompt, context = body.get("prompt"), body.get("context")
    if not isinstance(prompt, str) or not prompt.strip() or body.get("suffix"):
        return None
    history = json.dumps(context, separators=(",", ":")).encode() if context else None
    return ChatRequest(
        [{"role": "user", "content": prompt}],
        lambda told: {**body, "prompt": told[-1]["content"]},
        model,
        *_limits(body),
        raw=body.get("raw") is True,
        context=history,
    )


def _completions(body: Body, model: str) -> ChatRequest | None:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip() or body.get("suffix") or body.get("echo"):
        return None
    return ChatRequest(
        [{"role": "user", "content": prompt}],
        lambda told: {**body, "prompt": told[-1]["content"]},
        model,
        None,
        _count(body.get("max_tokens")),
    )


_OPENERS: Mapping[str, Callable[[Body, str], ChatRequest | None]] = {
    "/api/chat": _ollama_chat,
    "/api/generate": _generate,
    "/v1/chat/completions": _openai_chat,
    "/v1/completions": _completions,
}
GENERATION_PATHS = frozenset(_OPENERS)
"""Where text is asked for: calls to these may have a memory."""


def _messages(body: Body) -> list[dict[str, Any]] | None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= _MOST_MESSAGES:
        return None
    if not all(isinstance(message, dict) and message.get("role") in ROLES for message in messages):
        return None
    return messages


def _limits(body: Body) -> tuple[int | None, int | None]:
    options = body.get("options")
    if not isinstance(options, dict):
        return None, None
    return _count(options.get("num_ctx")), _count(options.get("num_predict"))


def _count(value: Any) -> int | None:
    """A number of tokens; None where it is none that a context could have."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS else None
