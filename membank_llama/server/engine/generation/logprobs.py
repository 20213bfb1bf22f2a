"""`TokenLogprob`: how likely the model found a token that it wrote, and which others it thought of.

Probabilities are those of the model itself, before temperature, penalties and grammars, as Ollama gives them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...asgi import WireError
from .generation_context import GenerationContext

MOST_ALTERNATIVES = 20


@dataclass(frozen=True)
class TokenLogprob:
    """A token's bytes and the logarithm of its probability; `top`: the likeliest tokens at its place."""

    spelled: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()

    def shown(self, *, alternatives: bool = True) -> dict[str, Any]:
        """As Ollama and OpenAI write it."""
        made: dict[str, Any] = {
            "token": self.spelled.decode("utf-8", "replace"),
            "logprob": self.logprob,
            "bytes": list(self.spelled),
        }
        if alternatives:
            made["top_logprobs"] = [one.shown(alternatives=False) for one in self.top]
        return made


def check_alternatives(wanted: bool, top: int | None) -> int | None:
    """How many alternatives to give; None where no probabilities are wanted.

    Raises:
        WireError: a number out of range.
    """
    if top is not None and not 0 <= top <= MOST_ALTERNATIVES:
        raise WireError(400, f"top_logprobs must be between 0 and {MOST_ALTERNATIVES}")
    return (top or 0) if wanted else None


def read_logprobs(model: GenerationContext, token: int, top: int) -> TokenLogprob:
    """Of a token that was just chosen and is not evaluated yet."""
    logits = model.logits()
    highest = float(logits.max())
    total = highest + math.log(float(np.exp(logits - highest, dtype=np.float64).sum()))
    best = np.argpartition(-logits, min(top, len(logits) - 1))[:top] if top else np.empty(0, np.int64)
    ranked = sorted((int(one) for one in best), key=lambda one: -float(logits[one]))
    return TokenLogprob(
        model.spelling(token),
        float(logits[token]) - total,
        tuple(TokenLogprob(model.spelling(one), float(logits[one]) - total) for one in ranked),
    )
