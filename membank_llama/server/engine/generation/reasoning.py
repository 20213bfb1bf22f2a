"""What a model thinks before it answers: who asked for it, and how it is given out (tags: core/thoughts.py).

`think` is true, false, or a level; unset, a model that can think does, as with Ollama. The white space that
models put around a thought belongs to neither thought nor answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from membank_llama.gguf.capabilities import ModelFacts

from ...asgi import WireError

_LEVELS = ("low", "medium", "high")


@dataclass(frozen=True)
class Think:
    """`wanted` None: not said. `level`: for models that think more or less."""

    wanted: bool | None = None
    level: str | None = None

    @classmethod
    def parse(cls, value: Any) -> Think:
        """From a request's `think`.

        Raises:
            WireError: it is none of what Ollama takes.
        """
        if value is None or isinstance(value, bool):
            return cls(value)
        if value in _LEVELS:
            return cls(True, value)
        shown = str(value)[:40]
        raise WireError(400, f'invalid think value: {shown!r} (must be "high", "medium", "low", true, or false)')

    def check(self, facts: ModelFacts, name: str) -> None:
        """Refuse a thought from a model that has none."""
        if self.wanted and not facts.thinks:
            raise WireError(400, f'"{name}" does not support thinking')

    def given(self, facts: ModelFacts) -> dict[str, Any]:
        """What the template is told."""
        if not facts.thinks:
            return {}
        told: dict[str, Any] = {"enable_thinking": self.wanted is not False}
        return told | ({"reasoning_effort": self.level} if self.level else {})


class Trimmer:
    """Streams text without the white space at its ends: `head`, `tail`, or both."""

    def __init__(self, *, head: bool = True, tail: bool = True) -> None:
        self._tail = tail
        self._begun = not head
        self.held = ""

    def push(self, text: str) -> str:
        """What can be given out now; the rest is `held`, and is white space."""
        text = self.held + text
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        out = text.rstrip() if self._tail else text
        self.held = text[len(out) :]
        return out
