"""An encoder without a model that gives tokens: what of a store depends on them needs no GGUF."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.adapters.token_states import TokenStates
from membank_llama.memory.bank import MemBank

TOKEN_DIM = 100
"""No whole number of words: the last ones are padded."""

_WORD = re.compile(r"\w+|[^\w\s]")


class TokenMockAdapter(MockAdapter):
    """A token a word or mark, whose state depends on its letters alone."""

    def model_id(self) -> str:
        return f"tokens-{super().model_id()}"

    @property
    def token_dim(self) -> int:
        return TOKEN_DIM

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenStates]:
        found = []
        for text, vector in zip(texts, self.encode_batch(texts), strict=True):
            words = [word.casefold() for word in _WORD.findall(text)] or ["?"]
            states = np.stack([token_state(word) for word in words])
            found.append(TokenStates(vector, states, tuple(word if word.isalnum() else "" for word in words)))
        return found


def token_state(word: str) -> np.ndarray:
    """Unit vector of a word."""
    row = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(TOKEN_DIM).astype(np.float32)
    return row / np.linalg.norm(row)


def open_token_bank(path: Path, **options: object) -> MemBank:
    """A bank that keeps tokens."""
    return MemBank(TokenMockAdapter(hidden_dim=64), path, **options)  # type: ignore[arg-type]
