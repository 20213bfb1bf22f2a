"""`GenerationService`: from the name a client gives to a stream of its answer.

Finds the model, refuses what it can't do before anything is loaded, waits for it, and runs the answer on its
thread. The APIs (ollama_api.py, openai_api.py) give it the shape their clients expect.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, Protocol, TypeVar

from membank_llama.core.errors import ModelFileError, ModelNotFoundError
from membank_llama.gguf.capabilities import read_facts

from ...asgi import AbandonedError, Whose, WireError, outward, whose
from ..exchange import Exchange
from ..generation.answer import Delta, GenerationPlan, write_answer
from ..generation.conversation_request import RequestedModel
from ..generation.decode import PromptCount, Tally
from ..generation.generation_context import GenerationContext
from ..library.catalogue import Catalogue
from ..library.downloads import Downloads
from .async_bridge import AsyncBridge, Work
from .embedder import Embedder
from .model_pool import LoadRequest, ModelPool, PooledModel

CACHED_TOKENS = "x-membank-cached-tokens"

T = TypeVar("T")
Event_ = Delta | PromptCount | Tally


class GenerationRequest(Protocol):
    """Something that a loaded model can make a plan of."""

    @property
    def target(self) -> RequestedModel: ...
    @property
    def alternatives(self) -> int | None: ...
    def plan(self, model: GenerationContext, cancelled: Event | None = None) -> GenerationPlan: ...


class AnswerFormat(Protocol):
    """How an API shows an answer: pieces of a stream, its beginning and end, or all at once."""

    kind: str

    def begin(self, counted: PromptCount) -> list[Any]: ...
    def piece(self, delta: Delta) -> list[Any]: ...
    def last(self, tally: Tally, load_ns: int) -> list[Any]: ...
    def whole(self, delta: Delta, tally: Tally, load_ns: int) -> Any: ...


@dataclass(frozen=True)
class GenerationService:
    """The catalogue and the pool, for those who answer requests."""

    catalogue: Catalogue
    pool: ModelPool
    downloads: Downloads = field(default_factory=Downloads)

    async def find(self, name: str) -> RequestedModel:
        """The model of a name.

        Raises:
            WireError: there is none, or its file is damaged.
        """
        try:
            served = await asyncio.to_thread(self.catalogue.find, name)
        except ModelNotFoundError as exc:
            raise WireError(404, f"model '{name}' not found") from exc
        try:
            return RequestedModel(name, served, await asyncio.to_thread(read_facts, served.path))
        except ModelFileError as exc:
            raise WireError(500, outward(exc)) from exc

    async def find_writing(self, name: str, verb: str) -> RequestedModel:
        """The same, of a model that generates text; `verb` says what it is wanted for.

        Raises:
            WireError: as `find`, or 400: it was made for embeddings.
        """
        target = await self.find(name)
        if not target.facts.writes:
            raise WireError(400, f'"{name}" does not support {verb}')
        return target

    async def load(self, target: RequestedModel, n_ctx: int | None, keep_alive: float | None) -> None:
        """Load a model, and no more."""
        loaded = await self.pool.hold(LoadRequest(target.served, target.facts, n_ctx), keep_alive)
        self.pool.release(loaded)

    def unload(self, target: RequestedModel) -> None:
        """Have a model go."""
        self.pool.expire(LoadRequest(target.served, target.facts))

    @asynccontextmanager
    async def stream(
        self, target: RequestedModel, n_ctx: int | None, keep_alive: float | None, work: Any
    ) -> AsyncIterator[tuple[AsyncBridge[Any], int]]:
        """Run ``work(native)(cancelled)`` on a model as soon as it is free; with the time that this took.

        Leaving the block ends the work, wherever it is.
        """
        began = time.perf_counter_ns()
        loaded: PooledModel = await self.pool.hold(LoadRequest(target.served, target.facts, n_ctx), keep_alive)
        stream: AsyncBridge[Any] = self.pool.run(loaded, work)
        try:
            yield stream, time.perf_counter_ns() - began
        finally:
            stream.cancel()

    async def answer(
        self,
        ask: GenerationRequest,
        n_ctx: int | None,
        keep_alive: float | None,
        x: Exchange,
        shape: AnswerFormat,
        streaming: bool,
    ) -> None:
        """Write an answer and send it, as it comes or whole."""
        async with self.stream(ask.target, n_ctx, keep_alive, _work(ask, whose(x.scope))) as (events, load_ns):
            try:
                if streaming:
                    await _send_stream(x, events, shape, load_ns)
                else:
                    await _send_whole(x, events, shape, load_ns)
            except AbandonedError as exc:
                raise WireError(503, "the server is closing") from exc


def _work(ask: GenerationRequest, asker: Whose) -> Any:
    def on(native: GenerationContext | Embedder) -> Work[Event_]:
        def work(cancelled: Event) -> Iterator[Event_]:
            if not isinstance(native, GenerationContext):
                raise WireError(400, f'"{ask.target.name}" does not support generate')
            tally = Tally(alternatives=ask.alternatives)
            native.namespace = asker.namespace
            try:
                yield from _counted(write_answer(native, ask.plan(native, cancelled), cancelled, tally), tally)
            finally:
                # the answer is out: nobody waits for this
                if asker.since is not None:
                    native.keep(asker.since)

        return work

    return on


def _counted(answer: Iterator[Delta | Tally], tally: Tally) -> Iterator[Event_]:
    """An answer with what its prompt came to ahead of it, and each token's probability with the text it became."""
    counted, shown = False, 0
    with closing(answer):  # type: ignore[type-var]
        for event in answer:
            if not counted:
                counted = True
                yield PromptCount(len(tally.prompt), tally.cached_tokens)
            fresh, shown = tuple(tally.logprobs[shown:]), len(tally.logprobs)
            if isinstance(event, Delta):
                yield replace(event, logprobs=fresh) if fresh else event
            elif fresh:
                yield Delta(logprobs=fresh)
    yield tally


async def _send_stream(x: Exchange, events: AsyncBridge[Event_], shape: AnswerFormat, load_ns: int) -> None:
    async for event in events:
        _mark(x, event)
        for piece in _pieces(event, shape, load_ns):
            await x.push(piece, shape.kind)
    await x.end()


def _mark(x: Exchange, event: Event_) -> None:
    """Say in the answer's head how much of the prompt the cache held."""
    if isinstance(event, PromptCount):
        x.marks[CACHED_TOKENS] = str(event.cached)


def _pieces(event: Event_, shape: AnswerFormat, load_ns: int) -> list[Any]:
    if isinstance(event, PromptCount):
        return shape.begin(event)
    return shape.last(event, load_ns) if isinstance(event, Tally) else shape.piece(event)


async def _send_whole(x: Exchange, events: AsyncBridge[Event_], shape: AnswerFormat, load_ns: int) -> None:
    deltas, tally = [], Tally()
    async for event in events:
        _mark(x, event)
        if isinstance(event, Tally):
            tally = event
        elif isinstance(event, Delta):
            deltas.append(event)
    whole = Delta(
        "".join(one.content for one in deltas),
        "".join(one.thinking for one in deltas),
        tuple(call for one in deltas for call in one.calls),
        tuple(likely for one in deltas for likely in one.logprobs),
    )
    await x.reply(shape.whole(whole, tally, load_ns))
