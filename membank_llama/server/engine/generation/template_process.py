"""`TemplateProcess`: chat templates, which are programs that a model file brings, run in a child process.

A template may loop for good or fill the memory; there it meets limits, and the model's thread and every other client
go on. What it gives is what `ChatTemplate` gives. The template of ours, for a file that brings none, is run here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from membank_llama.core.child_process import ChildError, ChildProcess, Flag
from membank_llama.core.message_layouts import TemplateMessage

from ...asgi import AbandonedError, WireError
from .chat_template import ChatTemplate

SECONDS = 3.0
MEMORY = 640 * 1024 * 1024
MOST_SOURCE = 512 * 1024
MOST_PROMPT = 32 * 1024 * 1024
"""Characters."""


class TemplateProcess:
    """The templates of one model; one thread at a time."""

    def __init__(self) -> None:
        self._child = ChildProcess(f"{__name__}:render_in_child", MEMORY)

    def render(
        self,
        template: tuple[str | None, str, str],
        messages: Sequence[TemplateMessage],
        tools: Sequence[TemplateMessage],
        given: Mapping[str, Any],
        cancelled: Flag | None = None,
    ) -> str:
        """The prompt.

        Args:
            template: its source, None for ours; the texts of BOS and EOS.

        Raises:
            WireError: the template does not accept these messages, can't be read, or takes too much.
            AbandonedError: nobody waits any more.
        """
        source, bos, eos = template
        if source is None:
            return ChatTemplate(None, bos, eos).render(messages, tools, **given)
        if len(source) > MOST_SOURCE:
            raise WireError(500, f"the model's chat template is longer than {MOST_SOURCE:,} characters; send it raw")
        asked = json.dumps([source, bos, eos, list(messages), list(tools), dict(given)]).encode()
        try:
            answered = json.loads(self._child.ask(asked, SECONDS, cancelled))
        except ChildError as exc:
            if exc.why == "cancelled":
                raise AbandonedError from exc
            raise WireError(500, _too_much()) from exc
        if "prompt" not in answered:
            raise WireError(answered["status"], answered["error"])
        return str(answered["prompt"])

    def close(self) -> None:
        """End the child."""
        self._child.close()


def _too_much() -> str:
    return (
        f"the model's chat template takes longer than {SECONDS:g} s or more memory than it may; "
        "choose another model, or send the prompt raw"
    )


def render_in_child(request: bytes) -> bytes:
    """In the child: one prompt."""
    source, bos, eos, messages, tools, given = json.loads(request)
    try:
        prompt = ChatTemplate(source, bos, eos).render(messages, tools, **given)
        if len(prompt) > MOST_PROMPT:
            raise WireError(500, _too_much())
        reply = json.dumps({"prompt": prompt}).encode()
    except WireError as exc:
        reply = json.dumps({"status": exc.status, "error": str(exc)[:4000]}).encode()
    except (MemoryError, RecursionError):
        reply = json.dumps({"status": 500, "error": _too_much()}).encode()
    return reply
