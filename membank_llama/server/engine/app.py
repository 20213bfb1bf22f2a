"""`Engine`: llama.cpp behind Ollama's whole API and those of OpenAI and Anthropic, in this process; an ASGI app.

Routes, cross-origin rules, hang-ups and errors are here and nowhere else. Each request runs in a task of its
own, which is cancelled when its client hangs up; whatever goes wrong becomes an answer in the API's own shape,
and the server goes on. Starlette routes; bodies and streams go by plain ASGI, as its requests know no limits and
its responses do not notice a client that stops reading.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router

from membank_llama.core.errors import MembankError
from membank_llama.kv.kv_types import KV_TYPES
from membank_llama.kv.piece_store import PieceStore

from ..asgi import (
    MAX_BODY_BYTES,
    ASGIApp,
    ClientGoneError,
    Receive,
    Scope,
    Send,
    WireError,
    is_openai,
    outward,
    parse_object,
    send_error,
    send_whole,
)
from ..body_budget import BodyBudget
from ..origins import LOOKING, allowed_origins, check_host, check_origin
from .api import account, anthropic_api, embeddings, llama_server_api, ollama_api, openai_api, responses_api
from .api import models as management
from .exchange import STALL_SECONDS, Exchange
from .library.catalogue import Catalogue
from .runtime.generation_service import GenerationService
from .runtime.model_pool import ModelPool, PooledModel, PoolSettings

_log = logging.getLogger("membank_llama")

Handler = Callable[[GenerationService, Exchange], Awaitable[None]]

_RUNNING = b"Ollama is running"
_REFUSED = {404: b"404 page not found", 405: b"405 method not allowed"}
_TEXT = "text/plain; charset=utf-8"
_EXCHANGE = "membank.exchange"
_SLASHES = re.compile("/{2,}")


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
        kv_store: where what was evaluated is kept from answer to answer and from run to run.
        kv_type: of the numbers in the KV cache, one of `KV_TYPES`.
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
    kv_store: PieceStore | None = None
    kv_type: str = KV_TYPES[0]


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
                kv_store=settings.kv_store,
                kv_type=settings.kv_type,
            )
        )
        self._intake = BodyBudget(settings.max_body)
        self._service = GenerationService(self.catalogue, self._pool)
        self._router = Router(self._routes(), redirect_slashes=False, lifespan=self._lifespan)
        self._app = CORSMiddleware(
            self._serve,
            allow_origin_regex=allowed_origins(),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"],
            allow_headers=["*"],
            max_age=43_200,
        )

    @property
    def context_follows(self) -> bool:
        """Whether a context grows to hold what is asked."""
        return self.settings.n_ctx is None

    @property
    def kv_store(self) -> PieceStore | None:
        """Where KV state is kept."""
        return self.settings.kv_store

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

    @asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        yield
        await self.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Of a server's lifespan, only the end matters: it closes the engine."""
        await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        # as the app, so that a path that is not there is an exception
        scope["app"] = self
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        # an address that ends in a slash, and a path that begins with one
        scope["path"] = _SLASHES.sub("/", scope["path"])
        x = scope[_EXCHANGE] = Exchange(scope, send)
        try:
            check_host(scope)
            if scope["method"] not in LOOKING:
                check_origin(scope)
            if "\n" in scope["path"]:
                # a route takes one at its end for nothing
                raise HTTPException(404)
            await self._router(scope, receive, send)
        except HTTPException as exc:
            await send_whole(send, exc.status_code, _REFUSED.get(exc.status_code, b""), _TEXT)
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

    def _routes(self) -> list[Route]:
        routes = [
            Route(path, _Endpoint(self._answering(handler, parsed=path not in _ANY_BODY)), methods=[verb])
            for verb, path, handler in (*_OLLAMA, *_OPENAI, *_ANTHROPIC, *_LLAMA_SERVER, *_ACCOUNT)
        ]
        return [*routes, Route(f"{management.BLOBS}{{digest:path}}", _Endpoint(self._blob))]

    def _answering(self, handler: Handler, *, parsed: bool) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            x: Exchange = scope[_EXCHANGE]
            async with self._intake.body(scope, receive) as body:
                if not parsed:
                    x.raw = body
                elif scope["method"] not in ("GET", "HEAD"):
                    x.body = parse_object(body)
                await _unless_gone(handler(self._service, x), x, receive)

        return app

    async def _blob(self, scope: Scope, receive: Receive, send: Send) -> None:
        await management.blob(self.catalogue, scope, receive, send)


class _Endpoint:
    """An ASGI app that a route takes as it is; a function it would take for one that is given a `Request`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _root(_: GenerationService, x: Exchange) -> None:
    await send_whole(x.send, 200, b"" if x.scope["method"] == "HEAD" else _RUNNING, _TEXT)


_Routes = tuple[tuple[str, str, Handler], ...]
_OLLAMA: _Routes = (
    ("GET", "/", _root),
    ("POST", "/api/chat", ollama_api.chat),
    ("POST", "/api/generate", ollama_api.generate),
    ("GET", "/api/ps", management.running),
    ("GET", "/api/version", management.version),
    ("GET", "/api/tags", management.tags),
    ("POST", "/api/show", management.show),
    ("POST", "/api/pull", management.pull_model),
    ("POST", "/api/push", management.push_model),
    ("POST", "/api/create", management.create_model),
    ("POST", "/api/copy", management.copy_model),
    ("DELETE", "/api/delete", management.delete_model),
    ("POST", "/api/embed", embeddings.embed),
    ("POST", "/api/embeddings", embeddings.embeddings),
)
_OPENAI: _Routes = (
    ("POST", "/v1/chat/completions", openai_api.chat_completions),
    ("POST", "/v1/completions", openai_api.completions),
    ("POST", "/v1/embeddings", embeddings.openai_embeddings),
    ("POST", "/v1/responses", responses_api.responses),
    ("GET", "/v1/models", openai_api.list_models),
    ("GET", "/v1/models/{name:path}", openai_api.retrieve_model),
)
_ANTHROPIC: _Routes = (
    ("POST", "/v1/messages", anthropic_api.messages),
    ("POST", "/v1/messages/count_tokens", anthropic_api.count_tokens),
)
_LLAMA_SERVER: _Routes = (
    ("POST", "/completion", llama_server_api.completion),
    *(
        (verb, path.removeprefix("/v1"), handler)
        for verb, path, handler in (*_OPENAI, *_ANTHROPIC)
        if handler is not openai_api.retrieve_model
    ),
)
_ACCOUNT: _Routes = (
    ("GET", "/api/status", account.status),
    ("POST", "/api/me", account.whoami),
    ("POST", "/api/signout", account.signout),
    ("DELETE", "/api/user/keys/{key:path}", account.signout),
    ("GET", "/api/experimental/model-recommendations", account.recommendations),
    ("POST", "/api/experimental/web_search", account.web_search),
    ("POST", "/api/experimental/web_fetch", account.web_fetch),
    ("POST", "/v1/images/generations", account.image_generation),
    ("POST", "/v1/images/edits", account.image_generation),
    ("POST", "/v1/audio/transcriptions", account.transcription),
)
# theirs is empty, a form, or looked at by them
_ANY_BODY = frozenset(path for _, path, _ in _ACCOUNT)


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
