"""`ChatRequest`: what a client asks for, whichever API it came by, and `ChatReply`: what it was answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from membank_llama.memory.conversation_keys import text_of
from membank_llama.memory.prompt_injection import INSTRUCTING

from .person_text import said_in, without_instructions

MOST_TOKENS = 2**31 - 1
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MOST_MESSAGES = 50_000
IMAGE_CHARACTERS = 3000
"""What an image is taken to cost beside text."""
_IMAGES = ("image", "image_url", "input_image")

Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class RequestShape:
    """What a request has beside its messages.

    Args:
        tools: names of the tools it brings.
        schema: names of the fields of a JSON answer that it asks for; None where it asks for none.
        system: its instructions.
        forced: it has to be answered by a call of a tool.
        characters: of all that its messages' texts do not hold: instructions, tools, calls, results.
    """

    tools: tuple[str, ...] = ()
    schema: frozenset[str] | None = None
    system: str = ""
    forced: bool = False
    characters: int = 0


@dataclass(frozen=True)
class ChatRequest:
    """What a client asks, as messages.

    Args:
        messages: as the client has them.
        place: gives the body with such messages in place of the client's.
        said: of each message, what was said in it, under the role of whoever said it.
        raw: the one message is a prompt that was templated by the client.
        counts: its tokens are to be counted, not answered.
    """

    messages: list[dict[str, Any]]
    place: Callable[[list[dict[str, Any]]], Body]
    model: str
    n_ctx: int | None = None
    max_tokens: int | None = None
    raw: bool = False
    context: bytes | None = None
    said: Sequence[Mapping[str, Any]] = ()
    shape: RequestShape = field(default_factory=RequestShape)
    counts: bool = False


@dataclass(frozen=True)
class ChatReply:
    """What was answered: its text, whether the answer came to its end, Ollama's `context` of a generate call, and the
    arguments of the tools that it calls, as JSON."""

    text: str = ""
    whole: bool = False
    context: bytes | None = None
    calls: tuple[str, ...] = ()


def messages_of(body: Body) -> list[dict[str, Any]] | None:
    """The messages of a body; None where they are none."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= MOST_MESSAGES:
        return None
    if not all(isinstance(message, dict) and message.get("role") in ROLES for message in messages):
        return None
    return messages


def said_by_all(messages: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What each of the messages says, as OpenAI and Ollama have them."""
    given = list(messages)
    instructions = "\n\n".join(instructions_in(given))
    return in_turns([_said(message, instructions) for message in given])


def instructions_in(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """The texts of the messages that instruct."""
    return [text_of(m.get("content")) for m in messages if m.get("role") in INSTRUCTING]


def in_turns(said: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The same without turns that nobody had: made-up examples and answers to what a client says for itself; an answer
    behind which the result of a tool stands is a call of it."""
    switched = next((n for n, one in enumerate(said) if one.get("switches")), 0)
    made: list[Mapping[str, Any]] = []
    spoken = True
    for place, one in enumerate(said):
        role = one.get("role")
        if (place < switched and role in ("user", "assistant")) or (role == "assistant" and not spoken):
            made.append({**one, "role": "context", "content": ""})
        elif role == "tool" and made and made[-1].get("role") == "assistant":
            made[-1] = {**made[-1], "tool_calls": True}
            made.append(one)
        else:
            made.append(one)
        spoken = role != "context" if role in ("user", "assistant", "context", "tool") else spoken
    return made


def _said(message: Mapping[str, Any], instructions: str) -> Mapping[str, Any]:
    role = message.get("role")
    if role == "user":
        content = message.get("content")
        if instructions and isinstance(content, str):
            message = {**message, "content": without_instructions(content, instructions)}
        return said_in(message)
    if role == "assistant":
        calls = bool(message.get("tool_calls") or message.get("function_call"))
        return {"role": role, "content": text_of(message.get("content")), "tool_calls": calls}
    return {"role": role, "content": ""}


def shape_of(
    body: Body, schema: Any, system: Iterable[str], messages: Iterable[Mapping[str, Any]] = (), more: Any = None
) -> RequestShape:
    """The shape of a request.

    Args:
        body: with its tools, as any of the APIs has them.
        schema: what a JSON answer is asked for by, if one is.
        system: its instructions.
        messages: whose calls and results are counted.
        more: anything else that the model reads.
    """
    tools = body.get("tools") or body.get("functions")
    listed = tools if isinstance(tools, list) else []
    forced = len(listed) == 1 and body.get("tool_choice") not in (None, "auto", "none")
    if forced and schema is None:
        schema = _parameters(listed[0])
    characters = _size(listed) + _size(more) + sum(map(_beside_text, messages))
    return RequestShape(
        tools=tuple(_tool_name(tool) for tool in listed),
        schema=None if schema is None else _fields(schema),
        system="\n".join(text for text in system if text),
        forced=forced,
        characters=characters,
    )


def _described(tool: Any) -> Mapping[str, Any]:
    """What names and describes a tool, which some APIs wrap."""
    if not isinstance(tool, dict):
        return {}
    function = tool.get("function")
    return function if isinstance(function, dict) else tool


def _tool_name(tool: Any) -> str:
    named = _described(tool)
    return str(named.get("name") or named.get("type") or "")


def _parameters(tool: Any) -> Any:
    """The schema of a tool's arguments."""
    named = _described(tool)
    return named.get("parameters") or named.get("input_schema")


def _fields(schema: Any) -> frozenset[str]:
    """The names of the fields in a schema, whatever it is wrapped in."""
    for _ in range(4):
        if not isinstance(schema, dict):
            break
        if isinstance(schema.get("properties"), dict):
            return frozenset(map(str, schema["properties"]))
        schema = schema.get("schema") or schema.get("json_schema") or schema.get("format")
    return frozenset()


def _beside_text(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    size = _size(message.get("tool_calls") or message.get("arguments") or message.get("output"))
    if not isinstance(content, list):
        return size
    for part in content:
        if isinstance(part, dict) and part.get("type") in _IMAGES:
            size += IMAGE_CHARACTERS
        elif not isinstance(part, dict) or "text" not in part:
            size += _size(part)
    return size


def _size(value: Any) -> int:
    """Characters of something as JSON."""
    if not value:
        return 0
    return len(value) if isinstance(value, str) else len(json.dumps(value, ensure_ascii=False))


def token_limit(value: Any) -> int | None:
    """A number of tokens; None where it is none that a context could have."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS else None
