"""Messages of a conversation: checked, and in the one form that chat templates understand."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from ...asgi import WireError
from .. import fields

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def template_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as a template takes them: text as a string, a call's arguments as an object.

    Raises:
        WireError: a role is unknown, or something is of the wrong type.
    """
    made = [_message(message) for message in messages]
    _number(made)
    return made


def _number(messages: list[dict[str, Any]]) -> None:
    """Give calls and their results ids where the client gave none, as some templates ask for them.

    The same conversation gets the same ids, or its cached beginning would be lost.
    """
    count, open_calls = 0, OrderedDict[str, None]()
    for message in messages:
        for call in message.get("tool_calls", ()):
            call.setdefault("id", f"call{count:05d}")
            open_calls[call["id"]] = None
            count += 1
        if message["role"] == "tool":
            given = message.get("tool_call_id")
            if given is not None and given in open_calls:
                del open_calls[given]
            elif given is None and open_calls:
                message["tool_call_id"], _ = open_calls.popitem(last=False)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = fields.text(message, "role")
    if role not in _ROLES:
        raise WireError(400, f"invalid role: {role[:40]!r}, role must be one of [system, user, assistant, tool]")
    made: dict[str, Any] = {"role": _ROLES[role], "content": _content(message.get("content"))}
    if message.get("images"):
        raise WireError(400, "this model does not support images")
    calls = fields.objects(message, "tool_calls")
    if calls:
        made["tool_calls"] = [_call(call) for call in calls]
    thought = fields.text(message, "thinking") or fields.text(message, "reasoning")
    if thought:
        made["reasoning_content"] = made["thinking"] = thought
    name = fields.text(message, "tool_name") or fields.text(message, "name")
    if name:
        made["name"] = name
    if message.get("tool_call_id"):
        made["tool_call_id"] = fields.text(message, "tool_call_id")
    return made


def _content(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise WireError(400, f'"content" must be a string, not {type(content).__name__}')
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") not in ("text", "image_url"):
            raise WireError(400, "invalid message format: the parts of a content must be text")
        if part["type"] == "image_url":
            raise WireError(400, "this model does not support images")
        texts.append(fields.text(part, "text"))
    return "\n".join(texts)


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = fields.mapping(call, "function")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError) as exc:
            raise WireError(400, "invalid tool call arguments") from exc
    if arguments is not None and not isinstance(arguments, dict):
        raise WireError(400, "invalid tool call arguments")
    made: dict[str, Any] = {
        "type": "function",
        "function": {"name": fields.text(function, "name"), "arguments": arguments or {}},
    }
    if call.get("id"):
        made["id"] = fields.text(call, "id")
    return made
