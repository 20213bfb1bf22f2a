"""`LateBank`: a bank that is opened on a thread of its own, so that an agent need not wait for a model to be told what
there is; what asks for it waits. Where it cannot be opened, the next one who asks tries again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack

from membank_llama.memory.bank import MemBank


class LateBank:
    """Opens a bank once it is wanted, or a little ahead of that.

    Args:
        open_it: opens it, with its encoder; closed in `close`.
    """

    def __init__(self, open_it: Callable[[], AbstractContextManager[MemBank]]) -> None:
        self._open_it = open_it
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "membank-opening")
        self._opening: Future[MemBank] | None = None
        self._stack = ExitStack()

    def start(self) -> Future[MemBank]:
        """Open it, if nobody does already; it is there when this is done."""
        with self._lock:
            opening = self._opening
            if opening is None or (opening.done() and opening.exception() is not None):
                opening = self._opening = self._thread.submit(self._open)
            return opening

    def _open(self) -> MemBank:
        return self._stack.enter_context(self._open_it())

    @property
    def is_open(self) -> bool:
        """Whether it is there."""
        opening = self._opening
        return opening is not None and opening.done() and opening.exception() is None

    def get(self) -> MemBank:
        """The bank, once it is open.

        Raises:
            MembankError: it cannot be opened.
        """
        return self.start().result()

    def close(self) -> None:
        """Close what was opened, also what is being opened just now. May be called twice."""
        self._thread.shutdown(wait=True)
        self._stack.close()
