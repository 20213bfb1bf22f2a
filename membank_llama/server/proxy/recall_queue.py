"""`RecallQueue`: recalls on threads beside the event loop, oldest first, none of them for long.

Python runs one thread at a time, so that recalls side by side would only take turns and each of them be late. One is
under way at a time; where it takes longer than it may, it is left behind and another thread goes on, up to `WORKERS`.

The deadline of a recall counts from when it begins, as what stands before it says nothing of what it needs. How long
it may stand in line is bounded all the same, `PATIENCE` deadlines: with one for what was just said to be stored, and
its own, nobody waits for more than six. What waits together is encoded together, ahead of the recalls one by one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

logger = logging.getLogger("membank_llama")

WORKERS = 4
AT_ONCE = 1
PATIENCE = 4.0
TOGETHER = 8
"""Questions that are encoded in one pass; the first of them waits for the last."""

T = TypeVar("T")


class LateError(Exception):
    """A recall took longer than it may, or its turn did not come."""


@dataclass(eq=False)
class _Asked(Generic[T]):
    work: Callable[[threading.Event], T]
    text: str
    future: Future[T] = field(default_factory=Future)
    late: threading.Event = field(default_factory=threading.Event)
    begun: float | None = None
    overdue: bool = False

    def begin(self) -> bool:
        """Whether somebody still waits for it."""
        self.begun = time.monotonic()
        return self.future.set_running_or_notify_cancel()

    def run(self) -> None:
        try:
            self.future.set_result(self.work(self.late))
        except BaseException as exc:  # noqa: BLE001  whoever asked is told
            self.future.set_exception(exc)


class RecallQueue:
    """Threads that recall.

    Args:
        ahead: encodes the texts of some questions in one pass, before they are asked one by one.
    """

    def __init__(self, ahead: Callable[[Sequence[str]], None] = lambda texts: None) -> None:
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="membank-recall")
        self._lock = threading.Lock()
        self._waiting: deque[_Asked[Any]] = deque()
        self._working = 0
        self.overdue = 0
        """How many threads are stuck in a recall that nobody waits for any more."""

    @property
    def is_busy(self) -> bool:
        """Whether a recall is under way."""
        return self._working > 0

    async def run(self, work: Callable[[threading.Event], T], deadline: float, text: str = "") -> T:
        """What `work` gives, which is told when nobody waits for it any more.

        Args:
            text: what will be encoded for it; nothing where that is not known yet.

        Raises:
            LateError: there was no time for it.
        """
        if self.overdue >= WORKERS:
            raise LateError(f"{self.overdue} recalls are stuck")
        asked = _Asked(work, text)
        until = time.monotonic() + PATIENCE * deadline
        with self._lock:
            self._waiting.append(asked)
            self._begin()
        try:
            return await self._answer(asked, until, deadline)
        finally:
            if not asked.future.done() and not asked.future.cancel():
                self._leave_behind(asked)

    async def _answer(self, asked: _Asked[T], until: float, deadline: float) -> T:
        future = asyncio.wrap_future(asked.future)
        try:
            while not future.done():
                now, begun = time.monotonic(), asked.begun
                left = until - now if begun is None else begun + deadline - now
                if left <= 0:
                    waited = f"takes longer than {1000 * deadline:g} ms"
                    raise LateError("many ask at once" if begun is None else f"recall {waited}")
                # it cannot be late before one more deadline, whenever it begins
                await asyncio.wait({future}, timeout=min(left, deadline))
            return future.result()
        finally:
            future.cancel()

    def _begin(self) -> None:
        """Have one thread more at work where there is none that is not stuck, with the lock held."""
        if self._waiting and self._working - self.overdue < AT_ONCE and self._working < WORKERS:
            self._working += 1
            self._pool.submit(self._work)

    def _work(self) -> None:
        encoded = 0
        while True:
            with self._lock:
                if not self._waiting or self._working - self.overdue > AT_ONCE:
                    self._working -= 1
                    return
                texts = [one.text for one in self._waiting if one.text][:TOGETHER] if not encoded else []
                asked = self._waiting.popleft()
            if not asked.begin():
                continue
            if len(texts) > 1:
                self._encode(texts)
                encoded = len(texts)
            encoded = max(0, encoded - 1)
            asked.run()
            self._ended(asked)

    def _encode(self, texts: Sequence[str]) -> None:
        try:
            self._ahead(texts)
        except Exception as exc:  # noqa: BLE001  each of them is told by its own recall
            logger.debug("questions could not be encoded together: %s", exc)

    def _leave_behind(self, asked: _Asked[Any]) -> None:
        asked.late.set()
        with self._lock:
            if not asked.future.done():
                asked.overdue = True
                self.overdue += 1
                self._begin()

    def _ended(self, asked: _Asked[Any]) -> None:
        with self._lock:
            if not asked.overdue:
                return
            self.overdue -= 1
        if (error := asked.future.exception()) is not None:
            logger.warning("a late recall failed: %s", error)

    def close(self) -> None:
        """End the threads after what they are at."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            asked.future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
