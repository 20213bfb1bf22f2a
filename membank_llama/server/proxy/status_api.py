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

from starlette.responses import Response

from membank_llama._version import __version__

from ..asgi import Receive, Scope, Send, WireError, parse_object
from ..body_budget import BodyBudget
from .auxiliary_requests import is_auxiliary
from .chat_requests import open_request
from .client_request import ChatReply, ChatRequest
from .metrics import CONTENT_TYPE, Metrics
from .namespace_auth import Caller, split_model, zone_of
from .proxy_memory import ProxyMemory

PREFIX = "/membank/"
METRICS = "/metrics"
OWN = (*(f"{PREFIX}{name}" for name in ("status", "why", "recall", "learn")), METRICS)
_POSTED = (f"{PREFIX}recall", f"{PREFIX}learn")
_CHAT = "/v1/chat/completions"


class StatusApi:
    """Answers at the paths of `OWN`.

    Args:
        facts: what else belongs into the status.
        body_budget: takes the bodies in.
    """

    def __init__(
        self, memory: ProxyMemory, metrics: Metrics, facts: Callable[[], Mapping[str, Any]], body_budget: BodyBudget
    ) -> None:
        self._memory = memory
        self._body_budget = body_budget
        self._metrics = metrics
        self._facts = facts
        self._since = time.time()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        """Answer one request.

        Raises:
            WireError: it cannot be answered.
        """
        response = await self._answer(scope, receive, caller)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, caller: Caller) -> Response:
        method, path = scope["method"], scope["path"]
        namespace = caller.namespace()
        if path == METRICS and method in ("GET", "HEAD"):
            return Response(self._metrics.text(), media_type=CONTENT_TYPE)
        if path == "/membank/status" and method in ("GET", "HEAD"):
            # what is behind may be asked who it is
            return _json(await asyncio.to_thread(self._status, namespace))
        if path == "/membank/why" and method in ("GET", "HEAD"):
            return _json({"namespace": namespace, "recalls": self._memory.last_recalls(namespace)})
        if path == "/membank/recall" and method == "POST":
            async with self._body_budget.body(scope, receive) as body:
                return _json(await self._recall(*_opened(body, caller), zone_of(scope)))
        if path == "/membank/learn" and method == "POST":
            async with self._body_budget.body(scope, receive) as body:
                return _json(await asyncio.to_thread(self._learn, *_opened(body, caller)))
        allowed = "POST" if path in _POSTED else "GET, HEAD"
        raise WireError(405, f"{method} is not allowed here", {"allow": allowed})

    def _status(self, namespace: str) -> dict[str, Any]:
        memory, bank = self._memory, self._memory.bank
        return {
            "version": __version__,
            "since": self._since,
            "bank": bank.path.name,
            "namespace": namespace,
            "memories": bank.count(namespace),
            "waiting_to_be_stored": memory.ingest_worker.waiting,
            "failed_to_be_stored": memory.ingest_worker.failed,
            "deadline_ms": 1000 * memory.deadline,
            **self._facts(),
        }

    async def _recall(self, request: ChatRequest, namespace: str, zone: tzinfo | None) -> dict[str, Any]:
        if is_auxiliary(request):
            return {"messages": request.messages, "memories": 0, "conversation": None, "state": "none"}
        injected = await self._memory.recall(request, namespace, zone)
        self._metrics.remembered.labels(injected.state).inc()
        return {
            "messages": request.messages if injected.messages is None else injected.messages,
            "memories": injected.memories,
            "conversation": None if injected.recognised is None else injected.recognised.conversation,
            "state": injected.state,
        }

    def _learn(self, request: ChatRequest, namespace: str) -> dict[str, Any]:
        if is_auxiliary(request):
            return {"queued": 0}
        return {"queued": self._memory.learn_all(request, namespace, ChatReply(whole=True))}


def _opened(raw: bytes, caller: Caller) -> tuple[ChatRequest, str]:
    """The question in a request, and the namespace that it is for."""
    body = parse_object(raw)
    name, body["model"] = split_model(body.get("model", ""))
    request = open_request(_CHAT, body)
    if request is None:
        raise WireError(400, 'send {"messages": [{"role": "user", "content": "…"}, …]}')
    return request, caller.namespace(name)


def _json(answer: Mapping[str, Any]) -> Response:
    return Response(json.dumps(answer), media_type="application/json; charset=utf-8")
