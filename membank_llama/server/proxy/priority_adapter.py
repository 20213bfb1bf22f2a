"""`PriorityAdapter`: an encoder that lets questions go first.

A native context takes one call at a time. Whatever is learned in the background is encoded text by text, each only when
no recall is under way or has kept it waiting for a moment, so that a question waits for one text at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from membank_llama.adapters.base import ModelAdapter, stacked
from membank_llama.adapters.token_states import TokenStates
from membank_llama.core.types import Vector

STEP_SECONDS = 0.002
PATIENCE_SECONDS = 0.25


class PriorityAdapter(ModelAdapter):
    """Wraps an adapter, which stays whoever's it is to close.

    `is_busy` says whether a recall is under way.
    """

    def __init__(self, inner: ModelAdapter) -> None:
        self.inner = inner
        self.is_busy: Callable[[], bool] = lambda: False
        self._local = threading.local()

    @property
    def hidden_dim(self) -> int:
        return self.inner.hidden_dim

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def source(self) -> str | None:
        return self.inner.source

    def model_id(self) -> str:
        """That of the adapter inside."""
        return self.inner.model_id()

    def around(self, inner: ModelAdapter) -> PriorityAdapter:
        """Another one around another adapter, for the same threads and the same recalls."""
        other = PriorityAdapter(inner)
        other.is_busy, other._local = self.is_busy, self._local
        return other

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """What this thread encodes meanwhile can wait."""
        self._local.background = True
        try:
            yield
        finally:
            self._local.background = False

    def encode(self, text: str) -> Vector:
        return self.inner.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """Encode several texts, one after the other where they can wait: float32 ``(len(texts), hidden_dim)``."""
        if not self._can_wait(texts):
            return self.inner.encode_batch(texts)
        return stacked([self.inner.encode(text) for text in self._in_turn(texts)], self.inner.name)

    @property
    def token_dim(self) -> int:
        return self.inner.token_dim

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenStates]:
        """The same with the states of their tokens."""
        if not self._can_wait(texts):
            return self.inner.encode_tokens(texts)
        return [one for text in self._in_turn(texts) for one in self.inner.encode_tokens([text])]

    def _can_wait(self, texts: Sequence[str]) -> bool:
        return bool(texts) and getattr(self._local, "background", False)

    def _in_turn(self, texts: Sequence[str]) -> Iterator[str]:
        """One text after the other, each when no recall is under way."""
        for text in texts:
            self._wait()
            yield text

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while self.is_busy() and time.monotonic() < until:
            time.sleep(STEP_SECONDS)
