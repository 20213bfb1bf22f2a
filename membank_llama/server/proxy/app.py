"""`Proxy`: the ASGI app that stands between clients and whatever speaks Ollama's API.

Here it is decided whose a request is, whether it may have a memory, and who answers it: the proxy itself, or what is
behind it. That is an ASGI app too, an `Upstream` or the engine in this process; the proxy knows no difference.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from ..asgi import (
    MAX_BODY_BYTES,
    ClientGoneError,
    Message,
    Receive,
    Scope,
    Send,
    WireError,
    is_request,
    read_json,
    send_error,
    with_body,
)
from ..bank_app import faces_of
from ..bank_faces import MCP_PATH, REST_PREFIX, BankFaces
from ..body_budget import BodyBudget
from ..face_context import FaceContext
from ..origins import LOOKING, answer_preflight, check_host, check_origin, for_page, is_preflight
from .chat_handler import ChatHandler
from .chat_requests import GENERATION_PATHS
from .metrics import Metrics
from .namespace_auth import BearerTokens, Caller, located
from .proxy_memory import ProxyMemory
from .slot_files import SlotFiles
from .status_api import OWN, StatusApi
from .upstream_slots import UpstreamSlots

logger = logging.getLogger("membank_llama")

_SHARED = frozenset(
    {
        "/api/show", "/api/embed", "/api/embeddings", "/api/v0/embeddings", "/v1/embeddings", "/embeddings",
        "/embedding", "/infill", "/tokenize", "/detokenize", "/apply-template", "/v1/rerank", "/rerank", "/reranking",
    }
)  # fmt: skip
"""Calls with a model in their body that everyone may make."""


class Backend(Protocol):
    """What answers: an ASGI app that can be closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
    async def close(self) -> None: ...


class Proxy:
    """Memory in front of an app that speaks Ollama's API.

    Args:
        backend: closed with this.
        memory: None passes everything on.
        tokens: who may come in, and to what.
        facts: for `/membank/status`: what is behind, who encodes.
        max_body: bytes of a request that is read; what only passes by has no limit.
        upstream_slots: whether what a llama-server behind has read of conversations is kept in files of its own.
    """

    def __init__(
        self,
        backend: Backend,
        memory: ProxyMemory | None,
        *,
        tokens: BearerTokens | None = None,
        facts: Callable[[], Mapping[str, Any]] = dict,
        max_body: int = MAX_BODY_BYTES,
        upstream_slots: bool = False,
    ) -> None:
        self._backend = backend
        self.memory = memory
        self.metrics = Metrics()
        self._tokens = tokens or BearerTokens({})
        self._body_budget = BodyBudget(max_body)
        self._chat: ChatHandler | None = None
        self._status: StatusApi | None = None
        self._faces: BankFaces | None = None
        self._slot_files: SlotFiles | None = None
        if memory is not None:
            server = getattr(backend, "server", None)
            slots = None
            if upstream_slots and server is not None:
                self._slot_files = SlotFiles(memory.bank.store.registry)
                slots = UpstreamSlots(server, self._slot_files, self.metrics)
                memory.bank.store.on_forget.append(slots.forget)
            self._chat = ChatHandler(backend, memory, self.metrics, slots)
            self._status = StatusApi(memory, self.metrics, facts, self._body_budget)
            context = FaceContext(memory.bank, facts, memory.last_recalls, self._body_budget)
            self._faces = faces_of(context, self._tokens, proxied=True)
            worker = memory.ingest_worker
            self.metrics.watch("membank_learn_queue", "Lessons not stored yet.", lambda: worker.waiting)
            self.metrics.watch("membank_stored_memories", "Memories stored since the start.", lambda: worker.stored)
        queued = getattr(backend, "queued", None)
        if queued is not None:
            self.metrics.watch("membank_engine_queue", "Requests waiting for a model.", lambda: backend.queued)  # type: ignore[attr-defined]

        kv_store = getattr(backend, "kv_store", None)
        if kv_store is not None:
            counts = kv_store.counts
            for name, meaning in _KV.items():
                self.metrics.watch(f"membank_kv_{name}", meaning, partial(getattr, counts, name))
            self.metrics.watch("membank_kv_bytes", "Bytes of KV state on disk.", kv_store.nbytes)

    async def close(self) -> None:
        """Close what is behind, then store what is waiting."""
        if self._faces is not None:
            await self._faces.close()
        if self._chat is not None:
            await self._chat.close()
        await self._backend.close()
        if self.memory is not None:
            self.memory.close()
        if self._slot_files is not None:
            # the last of all: by what it says of the bank it is known whether that changed meanwhile
            self._slot_files.keep()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not await is_request(scope, receive, send, self.close):
            return
        response = _Response(for_page(scope, send))
        try:
            await self._answer(scope, receive, response)
        except WireError as exc:
            if not response.status:
                await send_error(scope, response, exc)
        except ClientGoneError:
            pass
        finally:
            self._note(scope, response)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_host(scope)
        by_path, scope = located(scope)
        method, path = scope["method"], scope["path"]
        if method == "OPTIONS" and is_preflight(scope):
            await answer_preflight(scope, send)
            return
        generates = path in GENERATION_PATHS
        if self._faces is not None and not generates and path not in OWN and self._faces.answers(scope):
            await self._faces(scope, receive, send, by_path)
            return
        caller = self._tokens.caller(scope, by_path)
        status = self._status if path in OWN else None
        if method not in LOOKING or status is not None or generates:
            check_origin(scope)
        if status is not None:
            await status(scope, receive, send, caller)
        elif method == "POST" and (generates or path in _SHARED):
            await self._with_body(scope, receive, send, caller, self._chat if generates else None)
        else:
            caller.namespace()
            _check_change(caller, method)
            await self._backend(scope, receive, send)

    async def _with_body(
        self, scope: Scope, receive: Receive, send: Send, caller: Caller, chat: ChatHandler | None
    ) -> None:
        async with self._body_budget.body(scope, receive) as body:
            namespace, body, parsed = caller.namespace_of(body, _parsed(body))
            if chat is None:
                await self._backend(*with_body(scope, receive, body), send)
            else:
                await chat.handle(scope, receive, send, body, parsed, namespace)

    def _note(self, scope: Scope, response: _Response) -> None:
        path = scope["path"]
        self.metrics.requests.labels(_label(path), str(response.status)).inc()
        memory = f" memory {response.state}" if response.state else ""
        logger.info("%s %s %d %.1f ms%s", scope["method"], path, response.status, response.milliseconds, memory)


def _label(path: str) -> str:
    """What requests of a path are counted as: names that clients make up are none."""
    if path in GENERATION_PATHS or path in _SHARED or path in OWN:
        return path
    return next((face for face in (f"{REST_PREFIX}page/", REST_PREFIX, MCP_PATH) if path.startswith(face)), "other")


_KV = {
    "restores": "Prompts of which a part was restored and not evaluated.",
    "restored_tokens": "Tokens that were restored and not evaluated.",
    "kept_pieces": "Pieces of KV state written.",
    "kept_tokens": "Tokens of them.",
    "rejected": "Pieces found damaged or wrong.",
}


class _Response:
    """Passes messages on and remembers the status, what became of memory, and how long it took so far."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start = time.perf_counter()
        self.status = 0
        self.state = ""

    @property
    def milliseconds(self) -> float:
        return 1000 * (time.perf_counter() - self._start)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.state = next((v.decode() for k, v in message.get("headers", ()) if k == b"x-membank"), "")
        await self._send(message)


def _parsed(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a body; None where it is none, which is for what is behind to say."""
    try:
        parsed = read_json(body)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _check_change(caller: Caller, method: str) -> None:
    """Let nobody but an administrator do what may change the models, which all share.

    Raises:
        WireError: 403.
    """
    if method not in LOOKING and not caller.is_admin:
        raise WireError(
            403, "models are changed by administrators here: ask with a token that the tokens file marks as admin"
        )
