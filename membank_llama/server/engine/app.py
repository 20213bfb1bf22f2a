"""`Engine`: llama.cpp behind Ollama's whole API, in this process; a pure ASGI app.

Routing, cross-origin rules, hang-ups and errors are here and nowhere else. Each request runs in a task of its
own, which is cancelled when its client hangs up; whatever goes wrong becomes an answer in the API's own shape,
and the server goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.middleware.cors import CORSMiddleware

from membank_llama.core.errors import MembankError

from ..asgi import (
    MAX_BODY_BYTES,
    ClientGoneError,
    Receive,
    Scope,
    Send,
    WireError,
    is_openai,
    live,
    outward,
    parse_object,
    send_error,
    send_whole,
)
from ..body_budget import Intake
from ..origins import LOOKING, allowed_origins, check_host, check_origin
from .api import embeddings, ollama_api, openai_api
from .api import models as management
from .exchange import STALL_SECONDS, Exchange
from .library.catalogue import Catalogue
from .runtime.generation_service import GenerationService
from .runtime.model_pool import ModelPool, PooledModel, PoolSettings

_log = logging.getLogger("membank_llama")

Handler = Callable[[GenerationService, Exchange], Awaitable[None]]

_RUNNING = b"Ollama is running"
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class EngineSettings:
    """What the engine serves and how.

    Args:
        store: our own model store.
        models: GGUF files named one by one.
        folder: a folder of GGUF files.
        use_ollama: whether models of Ollama's stores are served.
        n_ctx: tokens of context; None: 4,096, or what the model was trained for if that is less.
        n_threads: None: half the processors.
        n_gpu_layers: -1 for all.
        max_loaded: models in memory at once.
        max_queue: requests that may wait.
        keep_alive: seconds that a model stays after its last request; negative: forever.
        max_body: bytes of a request.
    """

    store: Path
    models: tuple[Path, ...] = ()
    folder: Path | None = None
    use_ollama: bool = True
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int = 0
    max_loaded: int = 1
    max_queue: int = 512
    keep_alive: float = 300.0
    max_body: int = MAX_BODY_BYTES


class Engine:
    """The app. Belongs to the event loop of its first request; `close()` it there.

    Raises:
        ModelFileError: one of the files named is missing or no model.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.catalogue = Catalogue(
            settings.models, settings.folder, store=settings.store, use_ollama=settings.use_ollama
        )
        self._pool = ModelPool(
            PoolSettings(
                n_ctx=settings.n_ctx,
                n_threads=settings.n_threads,
                n_gpu_layers=settings.n_gpu_layers,
                max_loaded=settings.max_loaded,
                max_queue=settings.max_queue,
                keep_alive=settings.keep_alive,
            )
        )
        self._intake = Intake(settings.max_body)
        self._service = GenerationService(self.catalogue, self._pool)
        self._routes = _routes()
        self._app = CORSMiddleware(
            self._serve,
            allow_origin_regex=allowed_origins(),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"],
            allow_headers=["*"],
            max_age=43_200,
        )

    @property
    def queued(self) -> int:
        """Requests that wait for their model."""
        return self._pool.queued

    def loaded(self) -> list[PooledModel]:
        """The models in memory."""
        return self._pool.loaded()

    async def close(self) -> None:
        """Stop what is generating, free the models, end their threads."""
        await self._pool.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Of a server's lifespan, only the end matters: it closes the engine."""
        if scope["type"] == "lifespan":
            await live(receive, send, self.close)
        elif scope["type"] == "http":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        x = Exchange(scope, send)
        try:
            check_host(scope)
            if scope["method"] not in LOOKING:
                check_origin(scope)
            if scope["path"].startswith(management.BLOBS):
                await management.blob(self.catalogue, scope, receive, send)
                return
            handler = self._find(scope)
            async with self._intake.body(scope, receive) as body:
                if scope["method"] not in ("GET", "HEAD"):
                    x.body = parse_object(body)
                await _unless_gone(handler(self._service, x), x, receive)
        except ClientGoneError:
            pass
        except RecursionError:
            await _fail(x, WireError(400, "the request is nested too deeply"))
        except WireError as exc:
            await _fail(x, exc)
        except MembankError as exc:
            await _fail(x, WireError(500, outward(exc)))
        except Exception:  # noqa: BLE001  the server outlives its mistakes
            _log.exception("a request to %s failed", scope["path"])
            await _fail(x, WireError(500, "something went wrong, please see the server's log for details"))

    def _find(self, scope: Scope) -> Handler:
        method, path = scope["method"], scope["path"]
        found = self._routes.get(path)
        if found is None and path.startswith("/v1/models/"):
            found = {"GET": openai_api.retrieve_model}
        if found is None:
            return _not_found
        return found.get(method) or (found["GET"] if method == "HEAD" and "GET" in found else _not_allowed)


def _routes() -> dict[str, dict[str, Handler]]:
    return {
        "/": {"GET": _root, "HEAD": _root},
        "/api/chat": {"POST": ollama_api.chat},
        "/api/generate": {"POST": ollama_api.generate},
        "/api/ps": {"GET": management.running},
        "/api/version": {"GET": management.version},
        "/api/tags": {"GET": management.tags},
        "/api/show": {"POST": management.show},
        "/api/pull": {"POST": management.pull_model},
        "/api/push": {"POST": management.push_model},
        "/api/create": {"POST": management.create_model},
        "/api/copy": {"POST": management.copy_model},
        "/api/delete": {"DELETE": management.delete_model},
        "/api/embed": {"POST": embeddings.embed},
        "/api/embeddings": {"POST": embeddings.embeddings},
        "/v1/chat/completions": {"POST": openai_api.chat_completions},
        "/v1/completions": {"POST": openai_api.completions},
        "/v1/embeddings": {"POST": embeddings.openai_embeddings},
        "/v1/models": {"GET": openai_api.list_models},
    }


async def _root(_: GenerationService, x: Exchange) -> None:
    await send_whole(x.send, 200, b"" if x.scope["method"] == "HEAD" else _RUNNING, _TEXT)


async def _not_found(_: GenerationService, x: Exchange) -> None:
    await send_whole(x.send, 404, b"404 page not found", _TEXT)


async def _not_allowed(_: GenerationService, x: Exchange) -> None:
    await send_whole(x.send, 405, b"405 method not allowed", _TEXT)


async def _fail(x: Exchange, error: WireError) -> None:
    if x.streaming:
        await x.fail(error.status, str(error))
        return
    if error.status == 503 and "retry-after" in error.headers and is_openai(x.path):
        error = WireError(429, str(error), error.headers)
    await send_error(x.scope, x.send, error)


async def _unless_gone(answering: Awaitable[None], x: Exchange, receive: Receive) -> None:
    """Run to the end, or until the client hangs up or stops reading."""
    work = asyncio.ensure_future(answering)
    watch = asyncio.ensure_future(_gone(receive))
    try:
        while not (work.done() or watch.done() or x.stalled):
            await asyncio.wait((work, watch), timeout=STALL_SECONDS / 8, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        watch.cancel()
        while not work.done():
            # once more if it was lost: a cancellation is, where what it met ended at the same moment
            work.cancel()
            await asyncio.wait((work,), timeout=1.0)
        await asyncio.gather(work, watch, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
