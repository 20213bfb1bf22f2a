"""A request of OpenAI's Responses API as the messages, tools and schema that every API here comes down to.

Calls and thoughts are items of their own there, and belong to the message of the assistant that they stand beside. What
only OpenAI's servers can do is passed over, in the tools and in the history.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ...asgi import WireError
from .. import fields
from ..generation import grammars
from ..generation.message_format import template_messages

_log = logging.getLogger("membank_llama")

_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal", "summary_text": "text"}


def response_messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conversation, its `instructions` first.

    Raises:
        WireError: something is of the wrong type, or no text.
    """
    said: list[dict[str, Any]] = []
    instructions, given = fields.text(body, "instructions"), body.get("input")
    if instructions:
        said.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        said.append({"role": "user", "content": given})
    else:
        said += _History().of(fields.objects(body, "input"))
    return template_messages(said)


def response_tools(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The functions among the tools, as the chat API has them.

    Raises:
        WireError: a tool is malformed.
    """
    return [_function(tool) for tool in fields.objects(body, "tools") if fields.text(tool, "type") == "function"]


def response_grammar(body: Mapping[str, Any]) -> str | None:
    """What the answer is held to.

    Raises:
        WireError: a format that does not exist, or an impossible schema.
    """
    wanted = fields.mapping(fields.mapping(body, "text"), "format")
    kind = fields.text(wanted, "type", "text")
    if kind == "json_object":
        return grammars.of_format("json")
    if kind == "json_schema":
        return grammars.of_schema(fields.mapping(wanted, "schema"))
    if kind != "text":
        raise WireError(400, f"text.format must be text, json_object or json_schema, not {kind[:40]!r}")
    return None


class _History:
    """Items, one after another, into messages."""

    def __init__(self) -> None:
        self._said: list[dict[str, Any]] = []
        self._thought = ""

    def of(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for item in items:
            self._take(item)
        if self._thought:
            self._assistant()
        return self._said

    def _take(self, item: Mapping[str, Any]) -> None:
        kind = fields.text(item, "type") or ("message" if item.get("role") else "")
        if not kind:
            raise WireError(400, "input item missing required 'type' field")
        if kind == "message":
            self._message(item)
        elif kind == "reasoning":
            # as it was given out: the summary is the whole thought, and so is what is called encrypted
            self._thought = _parts(item.get("summary")) or fields.text(item, "encrypted_content")
        elif kind in _CALLS:
            self._call(item, kind)
        elif kind in _OUTPUTS:
            told = {"role": "tool", "content": _parts(item.get("output")), "tool_call_id": fields.text(item, "call_id")}
            self._said.append(told)
        elif kind == "item_reference":
            raise WireError(400, "responses are not stored here: send the items themselves in place of references")
        else:
            _log.debug("the input item %.64r is not known here and is passed over", kind)

    def _message(self, item: Mapping[str, Any]) -> None:
        if fields.text(item, "role") == "assistant":
            self._assistant()["content"] += _parts(item.get("content"))
        else:
            self._said.append({"role": item.get("role"), "content": _parts(item.get("content"))})

    def _assistant(self) -> dict[str, Any]:
        """The message of the assistant that is being made."""
        if not self._said or self._said[-1]["role"] != "assistant" or self._thought:
            self._said.append({"role": "assistant", "content": ""})
        if self._thought:
            self._said[-1]["thinking"], self._thought = self._thought, ""
        return self._said[-1]

    def _call(self, item: Mapping[str, Any], kind: str) -> None:
        given: Any = fields.text(item, _CALLS[kind])
        if kind == "custom_tool_call":
            given = {"input": given}
        function = {"name": fields.text(item, "name"), "arguments": given}
        call = {"id": fields.text(item, "call_id"), "function": function}
        self._assistant().setdefault("tool_calls", []).append(call)


def _parts(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(map(_part, fields.objects({"content": content}, "content")))


def _part(part: Mapping[str, Any]) -> str:
    kind = fields.text(part, "type")
    if kind == "input_image":
        raise WireError(400, "this model does not support images")
    if kind == "input_file":
        raise WireError(400, "file inputs are not currently supported")
    if kind not in _TEXTS:
        raise WireError(400, f"unknown content type: {kind[:40]}")
    return fields.text(part, _TEXTS[kind])


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    description, parameters = fields.text(tool, "description"), fields.mapping(tool, "parameters")
    told = {"description": description} if description else {}
    return {"type": "function", "function": {"name": fields.text(tool, "name"), **told, "parameters": parameters}}
