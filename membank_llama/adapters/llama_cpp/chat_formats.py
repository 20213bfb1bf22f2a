"""A Llama's chat formats, made to take every conversation: what a format refuses is laid out anew until it takes it.

llama-cpp-python renders messages by a formatter, of the GGUF's chat template or one of its own, and lets its refusals
through. What a format takes, it is given as it came, so every token is as before.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import llama_cpp
from jinja2 import TemplateError
from llama_cpp import llama_chat_format

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.message_layouts import TemplateMessage, content_texts, first_accepted

from .private_api import chat_handlers

_FAILURES = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


class PatientFormatter:
    """A chat formatter around another, which refuses less.

    Args:
        must_show: of a text that the format must not leave out in silence.
    """

    def __init__(self, inner: Callable[..., Any], must_show: Callable[[str], bool]) -> None:
        self._inner = inner
        self._must_show = must_show

    def __call__(self, *, messages: Sequence[TemplateMessage], **given: Any) -> Any:
        """The prompt, with what ends a reply.

        Raises:
            InvalidInputError: there is no way to lay the messages out that the format takes.
        """

        def render(layout: Sequence[TemplateMessage]) -> Any:
            return self._inner(messages=layout, **given)

        def must_show(message: TemplateMessage) -> bool:
            return any(map(self._must_show, content_texts(message.get("content"))))

        try:
            return first_accepted(messages, render, lambda made: str(made.prompt), _FAILURES, must_show)
        except _FAILURES as exc:
            said = " ".join(str(exc).split())
            raise InvalidInputError(
                f"the model's chat template does not accept these messages: {said}; leave out what it refuses, "
                "or give chat_format or a prompt of your own"
            ) from exc


def make_patient(llm: llama_cpp.Llama, must_show: Callable[[str], bool] = lambda text: False) -> None:
    """Have a Llama's chat format take what it would refuse; a `chat_handler` of the caller's own stays as it is."""
    name = llm.chat_format
    if llm.chat_handler is not None or name is None:
        return
    handlers = chat_handlers(llm)
    try:
        handler = handlers.get(name) or llama_chat_format.get_chat_completion_handler(name)
        inner = inspect.getclosurevars(handler).nonlocals.get("chat_formatter")
    except (ValueError, TypeError, llama_chat_format.LlamaChatCompletionHandlerNotFoundException):
        # a format that llama-cpp-python does not know, or of another kind
        return
    if inner is None:
        return
    if isinstance(inner, PatientFormatter):
        inner = inner._inner
    handlers[name] = llama_chat_format.chat_formatter_to_chat_completion_handler(PatientFormatter(inner, must_show))
