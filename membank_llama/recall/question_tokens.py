"""`QuestionTokens`: a question token by token, and how nearly a memory's tokens say each of them (late interaction).

Of a token's nearest state in a memory only what goes beyond unrelated text counts: the gate's sentences say how near
that comes by chance. What is left, squared, is how much of the token the memory holds, from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from membank_llama.core.letters import unaccented
from membank_llama.core.stop_words import STOP_WORDS
from membank_llama.core.types import Vector
from membank_llama.hgns.token_codes import AskedTokens

from .unspaced_terms import FUNCTION_WORDS

POWER, TOKEN_UNIT = 1.5, 3.0
STOP_WORTH = 1.0
MOST_TOKENS = 48
"""Tokens of a question that are compared, those that weigh most."""


@dataclass(frozen=True)
class QuestionTokens:
    """The tokens of a question.

    Args:
        asked: their states, as they are compared.
        words: of each the word that it is part of.
        chance: how near unrelated text comes to each, float32 ``(n,)``.
    """

    asked: AskedTokens
    words: tuple[str, ...]
    chance: Vector

    def weighed(self, rarity: Mapping[str, float], rarest: float, names: frozenset[str]) -> WeighedTokens:
        """With what each token counts.

        Args:
            rarity: of the question's content words, in nats; a word that is not among them is as rare as `rarest`.
            names: of those who speak here, as words are compared.
        """
        words = [word if word.isascii() else unaccented(word) for word in self.words]
        content = np.array([bool(word) and (word in rarity or not _is_grammar(word)) for word in words], np.bool_)
        rare = np.array([rarity.get(word, rarest) for word in words], np.float32)
        marks = np.array([not word for word in words], np.bool_)
        worth = np.where(content, rare**POWER / TOKEN_UNIT, np.float32(STOP_WORTH)).astype(np.float32)
        worth[marks] = 0
        named = np.array([word in names for word in words], np.bool_)
        evidence = np.where(content & ~named, rare, np.float32(0)).astype(np.float32)
        kept = ~marks
        if int(kept.sum()) > MOST_TOKENS:
            kept &= worth >= np.sort(worth)[-MOST_TOKENS]
        # one common word, however surely it is said, is not all that could speak for a memory
        evidence /= np.float32(max(float(evidence[kept].sum()), rarest))
        return WeighedTokens(self.asked.only(kept), self.chance[kept, np.newaxis], worth[kept], evidence[kept])


def _is_grammar(word: str) -> bool:
    return word in STOP_WORDS or word in FUNCTION_WORDS


@dataclass(frozen=True)
class WeighedTokens:
    """The tokens that are compared: what each weighs in the ranking, and what share of all the gate gives it."""

    asked: AskedTokens
    chance: Vector
    worth: Vector
    evidence: Vector

    def held(self, nearness: Vector) -> Vector:
        """How much of each token some memories hold, of how near they come to it, (tokens, memories)."""
        above = np.maximum(nearness - self.chance, 0) / np.maximum(1 - self.chance, np.float32(1e-6))
        squared: Vector = np.minimum(above, 1) ** 2
        return squared
