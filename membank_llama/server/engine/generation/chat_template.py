"""`ChatTemplate`: the Jinja template that a GGUF brings, run as its makers meant it, in a sandbox.

What templates expect beside messages and tools is what `transformers` gives them: `raise_exception`,
`strftime_now`, a `tojson` that escapes nothing, trimmed blocks. A GGUF without a template is written to in
ChatML. Messages that a template refuses are laid out anew until it takes them (core/message_layouts.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from membank_llama.core.message_layouts import TemplateMessage, first_accepted, of_system_or_tool

from ...asgi import WireError, outward

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
        # absent and None differ to some templates, each in its own way
        extras: list[dict[str, Any]] = [{"tools": list(tools)}] if tools else [{"tools": None}, {}]

        def run(layout: Sequence[TemplateMessage]) -> str:
            failures: list[Exception] = []
            for extra in extras:
                try:
                    return self._run(layout, {**given, **extra})
                except _FAILURES as exc:
                    failures.append(exc)
            raise failures[0]

        try:
            return first_accepted(messages, run, str, _FAILURES, of_system_or_tool) + prefill
        except _FAILURES as exc:
            raise WireError(400, f"the model's chat template does not accept these messages: {exc}") from exc

    def _run(self, messages: Sequence[TemplateMessage], given: Mapping[str, Any]) -> str:
        try:
            template = _compiled(self._source)
        except TemplateError as exc:
            raise WireError(
                500,
                f"the model's chat template can't be read: {outward(exc)}; "
                "choose another file of this model, or send the prompt raw",
            ) from exc
        return template.render({**self._given, **given, "messages": messages, "add_generation_prompt": True})
