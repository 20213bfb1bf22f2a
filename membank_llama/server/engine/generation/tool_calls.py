"""Tools: how a model is told of them, how it calls them, and how a call is read.

Models that know tools write their calls each in its maker's way; `CallStyle` is that way, told from the chat
template. Once a call has begun it is finished under a grammar made of the tools' own schemas, so a call that
comes out names a tool that exists and has the arguments it asks for.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...asgi import WireError
from .grammars import of_schema

_PATIENCE = 3.0
"""Seconds for finding out which of the tools has a schema of which no grammar can be made."""
_ANYTHING = {"type": "object"}
_ROOT = re.compile(r"^root ::= (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants to be run."""

    name: str
    arguments: Mapping[str, Any]
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(4)}")


@dataclass(frozen=True)
class CallStyle:
    """How a model writes calls: what a call begins and ends with, and what it calls the arguments.

    `listed`: all calls in one JSON list. `named`: the name before the JSON. `bare`: JSON at the head of the answer.
    """

    opener: str = "<tool_call>"
    closer: str = "</tool_call>"
    key: str = "arguments"
    listed: bool = False
    named: bool = False
    bare: bool = False


# what a template has in it, and the style that this means; the first that fits counts
_STYLES = (
    ("[ARGS]", CallStyle("[TOOL_CALLS]", "", named=True)),
    ("[TOOL_CALLS]", CallStyle("[TOOL_CALLS]", "", listed=True)),
    ("<tool_call>", CallStyle()),
    ("<|/tool_call|>", CallStyle("<|tool_call|>", "<|/tool_call|>")),
    ("<|tool_call|>", CallStyle("<|tool_call|>", "", listed=True)),
    ("<TOOLCALL>", CallStyle("<TOOLCALL>", "</TOOLCALL>", listed=True)),
    ('"parameters"', CallStyle("<|python_tag|>", "", "parameters", bare=True)),
    ("", CallStyle("<|python_tag|>", "", bare=True)),
)


def style_of(template: str | None) -> CallStyle:
    """The style of a chat template; that of the note, where it knows no tools."""
    if template is None or "tools" not in template:
        return CallStyle(bare=True)
    return next(style for mark, style in _STYLES if mark in template)


class Tools:
    """The tools of one request.

    Args:
        given: as Ollama and OpenAI have them: ``{"type": "function", "function": {"name": …}}``.
        style: how the model calls.
        forced: the model has to call, `only` this one if it is named.

    A tool whose schema is more than a grammar can hold to (agents bring what their plug-ins say) may be called with any
    object: what runs it checks what it is given.

    Raises:
        WireError: a tool has no name, or parameters that are no object.
    """

    def __init__(
        self, given: Sequence[Mapping[str, Any]], style: CallStyle, *, forced: bool = False, only: str | None = None
    ) -> None:
        self.given = [dict(tool) for tool in given]
        self.style = style
        self.forced = forced
        self._functions = [_function(tool) for tool in given]
        self.names = [str(function["name"]) for function in self._functions]
        if only is not None and only not in self.names:
            raise WireError(400, f"tool_choice names {only!r}, which is none of the tools")
        self._callable = [one for one in self._functions if only in (None, one["name"])]
        try:
            self.grammar, self.bare_grammar = self._grammars(self._callable)
        except WireError:
            self.grammar, self.bare_grammar = self._lenient_grammars()

    def note(self) -> str:
        """What tells a model of its tools whose template has no place for them."""
        lines = [json.dumps(function, ensure_ascii=False) for function in self._functions]
        return (
            "You can call these functions:\n"
            + "\n".join(lines)
            + '\nTo call one, answer with nothing but <tool_call>{"name": …, "arguments": {…}}</tool_call>. '
            "Otherwise answer in words."
        )

    def prefix(self) -> str:
        """What a forced call begins with."""
        return "" if self.style.bare and self.style.opener != "<tool_call>" else self.style.opener

    def leading(self, text: str) -> bool | None:
        """Whether an answer that begins so is a call in bare JSON; None: too early to tell."""
        compact = re.sub(r"\s+", "", text)
        heads = [f'{{"name":"{name}"' for name in self.names]
        if not self.style.bare:
            return False
        if any(compact.startswith(head) for head in heads):
            return True
        return None if any(head.startswith(compact) for head in heads) else False

    def read(self, text: str) -> list[ToolCall]:
        """The calls of a text that the grammar let through; none where it was cut."""
        style, text = self.style, text.strip()
        if style.named:
            name, _, rest = text.partition("[ARGS]")
            text = json.dumps({"name": name}) if not rest else f'{{"name": {json.dumps(name)}, "arguments": {rest}}}'
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            return []
        found = parsed if isinstance(parsed, list) else [parsed]
        return [ToolCall(str(one.get("name")), one.get(style.key) or {}) for one in found if isinstance(one, dict)]

    def _lenient_grammars(self) -> tuple[str, str]:
        """The same, where not all schemas can be held to: of the others only that an object comes."""
        until = time.monotonic() + _PATIENCE
        held = [one if _is_possible(one, until) else {**one, "parameters": _ANYTHING} for one in self._callable]
        try:
            return self._grammars(held)
        except WireError:
            return self._grammars([{**one, "parameters": _ANYTHING} for one in held])

    def _grammars(self, functions: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
        """Of a call with all that this model's way puts around it, and of its JSON alone."""
        style, key = self.style, self.style.key
        schemas = [_moved(function["parameters"], n) for n, function in enumerate(functions)]
        names = [str(function["name"]) for function in functions]
        definitions = {f"tool{n}": schema for n, schema in enumerate(schemas)}
        if style.named:
            rules = of_schema({"anyOf": schemas, "$defs": definitions})
            alternatives = _ROOT.findall(rules)[0].split(" | ")
            heads = [f"{_literal(f'{name}[ARGS]')} {one}" for name, one in zip(names, alternatives, strict=True)]
            rules = _ROOT.sub("", rules)
            return (f"root ::= {' | '.join(heads)}\n{rules}",) * 2
        choices = [
            {"type": "object", "properties": {"name": {"const": name}, key: schema}, "required": ["name", key]}
            for name, schema in zip(names, schemas, strict=True)
        ]
        rules = _ROOT.sub(r"call ::= \1", of_schema({"anyOf": choices, "$defs": definitions}))
        rules = f"blank ::= [ \\n]?\n{rules}"
        end = f" blank {_literal(style.closer)}" if style.closer else ""
        calls = '"[" blank call (blank "," blank call)* blank "]"' if style.listed else "call"
        return f"root ::= blank {calls}{end}\n{rules}", f"root ::= call\n{rules}"


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"].strip():
        raise WireError(400, "each of the tools must be a function with a name")
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise WireError(400, f"the parameters of tool {function['name']!r} must be a JSON schema")
    return {**function, "parameters": {"type": "object", "properties": {}, **parameters}}


def _is_possible(function: Mapping[str, Any], until: float) -> bool:
    if time.monotonic() > until:
        return False
    try:
        of_schema(function["parameters"])
    except WireError:
        return False
    return True


def _moved(schema: Any, number: int) -> Any:
    """A schema whose references still lead to their targets when it is a part of a larger one."""
    if isinstance(schema, list):
        return [_moved(one, number) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(value, number) for name, value in schema.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = f"#/$defs/tool{number}{reference[1:]}"
    return moved


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
