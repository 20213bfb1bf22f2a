"""`AsyncBridge`: the one bridge from a blocking generator on a model's thread to asyncio.

What the generator yields arrives in order and whole; between the two sides lie at most a few items, so a slow
client slows the model and no text piles up. Whoever stops listening calls `cancel()`, and the generator,
which asks `cancelled` before each token, ends there. An error in the generator is raised to the listener.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Work = Callable[[threading.Event], Iterator[T]]

_ROOM = 64
_END: Any = object()


class AsyncBridge(Generic[T]):
    """Runs ``work(cancelled)`` on `executor` from the moment it is made; iterate once, in the loop it was made in."""

    def __init__(self, executor: ThreadPoolExecutor, work: Work[T]) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[T] = asyncio.Queue()
        self._room = threading.Semaphore(_ROOM)
        self._cancelled = threading.Event()
        self.ended: Future[None] = executor.submit(self._run, work)

    def _run(self, work: Work[T]) -> None:
        try:
            iterator = work(self._cancelled)
            with closing(iterator):  # type: ignore[type-var]
                for item in iterator:
                    self._room.acquire()
                    if self._cancelled.is_set():
                        return
                    self._put(item)
        finally:
            self._put(_END)

    def _put(self, item: T) -> None:
        # a loop that has been closed has no listener left
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)

    def cancel(self) -> None:
        """End the work at its next token; safe to call more than once."""
        self._cancelled.set()
        self._room.release()

    async def __aiter__(self) -> AsyncIterator[T]:
        while (item := await self._items.get()) is not _END:
            self._room.release()
            yield item
        await asyncio.wrap_future(self.ended)
