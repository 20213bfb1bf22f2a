"""`Kitchen`: from the name a client gives to a stream of its answer.

Finds the model, refuses what it can't do before anything is loaded, waits for it, and runs the answer on its
thread. The APIs (ollama.py, openai.py) dress what comes out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Protocol, TypeVar

from membank_llama.core.errors import ModelFileError, ModelNotFoundError
from membank_llama.gguf.capabilities import read_facts

from ...asgi import AbandonedError, WireError, outward
from ..exchange import Exchange
from ..generation.answer import Delta, Plan, answer
from ..generation.decode import Tally
from ..generation.generation_context import NativeModel
from ..generation.request import Target
from ..generation.tool_calls import Call
from ..library.downloads import Downloads
from ..library.served_model import ServedModel
from .async_bridge import Stream, Work
from .embedder import Embedder
from .model_pool import Loaded, Shelf, Wanted

T = TypeVar("T")
Event_ = Delta | Tally


class Finder(Protocol):
    """What of a catalogue is needed here."""

    def find(self, name: str) -> ServedModel: ...
    def models(self) -> list[ServedModel]: ...


class Asking(Protocol):
    """Something that a loaded model can make a plan of."""

    @property
    def target(self) -> Target: ...
    def plan(self, model: NativeModel, cancelled: Event | None = None) -> Plan: ...


class Dress(Protocol):
    """How an API shows an answer: pieces of a stream, its end, or all at once."""

    kind: str

    def piece(self, delta: Delta) -> list[Any]: ...
    def last(self, tally: Tally, load_ns: int) -> list[Any]: ...
    def whole(self, delta: Delta, tally: Tally, load_ns: int) -> Any: ...


@dataclass(frozen=True)
class Kitchen:
    """The catalogue and the shelf, for those who answer requests."""

    catalogue: Finder
    shelf: Shelf
    downloads: Downloads = field(default_factory=Downloads)

    async def find(self, name: str) -> Target:
        """The model of a name.

        Raises:
            WireError: there is none, or its file is damaged.
        """
        try:
            served = await asyncio.to_thread(self.catalogue.find, name)
        except ModelNotFoundError as exc:
            raise WireError(404, f"model '{name}' not found") from exc
        try:
            return Target(name, served, await asyncio.to_thread(read_facts, served.path))
        except ModelFileError as exc:
            raise WireError(500, outward(exc)) from exc

    async def load(self, target: Target, n_ctx: int | None, keep_alive: float | None) -> None:
        """Load a model, and no more."""
        loaded = await self.shelf.hold(Wanted(target.served, target.facts, n_ctx), keep_alive)
        self.shelf.release(loaded)

    def unload(self, target: Target) -> None:
        """Have a model go."""
        self.shelf.expire(Wanted(target.served, target.facts))

    @asynccontextmanager
    async def stream(
        self, target: Target, n_ctx: int | None, keep_alive: float | None, work: Any
    ) -> AsyncIterator[tuple[Stream[Any], int]]:
        """Run ``work(native)(cancelled)`` on a model as soon as it is free; with the time that this took.

        Leaving the block ends the work, wherever it is.
        """
        began = time.perf_counter_ns()
        loaded: Loaded = await self.shelf.hold(Wanted(target.served, target.facts, n_ctx), keep_alive)
        stream: Stream[Any] = self.shelf.run(loaded, work)
        try:
            yield stream, time.perf_counter_ns() - began
        finally:
            stream.cancel()

    async def answer(
        self, ask: Asking, n_ctx: int | None, keep_alive: float | None, x: Exchange, dress: Dress, streaming: bool
    ) -> None:
        """Write an answer and send it, as it comes or whole."""
        async with self.stream(ask.target, n_ctx, keep_alive, _work(ask)) as (events, load_ns):
            try:
                if streaming:
                    await _send_stream(x, events, dress, load_ns)
                else:
                    await _send_whole(x, events, dress, load_ns)
            except AbandonedError as exc:
                raise WireError(503, "the server is closing") from exc


def _work(ask: Asking) -> Any:
    def on(native: NativeModel | Embedder) -> Work[Event_]:
        def work(cancelled: Event) -> Iterator[Event_]:
            if not isinstance(native, NativeModel):
                raise WireError(400, f'"{ask.target.name}" does not support generate')
            yield from answer(native, ask.plan(native, cancelled), cancelled)

        return work

    return on


async def _send_stream(x: Exchange, events: Stream[Event_], dress: Dress, load_ns: int) -> None:
    async for event in events:
        pieces = dress.last(event, load_ns) if isinstance(event, Tally) else dress.piece(event)
        for piece in pieces:
            await x.push(piece, dress.kind)
    await x.end()


async def _send_whole(x: Exchange, events: Stream[Event_], dress: Dress, load_ns: int) -> None:
    content, thinking, tally = [], [], Tally()
    calls: list[Call] = []
    async for event in events:
        if isinstance(event, Tally):
            tally = event
        else:
            content.append(event.content)
            thinking.append(event.thinking)
            calls.extend(event.calls)
    await x.reply(dress.whole(Delta("".join(content), "".join(thinking), tuple(calls)), tally, load_ns))
