"""`LocalWrites`: counts what this process is writing itself, so that a bank changes hands between two writes.

A write within another one is a part of it. Whoever wants the bank waits for those that run, and new ones wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class LocalWrites:
    """Of one bank in one process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._stopped = False
        self._mine = threading.local()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around a write."""
        depth = getattr(self._mine, "depth", 0)
        if not depth:
            with self._changed:
                self._changed.wait_for(lambda: not self._stopped)
                self._running += 1
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            if not depth:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

    @contextmanager
    def none(self, seconds: float) -> Iterator[None]:
        """Around what may happen only while nothing is written.

        Raises:
            TimeoutError: something went on being written for so long.
        """
        with self._changed:
            self._stopped = True
            ended = self._changed.wait_for(lambda: not self._running, seconds)
        try:
            if not ended:
                raise TimeoutError("something is being written")
            yield
        finally:
            with self._changed:
                self._stopped = False
                self._changed.notify_all()
