"""How many tokens of context each model has, as what is behind says of the models that it has loaded.

Asked in the background after a model has answered, at most once in a while; until it is known, and where the answer
holds none, the given number is assumed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ..asgi import ASGIApp, Message, Scope

logger = logging.getLogger("membank_llama")

FRESH_SECONDS = 300.0
LOOK_SECONDS = 30.0
MOST_MODELS = 256
_PS = "/api/ps"


class Contexts:
    """Contexts by model.

    Args:
        behind: asked for `/api/ps`.
        assumed: tokens of a model that nothing is known of.
    """

    def __init__(self, behind: ASGIApp, assumed: int) -> None:
        self._behind = behind
        self._assumed = assumed
        self._known: dict[str, int] = {}
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, model: str) -> int:
        """Tokens of context of a model."""
        return self._known.get(_with_tag(model), self._assumed)

    def answered(self, model: str) -> None:
        """A model has just answered, so that it is loaded now: look, unless that was done of late."""
        now = time.monotonic()
        if self._tasks or now - self._asked.get(model, -FRESH_SECONDS) < FRESH_SECONDS:
            return
        self._asked[model] = now
        if len(self._asked) > MOST_MODELS:
            self._asked.popitem(last=False)
        task = asyncio.ensure_future(self._look())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        parts: list[bytes] = []
        waiting = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if not waiting:
                # what is behind watches for a client that hangs up: this one never does
                await asyncio.Event().wait()
            return waiting.pop()

        async def send(message: Message) -> None:
            parts.append(message.get("body", b""))

        scope: Scope = {
            "type": "http", "method": "GET", "path": _PS, "raw_path": _PS.encode(), "query_string": b"", "headers": [],
        }  # fmt: skip
        try:
            await asyncio.wait_for(self._behind(scope, receive, send), LOOK_SECONDS)
            found = _contexts(json.loads(b"".join(parts)))
            self._known = (self._known if len(self._known) < MOST_MODELS else {}) | found
        except (ValueError, RecursionError, asyncio.TimeoutError):
            logger.debug("%s told no contexts", _PS)


def _contexts(answer: Any) -> dict[str, int]:
    models = answer.get("models") if isinstance(answer, dict) else None
    found = {}
    for model in models if isinstance(models, list) else ():
        length = model.get("context_length") if isinstance(model, Mapping) else None
        if isinstance(length, int) and length > 0:
            found[_with_tag(str(model.get("model") or model.get("name")))] = length
    return found


def _with_tag(model: str) -> str:
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
