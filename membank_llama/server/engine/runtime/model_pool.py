"""`ModelPool`: the loaded models, who may use them, and when they go.

Requests wait in one line. Each is given its model when that is loaded and idle, so one model answers one
request at a time, in order; while somebody waits for room in the pool, nobody behind overtakes. All of it
runs in one asyncio loop without locks; what is native runs on the thread that each loaded model owns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from membank_llama.adapters.llama_cpp.trial_load import prove
from membank_llama.gguf.capabilities import ModelFacts
from membank_llama.kv.kv_types import KV_TYPES
from membank_llama.kv.piece_store import PieceStore

from ...asgi import WireError
from ..generation.generation_context import GenerationContext
from ..library.served_model import ServedModel
from .async_bridge import AsyncBridge, Work
from .embedder import Embedder

_log = logging.getLogger("membank_llama")
T = TypeVar("T")

LOADING, IDLE, BUSY, LEAVING = "loading", "idle", "busy", "leaving"


@dataclass(frozen=True)
class LoadRequest:
    """A model as a request wants it loaded. `n_ctx` None: the server's default."""

    served: ServedModel
    facts: ModelFacts
    n_ctx: int | None = None

    @property
    def key(self) -> str:
        return str(self.served.path)


class PooledModel:
    """A model in the pool. Its native side, `native`, is touched on its own thread alone."""

    def __init__(self, request: LoadRequest, n_ctx: int, keep_alive: float) -> None:
        self.request = request
        self.n_ctx = n_ctx
        self.state = LOADING
        self.native: GenerationContext | Embedder | None = None
        self.keep_alive = keep_alive
        self.idle_since = time.monotonic()
        self.load_ns = 0
        self.timer: asyncio.TimerHandle | None = None
        self.stream: AsyncBridge[object] | None = None
        self.executor = ThreadPoolExecutor(1, f"membank-{request.served.name}")

    @property
    def nbytes(self) -> int:
        """Memory it takes, about."""
        return self.native.nbytes if self.native is not None else 0

    @property
    def vram(self) -> int:
        """The part of it on a graphics card."""
        return self.native.vram if self.native is not None else 0

    @property
    def most(self) -> int:
        """Tokens of context that it may grow to for a request that names none."""
        return self.native.most if self.native is not None else self.n_ctx

    @property
    def expires_at(self) -> float | None:
        """Seconds since 1970; None: never."""
        if self.keep_alive < 0:
            return None
        since = time.monotonic() if self.state != IDLE else self.idle_since
        return time.time() - (time.monotonic() - since) + self.keep_alive


class _Ticket:
    def __init__(self, request: LoadRequest, keep_alive: float) -> None:
        self.request = request
        self.keep_alive = keep_alive
        self.granted: asyncio.Future[PooledModel] = asyncio.get_running_loop().create_future()


@dataclass(frozen=True)
class PoolSettings:
    """How models are loaded, and how many."""

    n_ctx: int | None
    n_threads: int | None
    n_gpu_layers: int
    max_loaded: int
    max_queue: int
    keep_alive: float
    kv_store: PieceStore | None = None
    kv_type: str = KV_TYPES[0]


class ModelPool:
    """Loads on demand, unloads what has not been asked for; `max_loaded` models at most."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._loaded: dict[str, PooledModel] = {}
        self._waiting: list[_Ticket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def queued(self) -> int:
        """Requests that wait for their model."""
        return len(self._waiting)

    def loaded(self) -> list[PooledModel]:
        """What can be used, or will be in a moment."""
        return [one for one in self._loaded.values() if one.native is not None and one.state != LEAVING]

    async def hold(self, request: LoadRequest, keep_alive: float | None = None) -> PooledModel:
        """Wait for a model and have it alone, until `run()` has ended or `release()` is called.

        Raises:
            WireError: too many wait already, or the server is closing.
            MembankError: the model can't be loaded.
        """
        if self._closed:
            raise WireError(503, "the server is closing")
        ticket = _Ticket(request, self._settings.keep_alive if keep_alive is None else keep_alive)
        self._waiting.append(ticket)
        self._dispatch()
        if not ticket.granted.done() and len(self._waiting) > self._settings.max_queue:
            self._waiting.remove(ticket)
            raise busy()
        try:
            return await asyncio.shield(ticket.granted)
        except asyncio.CancelledError:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            elif ticket.granted.done() and not ticket.granted.exception():
                self.release(ticket.granted.result())
            self._dispatch()
            raise

    def run(self, loaded: PooledModel, work: Callable[[GenerationContext | Embedder], Work[T]]) -> AsyncBridge[T]:
        """Start work on a model that is held; it is released when the work has ended, however it ends."""
        native = loaded.native
        if native is None:
            raise WireError(503, "the model is not loaded any more; ask again")
        stream: AsyncBridge[T] = AsyncBridge(loaded.executor, work(native))
        loaded.stream = stream  # type: ignore[assignment]
        loop = asyncio.get_running_loop()

        def ended(_: Future[None]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.release, loaded)

        stream.ended.add_done_callback(ended)
        return stream

    def release(self, loaded: PooledModel) -> None:
        """Give a held model back."""
        loaded.stream = None
        if loaded.state != BUSY:
            return
        if loaded.native is not None:
            loaded.n_ctx = max(loaded.n_ctx, loaded.native.n_ctx)
        loaded.state, loaded.idle_since = IDLE, time.monotonic()
        self._dispatch()
        self._settle(loaded)

    def expire(self, request: LoadRequest) -> None:
        """Unload a model as soon as nobody uses it."""
        loaded = self._loaded.get(request.key)
        if loaded is not None:
            loaded.keep_alive = 0
            self._settle(loaded)

    async def close(self) -> None:
        """Stop what is generating, refuse what waits, free every model."""
        self._closed = True
        for ticket in self._waiting:
            if not ticket.granted.done():
                ticket.granted.set_exception(WireError(503, "the server is closing"))
        self._waiting.clear()
        for loaded in list(self._loaded.values()):
            if loaded.stream is not None:
                loaded.stream.cancel()
            if loaded.state != LEAVING:
                self._evict(loaded)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _settle(self, loaded: PooledModel) -> None:
        """Start the clock of an idle model, or unload it at once."""
        if loaded.timer is not None:
            loaded.timer.cancel()
            loaded.timer = None
        if loaded.state != IDLE or loaded.keep_alive < 0:
            return
        if loaded.keep_alive == 0:
            self._evict(loaded)
        else:
            loaded.timer = asyncio.get_running_loop().call_later(loaded.keep_alive, self._evict_idle, loaded)

    def _evict_idle(self, loaded: PooledModel) -> None:
        if loaded.state == IDLE:
            self._evict(loaded)

    def _dispatch(self) -> None:
        """Give models to those who wait, in order."""
        taken: set[str] = set()
        for ticket in list(self._waiting):
            key = ticket.request.key
            loaded = self._loaded.get(key)
            if key in taken:
                continue
            if loaded is None:
                if not self._make_room():
                    return
                self._start(self._load(ticket))
            elif loaded.state == IDLE and self._fits(loaded, ticket.request):
                self._waiting.remove(ticket)
                self._grant(loaded, ticket)
            elif loaded.state == IDLE:
                self._evict(loaded)
            taken.add(key)

    def _make_room(self) -> bool:
        if len(self._loaded) < max(1, self._settings.max_loaded):
            return True
        idle = [one for one in self._loaded.values() if one.state == IDLE]
        leaving = any(one.state == LEAVING for one in self._loaded.values())
        if idle and not leaving:
            self._evict(min(idle, key=lambda one: one.idle_since))
        return False

    def _grant(self, loaded: PooledModel, ticket: _Ticket) -> None:
        if loaded.timer is not None:
            loaded.timer.cancel()
            loaded.timer = None
        loaded.state, loaded.keep_alive = BUSY, ticket.keep_alive
        ticket.granted.set_result(loaded)

    def _fits(self, loaded: PooledModel, request: LoadRequest) -> bool:
        if loaded.request.served.digest != request.served.digest:
            return False
        wanted = self._context(request)
        # one that has grown, or that somebody asked for, serves those who name none too
        return loaded.n_ctx == wanted or (request.n_ctx is None and loaded.n_ctx > wanted)

    def _context(self, request: LoadRequest) -> int:
        trained = request.facts.n_ctx_train
        size = request.n_ctx or self._settings.n_ctx or min(4096, trained or 4096)
        return min(size, trained) if trained else size

    def _most(self, request: LoadRequest) -> int | None:
        """What a context may grow to; None where the server has said how large it is."""
        return request.facts.n_ctx_train if self._settings.n_ctx is None else None

    def _start(self, task: object) -> None:
        running: asyncio.Task[None] = asyncio.get_running_loop().create_task(task)  # type: ignore[arg-type]
        self._tasks.add(running)
        running.add_done_callback(self._tasks.discard)

    def _load(self, ticket: _Ticket) -> object:
        request, settings = ticket.request, self._settings
        loaded = PooledModel(request, self._context(request), ticket.keep_alive)
        self._loaded[request.key] = loaded

        def make() -> None:
            path, n_threads, n_gpu_layers = request.served.path, settings.n_threads, settings.n_gpu_layers
            if not request.served.named:
                prove(path)
            if request.facts.embeds:
                loaded.native = Embedder(path, n_threads, n_gpu_layers, loaded.n_ctx)
            else:
                loaded.native = GenerationContext(
                    path,
                    n_ctx=loaded.n_ctx,
                    n_threads=n_threads,
                    n_gpu_layers=n_gpu_layers,
                    most=self._most(request),
                    kv_store=settings.kv_store,
                    kv_type=settings.kv_type,
                )

        async def load() -> None:
            started = time.perf_counter_ns()
            try:
                await asyncio.wrap_future(loaded.executor.submit(make))
            except Exception as exc:  # noqa: BLE001  handed to the one who waits
                self._loaded.pop(request.key, None)
                loaded.executor.shutdown(wait=False)
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                    ticket.granted.set_exception(exc)
                self._dispatch()
                return
            loaded.load_ns = time.perf_counter_ns() - started
            if loaded.state == LOADING:
                loaded.state, loaded.idle_since = IDLE, time.monotonic()
                self._dispatch()
                self._settle(loaded)

        return load()

    def _evict(self, loaded: PooledModel) -> None:
        if loaded.timer is not None:
            loaded.timer.cancel()
        loaded.state = LEAVING

        def free() -> None:
            # behind whatever the thread still does, so a load that is under way is freed too
            if loaded.native is not None:
                loaded.native.close()

        async def leave() -> None:
            try:
                await asyncio.wrap_future(loaded.executor.submit(free))
            finally:
                loaded.executor.shutdown(wait=False)
                if self._loaded.get(loaded.request.key) is loaded:
                    del self._loaded[loaded.request.key]
                if not self._closed:
                    self._dispatch()

        self._start(leave())


def busy() -> WireError:
    """The answer to one request too many; Ollama's words."""
    return WireError(503, "server busy, please try again.  maximum pending requests exceeded", {"retry-after": "1"})
