"""A request of Anthropic's Messages API as the messages, tools and thoughts that every API here comes down to.

Results of tools are messages of their own, ahead of what the person says beside them. What only Anthropic's own
servers can do (searching the web, running code) is passed over, as are `cache_control` and signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...asgi import WireError
from .. import fields
from ..generation.message_format import template_messages
from ..generation.reasoning import Think

_ROLES = ("user", "assistant", "system")
_SERVED = ("web_search", "web_fetch", "code_execution", "mcp_toolset", "tool_search_tool")
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_CALLS, _RESULT = ("tool_use", "server_tool_use"), "tool_result"


def anthropic_messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conversation, its `system` first.

    Raises:
        WireError: something is of the wrong type, or an image.
    """
    said = [one for message in fields.objects(body, "messages") for one in _messages(message)]
    system = block_text(body.get("system"), "system")
    return template_messages([{"role": "system", "content": system}, *said] if system else said)


def anthropic_tools(body: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """The tools that the client runs, as OpenAI has them, and which of them are to be called.

    Raises:
        WireError: a tool or the choice is malformed.
    """
    made = [_tool(tool) for tool in fields.objects(body, "tools") if not _is_served(tool)]
    choice = fields.mapping(body, "tool_choice")
    kind = fields.text(choice, "type", "auto")
    if kind not in ("auto", "any", "tool", "none"):
        raise WireError(400, f"tool_choice must be auto, any, tool or none, not {kind[:40]!r}")
    return made, {"name": fields.text(choice, "name")} if kind == "tool" else kind


def anthropic_think(body: Mapping[str, Any]) -> Think:
    """How much is to be thought before the answer.

    Raises:
        WireError: a type that does not exist.
    """
    kind = fields.text(fields.mapping(body, "thinking"), "type")
    effort = _EFFORTS.get(fields.text(fields.mapping(body, "output_config"), "effort").strip().lower())
    if kind == "disabled":
        return Think(False)
    if kind not in ("", "enabled", "adaptive"):
        raise WireError(400, f"thinking must be enabled, adaptive or disabled, not {kind[:40]!r}")
    return Think(True, effort) if kind == "enabled" or effort else Think()


def block_text(content: Any, name: str) -> str:
    """The text of a string, or of a list of blocks.

    Raises:
        WireError: it is neither, or has an image in it.
    """
    return content if isinstance(content, str) else "\n".join(filter(None, map(_block_text, _blocks(content, name))))


def _messages(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    role = fields.text(message, "role").lower()
    if role not in _ROLES:
        raise WireError(400, f"messages: role must be user or assistant, not {role[:40]!r}")
    content = message.get("content")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    blocks = _blocks(content, "content")
    results = [_result(block) for block in blocks if _kind(block).endswith(_RESULT)]
    made: dict[str, Any] = {"role": role, "content": block_text(content, "content")}
    calls = [_call(block) for block in blocks if _kind(block) in _CALLS]
    thought = "\n".join(fields.text(block, "thinking") for block in blocks if _kind(block) == "thinking")
    if calls:
        made["tool_calls"] = calls
    if thought and role == "assistant":
        made["thinking"] = thought
    spoken = [made] if made["content"] or calls or thought or not blocks else []
    return [*results, *spoken] if role == "user" else [*spoken, *results]


def _blocks(content: Any, name: str) -> list[dict[str, Any]]:
    return fields.objects({name: content}, name)


def _kind(block: Mapping[str, Any]) -> str:
    return fields.text(block, "type")


def _block_text(block: Mapping[str, Any]) -> str:
    kind = _kind(block)
    if kind == "image":
        raise WireError(400, "this model does not support images")
    if kind == "document":
        return _document(block)
    if kind == "search_result":
        return f"{fields.text(block, 'title')}\n{block_text(block.get('content'), 'content')}"
    return fields.text(block, "text") if kind == "text" else ""


def _document(block: Mapping[str, Any]) -> str:
    source = fields.mapping(block, "source")
    kind = fields.text(source, "type")
    if kind == "text":
        found = fields.text(source, "data")
    elif kind == "content":
        found = block_text(source.get("content"), "content")
    else:
        raise WireError(400, f"this model does not support documents of type {kind[:40]!r}, only text")
    return "\n".join(filter(None, (fields.text(block, "title"), fields.text(block, "context"), found)))


def _result(block: Mapping[str, Any]) -> dict[str, Any]:
    told = block_text(block.get("content"), "content") if _kind(block) == _RESULT else ""
    if block.get("is_error") is True and not told.lower().startswith("error"):
        # the one place where it can be said: templates know no failed call
        told = f"Error: {told}"
    return {"role": "tool", "content": told, "tool_call_id": fields.text(block, "tool_use_id")}


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("id", "name"):
        if not fields.text(block, name):
            raise WireError(400, f"tool_use block missing required '{name}' field")
    function = {"name": fields.text(block, "name"), "arguments": fields.mapping(block, "input")}
    return {"id": fields.text(block, "id"), "function": function}


def _is_served(tool: Mapping[str, Any]) -> bool:
    return fields.text(tool, "type").startswith(_SERVED)


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    description, schema = fields.text(tool, "description"), fields.mapping(tool, "input_schema")
    # in the order that OpenAI's clients send it: templates show it as it comes
    told = {"description": description} if description else {}
    return {"type": "function", "function": {"name": fields.text(tool, "name"), **told, "parameters": schema}}
