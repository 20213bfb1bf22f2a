"""`Proxy`: the ASGI app that stands between clients and whatever speaks Ollama's API.

Here it is decided whose a request is, whether it may have a memory, and who answers it: the proxy itself, or what is
behind it. That is an ASGI app too, an `Upstream` or the engine in this process; the proxy knows no difference.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..asgi import (
    MAX_BODY_BYTES,
    ClientGoneError,
    Receive,
    Scope,
    Send,
    WireError,
    for_body,
    live,
    read_json,
    replayed,
    send_error,
)
from ..body_budget import Intake
from ..origins import LOOKING, answer_preflight, check_host, check_origin, for_page, is_preflight
from .api_formats import is_asking
from .chat_handler import Timed, Way
from .context_lengths import Contexts
from .metrics import Metrics
from .namespace_auth import Tokens, Visitor, named_by_header, split_model, whose
from .recall_service import ProxyMemory
from .request_target import located
from .status_api import OWN, Operations

logger = logging.getLogger("membank_llama")

_NAMED = ("model", "name")
_MANAGED = ("/api/show", "/api/embed", "/api/embeddings", "/v1/embeddings")


class Behind(Protocol):
    """What answers: an ASGI app that can be closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
    async def close(self) -> None: ...


class Proxy:
    """Memory in front of an app that speaks Ollama's API.

    Args:
        behind: closed with this.
        memory: None passes everything on.
        tokens: who may come in, and to what.
        facts: for `/membank/status`: what is behind, who encodes.
        max_body: bytes of a request that is read; what only passes by has no limit.
    """

    def __init__(
        self,
        behind: Behind,
        memory: ProxyMemory | None,
        *,
        tokens: Tokens | None = None,
        facts: Callable[[], Mapping[str, Any]] = dict,
        max_body: int = MAX_BODY_BYTES,
    ) -> None:
        self.behind = behind
        self.memory = memory
        self.metrics = Metrics()
        self._tokens = tokens or Tokens({})
        self._intake = Intake(max_body)
        self._way: Way | None = None
        self._operations: Operations | None = None
        self._contexts: Contexts | None = None
        if memory is not None:
            self._contexts = Contexts(behind, memory.context)
            memory.context_of = self._contexts.of
            self._way = Way(behind, memory, self.metrics)
            self._operations = Operations(memory, self.metrics, facts, self._intake)
            learner = memory.learner
            self.metrics.watch("membank_learn_queue", "Lessons not stored yet.", lambda: learner.waiting)
            self.metrics.watch("membank_stored_memories", "Memories stored since the start.", lambda: learner.stored)
        queued = getattr(behind, "queued", None)
        if queued is not None:
            self.metrics.watch("membank_engine_queue", "Requests waiting for a model.", lambda: behind.queued)  # type: ignore[attr-defined]

    async def close(self) -> None:
        """Close what is behind, then store what is waiting."""
        if self._contexts is not None:
            await self._contexts.close()
        await self.behind.close()
        if self.memory is not None:
            self.memory.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await live(receive, send, self.close)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        timed = Timed(for_page(scope, send))
        try:
            await self._answer(scope, receive, timed)
        except WireError as exc:
            if not timed.status:
                await send_error(scope, timed, exc)
        except ClientGoneError:
            pass
        finally:
            self._note(scope, timed)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_host(scope)
        by_path, scope = located(scope)
        if is_preflight(scope):
            await answer_preflight(scope, send)
            return
        visitor = self._tokens.visitor(scope)
        path = scope["path"]
        own = self._operations is not None and self._operations.owns(path)
        if scope["method"] not in LOOKING or own or is_asking(path):
            check_origin(scope)
        named = (by_path, named_by_header(scope))
        if own and self._operations is not None:
            await self._operations(scope, receive, send, lambda by_model: whose(visitor.namespace, *named, by_model))
            return
        if scope["method"] != "POST" or not (is_asking(path) or path in _MANAGED):
            whose(visitor.namespace, *named)
            _check_change(visitor, scope)
            await self.behind(scope, receive, send)
            return
        async with self._intake.body(scope, receive) as body:
            parsed = _parsed(body)
            by_model, body, parsed = _model_apart(body, parsed)
            namespace = whose(visitor.namespace, *named, by_model)
            if self._way is None or not is_asking(path):
                await self.behind(for_body(scope, body), replayed(body, receive), send)
            else:
                await self._way.take(scope, receive, send, body, parsed, namespace)
                if self._contexts is not None and parsed is not None and isinstance(parsed.get("model"), str):
                    self._contexts.answered(parsed["model"])

    def _note(self, scope: Scope, timed: Timed) -> None:
        path = scope["path"]
        known = path if is_asking(path) or path in _MANAGED or path in OWN else "other"
        self.metrics.requests.labels(known, str(timed.status)).inc()
        logger.info(
            "%s %s %d %.1f ms%s",
            scope["method"],
            path,
            timed.status,
            timed.milliseconds,
            f" memory {timed.state}" if timed.state else "",
        )


def _parsed(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a body; None where it is none, which is for what is behind to say."""
    try:
        parsed = read_json(body)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _check_change(visitor: Visitor, scope: Scope) -> None:
    """Let nobody but an administrator do what may change the models, which all share.

    Raises:
        WireError: 403.
    """
    if scope["method"] not in LOOKING and not visitor.is_admin:
        raise WireError(
            403, "models are changed by administrators here: ask with a token that the tokens file marks as admin"
        )


def _model_apart(body: bytes, parsed: dict[str, Any] | None) -> tuple[str | None, bytes, dict[str, Any] | None]:
    """The namespace at the end of the model's name, and the body without it."""
    for key in _NAMED if parsed is not None else ():
        name, model = split_model(parsed.get(key))  # type: ignore[union-attr]
        if name is not None:
            parsed = {**(parsed or {}), key: model}
            return name, json.dumps(parsed, separators=(",", ":")).encode(), parsed
    return None, body, parsed
