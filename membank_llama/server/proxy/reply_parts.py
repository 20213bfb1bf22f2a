"""One part of an answer, in any of the APIs: what it says, what it calls, and whether it is the last."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

Part: TypeAlias = Mapping[str, Any]
Calls: TypeAlias = tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class ReplyPart:
    """What one part of an answer adds to it.

    Args:
        text: of the answer, without thoughts.
        whole: it says that the answer has come to its end.
        last: nothing comes after it.
        calls: pieces of the arguments of tools that are called, each with its call's number.
    """

    text: str = ""
    whole: bool = False
    last: bool = False
    calls: Calls = ()


@dataclass(frozen=True)
class PromptTokens:
    """What a llama-server says of a request: tokens of its prompt that were in the cache, those that were read, and
    those that were said."""

    cached: int
    evaluated: int
    said: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.cached + self.evaluated + self.said


def tokens_of(part: Part, before: PromptTokens | None) -> PromptTokens | None:
    """What a part of an answer says of that, after those before it."""
    if "timings" in part:
        told = _mapping(part["timings"])
        cached, evaluated, said = (_number(told.get(name), -1) for name in ("cache_n", "prompt_n", "predicted_n"))
        return PromptTokens(cached, evaluated, said) if min(cached, evaluated, said) >= 0 else before
    usage = _mapping(part.get("usage") or _mapping(part.get("message")).get("usage"))
    if not usage or "choices" in part:
        return before
    asked, said = _number(usage.get("input_tokens"), -1), _number(usage.get("output_tokens"), 0)
    details = usage.get("input_tokens_details")
    if isinstance(details, dict):
        # OpenAI counts what was in the cache among what was asked, Anthropic beside it
        cached = _number(details.get("cached_tokens"), 0)
        return PromptTokens(cached, asked - cached, said)
    if asked >= 0 and "cache_read_input_tokens" in usage:
        return PromptTokens(_number(usage["cache_read_input_tokens"], 0), asked, said)
    return before if before is None else replace(before, said=said)


def reader_of(path: str) -> Callable[[Part], ReplyPart]:
    """What reads the parts of the answers to a path."""
    if path == "/api/generate":
        return _generated
    if path == "/api/chat":
        return _ollama_chat
    if path in ("/completion", "/completions"):
        return _llama_server
    if path.endswith("/messages"):
        return _anthropic
    return _responses if path.endswith("/responses") else _openai


def _generated(part: Part) -> ReplyPart:
    done = part.get("done") is True
    return ReplyPart(_text(part.get("response")), done, done)


def _ollama_chat(part: Part) -> ReplyPart:
    message = _mapping(part.get("message"))
    calls = enumerate(_objects(message.get("tool_calls")))
    done = part.get("done") is True
    made = tuple((n, json.dumps(_mapping(call.get("function")).get("arguments"))) for n, call in calls)
    return ReplyPart(_text(message.get("content")), done, done, made)


def _llama_server(part: Part) -> ReplyPart:
    if "choices" in part:
        return _openai(part)
    stopped = part.get("stop") is True
    return ReplyPart(_text(part.get("content")), stopped, stopped)


def _openai(part: Part) -> ReplyPart:
    choice = next(_objects(part.get("choices")), {})
    inner = _mapping(choice.get("delta") or choice.get("message"))
    text = inner.get("content") if inner else choice.get("text")
    made = tuple(
        (_number(call.get("index"), n), _text(_mapping(call.get("function")).get("arguments")))
        for n, call in enumerate(_objects(inner.get("tool_calls")))
    )
    return ReplyPart(_text(text), choice.get("finish_reason") is not None, False, made)


def _anthropic(part: Part) -> ReplyPart:
    kind = part.get("type")
    if kind == "content_block_delta":
        delta = _mapping(part.get("delta"))
        piece = _text(delta.get("partial_json"))
        made: Calls = ((_number(part.get("index"), 0), piece),) if piece else ()
        return ReplyPart(_text(delta.get("text")), calls=made)
    if kind == "content_block_start":
        block = _mapping(part.get("content_block"))
        made = ((_number(part.get("index"), 0), ""),) if block.get("type") == "tool_use" else ()
        return ReplyPart(_text(block.get("text")), calls=made)
    if kind in ("message_delta", "message_stop"):
        return ReplyPart(whole=True, last=kind == "message_stop")
    if kind != "message":
        return ReplyPart()
    blocks = list(_objects(part.get("content")))
    made = tuple(
        (n, json.dumps(block.get("input"))) for n, block in enumerate(blocks) if block.get("type") == "tool_use"
    )
    return ReplyPart(
        "".join(_text(block.get("text")) for block in blocks), part.get("stop_reason") is not None, True, made
    )


def _responses(part: Part) -> ReplyPart:
    kind = part.get("type")
    if kind == "response.output_text.delta":
        return ReplyPart(_text(part.get("delta")))
    if kind == "response.output_item.done":
        return ReplyPart(calls=tuple(_calls([_mapping(part.get("item"))], _number(part.get("output_index"), 0))))
    if kind in ("response.completed", "response.incomplete", "response.failed"):
        return ReplyPart(whole=kind != "response.failed", last=True)
    if part.get("object") != "response":
        return ReplyPart()
    items = list(_objects(part.get("output")))
    spoken = (piece for item in items if item.get("type") == "message" for piece in _objects(item.get("content")))
    said = (_text(piece.get("text")) for piece in spoken)
    return ReplyPart("".join(said), part.get("status") in ("completed", "incomplete"), True, tuple(_calls(items, 0)))


def _calls(items: list[Part], first: int) -> Iterator[tuple[int, str]]:
    for n, item in enumerate(items, first):
        if item.get("type") == "function_call":
            yield n, _text(item.get("arguments"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) else default


def _mapping(value: Any) -> Part:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> Iterator[Part]:
    return (one for one in value if isinstance(one, dict)) if isinstance(value, list) else iter(())
