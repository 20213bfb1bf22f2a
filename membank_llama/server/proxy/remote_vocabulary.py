"""`RemoteVocabulary`: the tokenizer of a model whose file is not at hand, asked of the server that has it.

A request costs time that a recall has little of: counts are kept, and one recall makes few requests. What is beyond
them, or is asked of a server that is slow, is estimated.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from re import Pattern
from typing import Protocol

from membank_llama.core.bounded import keep_newest
from membank_llama.core.types import TokenCounter

MOST_COUNTS = 16_384
MOST_REQUESTS = 48
MOST_SECONDS = 0.08
"""What one recall may spend on asking."""


class Counting(Protocol):
    """What can be asked for tokens: an `UpstreamServer`."""

    @property
    def generation(self) -> int: ...
    def counts(self, model: str, texts: Sequence[str], *, controls: bool = False) -> list[int] | None: ...


class RemoteVocabulary:
    """The tokenizer of one model of a server.

    Args:
        server: asked for counts.
        model: as the server calls it.
    """

    def __init__(self, server: Counting, model: str) -> None:
        self._server = server
        self._model = model
        self._kept: OrderedDict[bytes, int] = OrderedDict()
        self._generation = server.generation
        self._lock = threading.Lock()

    def with_context(self, n_ctx: int, estimate: TokenCounter) -> TokenCounter:
        """The same for one recall in a context of so many tokens; `estimate` stands in where nothing answers."""
        return _Asking(self, n_ctx, estimate)

    def kept(self, text: str) -> int | None:
        """Tokens of a text that was counted before."""
        with self._lock:
            if self._generation != self._server.generation:
                # another model may be loaded there now
                self._kept.clear()
                self._generation = self._server.generation
            return self._kept.get(_key(text))

    def ask(self, texts: Sequence[str], *, controls: bool = False) -> list[int] | None:
        """Tokens of these, by one request."""
        counts = self._server.counts(self._model, texts, controls=controls)
        if counts is not None and not controls:
            with self._lock:
                for text, count in zip(texts, counts, strict=True):
                    keep_newest(self._kept, _key(text), count, MOST_COUNTS)
        return counts

    def close(self) -> None:
        """Nothing is open here."""


@dataclass
class _Asking:
    _vocabulary: RemoteVocabulary
    n_ctx: int
    _estimate: TokenCounter
    _requests: int = MOST_REQUESTS
    _until: float = field(default_factory=lambda: time.monotonic() + MOST_SECONDS)

    @property
    def controls(self) -> Sequence[str | Pattern[str]]:
        return self._estimate.controls

    def count(self, text: str) -> int:
        known = self._vocabulary.kept(text)
        if known is not None:
            return known
        counts = self._ask(text)
        return self._estimate.count(text) if counts is None else counts[0]

    def is_clean(self, text: str) -> bool:
        if not self._estimate.is_clean(text):
            return False
        as_text, as_prompt = self._ask(text), self._ask(text, controls=True)
        # a text with a control token in it is cut otherwise where such are known
        return as_text == as_prompt or as_text is None or as_prompt is None

    def _ask(self, text: str, *, controls: bool = False) -> list[int] | None:
        if self._requests <= 0 or time.monotonic() >= self._until:
            return None
        self._requests -= 1
        counts = self._vocabulary.ask([text], controls=controls)
        if counts is None:
            self._requests = 0
        return counts


def _key(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
