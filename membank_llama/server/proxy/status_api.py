"""What the proxy answers itself: its status, the last recalls, figures, and recall and learning for hooks.

Everything but status and figures belongs to a namespace and shows nothing of another.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any

from membank_llama._version import __version__

from ..asgi import Receive, Scope, Send, WireError, parse_object, send_json, send_whole
from ..body_budget import Intake
from .api_formats import Asked, Reply, open_request
from .auxiliary_calls import is_side_call
from .metrics import CONTENT_TYPE, Metrics
from .namespace_auth import split_model, zone_of
from .recall_service import ProxyMemory

PREFIX = "/membank/"
METRICS = "/metrics"
OWN = (*(f"{PREFIX}{name}" for name in ("status", "why", "recall", "learn")), METRICS)
_CHAT = "/v1/chat/completions"


class Operations:
    """Answers under `/membank/` and at `/metrics`.

    Args:
        facts: what else belongs into the status.
        intake: takes the bodies in.
    """

    def __init__(
        self, memory: ProxyMemory, metrics: Metrics, facts: Callable[[], Mapping[str, Any]], intake: Intake
    ) -> None:
        self._memory = memory
        self._intake = intake
        self._metrics = metrics
        self._facts = facts
        self._since = time.time()

    def owns(self, path: str) -> bool:
        """Whether a path is answered here."""
        return path.startswith(PREFIX) or path == METRICS

    async def __call__(self, scope: Scope, receive: Receive, send: Send, whose: Callable[[str | None], str]) -> None:
        """Answer one request.

        Args:
            whose: the namespace, given the one at the end of the model's name.

        Raises:
            WireError: it cannot be answered.
        """
        method, path = scope["method"], scope["path"]
        namespace = whose(None)
        if path == METRICS and method in ("GET", "HEAD"):
            await send_whole(send, 200, self._metrics.text(), CONTENT_TYPE)
        elif path == "/membank/status" and method in ("GET", "HEAD"):
            await _send(send, self._status(namespace))
        elif path == "/membank/why" and method in ("GET", "HEAD"):
            await _send(send, {"namespace": namespace, "recalls": self._memory.last_recalls(namespace)})
        elif path == "/membank/recall" and method == "POST":
            async with self._intake.body(scope, receive) as body:
                await _send(send, await self._recall(*_asked(body, whose), zone_of(scope)))
        elif path == "/membank/learn" and method == "POST":
            async with self._intake.body(scope, receive) as body:
                await _send(send, await asyncio.to_thread(self._learn, *_asked(body, whose)))
        elif path in OWN:
            raise WireError(405, f"{method} is not allowed here")
        else:
            raise WireError(404, "there is /membank/status, why, recall and learn, and /metrics")

    def _status(self, namespace: str) -> dict[str, Any]:
        memory, bank = self._memory, self._memory.bank
        return {
            "version": __version__,
            "since": self._since,
            "bank": bank.path.name,
            "namespace": namespace,
            "memories": bank.store.registry.count(namespace),
            "waiting_to_be_stored": memory.learner.waiting,
            "failed_to_be_stored": memory.learner.failed,
            "deadline_ms": 1000 * memory.deadline,
            **self._facts(),
        }

    async def _recall(self, asked: Asked, namespace: str, zone: tzinfo | None) -> dict[str, Any]:
        if is_side_call(asked.messages):
            return {"messages": asked.messages, "memories": 0, "conversation": None, "state": "none"}
        reminded = await self._memory.remind(asked, namespace, zone)
        self._metrics.remembered.labels(reminded.state).inc()
        return {
            "messages": asked.messages if reminded.messages is None else reminded.messages,
            "memories": reminded.memories,
            "conversation": None if reminded.recognised is None else reminded.recognised.conversation,
            "state": reminded.state,
        }

    def _learn(self, asked: Asked, namespace: str) -> dict[str, Any]:
        if is_side_call(asked.messages):
            return {"queued": 0}
        return {"queued": self._memory.learn_all(asked, namespace, Reply(whole=True))}


def _asked(raw: bytes, whose: Callable[[str | None], str]) -> tuple[Asked, str]:
    """The question in a request, and the namespace that it is for."""
    body = parse_object(raw)
    name, body["model"] = split_model(body.get("model", ""))
    asked = open_request(_CHAT, body)
    if asked is None:
        raise WireError(400, 'send {"messages": [{"role": "user", "content": "…"}, …]}')
    return asked, whose(name)


async def _send(send: Send, answer: Mapping[str, Any]) -> None:
    await send_json(send, 200, json.dumps(answer).encode())
