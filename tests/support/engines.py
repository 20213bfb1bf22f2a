"""An engine behind a real socket, for tests, and a model that says what a test wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from membank_llama.server.engine.app import Engine, EngineSettings
from membank_llama.server.engine.generation.generation_context import GenerationContext
from support.asgi_server import serve


@contextmanager
def running(store: Path, *models: Path, **settings: Any) -> Iterator[tuple[Engine, httpx.Client]]:
    """An engine with these models, and a client for it."""
    engine = Engine(EngineSettings(store=store, models=models, use_ollama=False, **{"n_threads": 1, **settings}))
    with serve(engine) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield engine, client


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


class Scripted(GenerationContext):
    """The real model, made to say `script` at its first chance; after that it says what it likes."""

    def __init__(self, path: Path, script: str, *, n_ctx: int = 1024) -> None:
        super().__init__(path, n_ctx=n_ctx, n_threads=1, n_gpu_layers=0)
        self.script = [token for byte in [script] for token in self._spelled(byte)]

    def _spelled(self, text: str) -> list[int]:
        # byte by byte, so that any text can be said and characters are split over tokens
        return [self._byte(value) for value in text.encode()]

    def _byte(self, value: int) -> int:
        single = bytes([value])
        for token in range(self.n_vocab):
            if self.piece(token) == single:
                return token
        raise LookupError(single)

    def logits(self) -> Any:
        if not self.script:
            return super().logits()
        forced = np.full(self.n_vocab, -50.0, np.float32)
        forced[self.script.pop(0)] = 50.0
        return forced


def merged(deltas: Sequence[Any]) -> tuple[str, str, list[Any]]:
    """(content, thinking, calls) of all deltas."""
    content = "".join(delta.content for delta in deltas)
    thinking = "".join(delta.thinking for delta in deltas)
    return content, thinking, [call for delta in deltas for call in delta.calls]
