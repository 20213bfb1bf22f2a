"""`ChatTemplate`: the Jinja template that a GGUF brings, run as its makers meant it, in a sandbox.

What templates expect beside messages and tools is what `transformers` gives them: `raise_exception`,
`strftime_now`, a `tojson` that escapes nothing, trimmed blocks. A GGUF without a template is written to in
ChatML. A template that refuses a system message gets it at the head of the first user message instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...asgi import WireError, outward

TemplateMessage = Mapping[str, Any]
_FAILURES = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _tojson(value: Any, indent: int | None = None, ensure_ascii: bool = False, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


@lru_cache(maxsize=16)
def _compiled(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], autoescape=False
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda format: datetime.now().astimezone().strftime(format)
    return environment.from_string(source)


class ChatTemplate:
    """Turns messages into the text a model continues.

    Args:
        source: the template; None for ChatML.
        bos: the text of the BOS token, and `eos`.
    """

    def __init__(self, source: str | None, bos: str = "", eos: str = "") -> None:
        self._source = source or CHATML
        self._given = {"bos_token": bos, "eos_token": eos}

    def render(self, messages: Sequence[TemplateMessage], tools: Sequence[TemplateMessage] = (), **given: Any) -> str:
        """The prompt. A last message of the assistant is left open, to be continued.

        Raises:
            WireError: the template does not accept these messages.
        """
        messages, prefill = list(messages), ""
        if len(messages) > 1 and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
            prefill = str(messages.pop()["content"])
        failures: list[Exception] = []
        for variant in _variants(messages):
            # absent and None differ to some templates, each in its own way
            extras: list[dict[str, Any]] = [{"tools": list(tools)}] if tools else [{"tools": None}, {}]
            for extra in extras:
                try:
                    return self._run(variant, {**given, **extra}) + prefill
                except _FAILURES as exc:
                    failures.append(exc)
        raise WireError(400, f"the model's chat template does not accept these messages: {failures[0]}") from failures[
            0
        ]

    def _run(self, messages: Sequence[TemplateMessage], given: Mapping[str, Any]) -> str:
        try:
            template = _compiled(self._source)
        except TemplateError as exc:
            raise WireError(500, f"the model's chat template can't be read: {outward(exc)}") from exc
        return template.render({**self._given, **given, "messages": messages, "add_generation_prompt": True})


def _variants(messages: list[TemplateMessage]) -> Iterator[list[TemplateMessage]]:
    """The messages, then what a template may want instead: arguments as text, no system message."""
    folded = _fold_system(messages)
    for some in (messages, folded):
        if some is not None:
            yield some
            if any(message.get("tool_calls") for message in some):
                yield [_with_text_arguments(message) for message in some]


def _with_text_arguments(message: TemplateMessage) -> TemplateMessage:
    calls = [
        {**call, "function": {**call["function"], "arguments": _tojson(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else message


def _fold_system(messages: Sequence[TemplateMessage]) -> list[TemplateMessage] | None:
    """The system message as the head of the first user message; None where there is nothing to fold."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return None
    head = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [head, *messages[2:]]
