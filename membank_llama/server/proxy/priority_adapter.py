"""`PriorityAdapter`: an encoder that lets questions go first, and encodes nothing twice that comes twice in a row.

A native context takes one call at a time. Whatever is learned in the background is encoded text by text, each only when
no recall is under way or has kept it waiting for a moment, so that a question waits for one text at most. What was
asked is stored a moment later, in the same words: what the encoder gave for the newest texts is kept.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

import numpy as np

from membank_llama.adapters.base import ModelAdapter, stacked
from membank_llama.adapters.token_states import TokenStates
from membank_llama.core.types import Vector

STEP_SECONDS = 0.002
PATIENCE_SECONDS = 0.25
MOST_BYTES = 16 << 20
"""Of what is kept."""
MOST_CHARACTERS = 4096
"""Of a text whose vectors are kept."""

_Kept = TypeVar("_Kept", Vector, TokenStates)


class _Newest(Generic[_Kept]):
    """What the encoder gave for the newest texts, up to `MOST_BYTES` of it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[_Kept, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, text: str) -> _Kept | None:
        with self._lock:
            found = self._kept.get(text)
        return None if found is None else found[0]

    def keep(self, text: str, value: _Kept, size: int) -> None:
        if len(text) > MOST_CHARACTERS:
            return
        with self._lock:
            if text not in self._kept:
                self._kept[text] = value, size
                self._bytes += size
            while self._bytes > MOST_BYTES:
                self._bytes -= self._kept.popitem(last=False)[1][1]


class PriorityAdapter(ModelAdapter):
    """Wraps an adapter, which stays whoever's it is to close.

    `is_busy` says whether a recall is under way.
    """

    def __init__(self, inner: ModelAdapter) -> None:
        self.inner = inner
        self.is_busy: Callable[[], bool] = lambda: False
        self._local = threading.local()
        self._vectors: _Newest[Vector] = _Newest()
        self._tokens: _Newest[TokenStates] = _Newest()

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
        found = self._vectors.get(text)
        if found is None:
            found = self.inner.encode(text)
            self._keep_vector(text, found)
        return found

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """Encode several texts, one after the other where they can wait: float32 ``(len(texts), hidden_dim)``."""
        found = {text: kept for text in texts if (kept := self._vectors.get(text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if self._can_wait:
            found |= {text: self.inner.encode(text) for text in self._in_turn(missing)}
        elif missing:
            found |= zip(missing, self.inner.encode_batch(missing), strict=True)
        for text in missing:
            self._keep_vector(text, found[text])
        return stacked([found[text] for text in texts], self.inner.name) if texts else self.inner.encode_batch(texts)

    @property
    def token_dim(self) -> int:
        return self.inner.token_dim

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenStates]:
        """The same with the states of their tokens."""
        found = {text: kept for text in texts if (kept := self._tokens.get(text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if self._can_wait:
            found |= {text: self.inner.encode_tokens([text])[0] for text in self._in_turn(missing)}
        elif missing:
            found |= zip(missing, self.inner.encode_tokens(missing), strict=True)
        for text in missing:
            self._keep_tokens(text, found[text])
        return [found[text] for text in texts]

    def encode_ahead(self, texts: Sequence[str]) -> None:
        """Encode in one pass what will be asked for one by one."""
        if self.token_dim:
            self.encode_tokens(texts)
        else:
            self.encode_batch(texts)

    def _keep_vector(self, text: str, vector: Vector) -> None:
        if np.isfinite(vector).all():
            self._vectors.keep(text, vector, vector.nbytes)

    def _keep_tokens(self, text: str, states: TokenStates) -> None:
        if np.isfinite(states.vector).all() and np.isfinite(states.states).all():
            self._tokens.keep(text, states, states.vector.nbytes + states.states.nbytes)

    @property
    def _can_wait(self) -> bool:
        return getattr(self._local, "background", False)

    def _in_turn(self, texts: Sequence[str]) -> Iterator[str]:
        """One text after the other, each when no recall is under way."""
        for text in texts:
            self._wait()
            yield text

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while self.is_busy() and time.monotonic() < until:
            time.sleep(STEP_SECONDS)
