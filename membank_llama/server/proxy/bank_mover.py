"""`BankMover`: gives a bank that was made by words alone the embedding model that comes later, while it is served.

One that holds nothing is moved at once: nobody chose words alone. One that holds memories is moved where that was asked
for; otherwise it is said once how to. Until the last memory is encoded anew the bank is as it was, and so it is when
the server ends before: the next time goes on where this one stopped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from membank_llama.adapters.base import ModelAdapter
from membank_llama.core.errors import MembankError
from membank_llama.memory.bank import MemBank

from .priority_adapter import PriorityAdapter

logger = logging.getLogger("membank_llama")

LOOK_SECONDS = 10.0
MOST_SECONDS = 300.0
"""Between two looks in the end: each is half as long again as the one before."""


class _EndedError(Exception):
    """The server ends while a bank is being moved."""


class BankMover:
    """Looks for an embedding model in a thread of its own until there is one.

    Args:
        bank: encoded by a `PriorityAdapter` around words alone.
        find: the embedding model; None where there is none yet. Called now and then.
        move: whether a bank with memories is moved as well.
        look_seconds: between the first two looks.
    """

    def __init__(
        self,
        bank: MemBank,
        find: Callable[[], ModelAdapter | None],
        *,
        move: bool = False,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._bank = bank
        self._find = find
        self._move = move
        self._look_seconds = look_seconds
        self._ending = threading.Event()
        self._found: ModelAdapter | None = None
        self._thread = threading.Thread(target=self._run, name="membank-mover", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End, in the middle of a move too; before the bank is closed."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """Close the model that was found; after the bank was closed."""
        if self._found is not None:
            self._found.close()

    def _run(self) -> None:
        pause = self._look_seconds
        while not self._ending.is_set():
            try:
                self._found = self._find()
                if self._found is not None:
                    self._give(self._found)
                    return
            except _EndedError:
                return
            except MembankError as exc:
                logger.warning("the bank stays with words alone: %s", exc)
                return
            self._ending.wait(pause)
            pause = min(1.5 * pause, MOST_SECONDS)

    def _give(self, found: ModelAdapter) -> None:
        held = self._bank.count()
        if held and not self._move:
            found.close()
            self._found = None
            logger.warning(
                "%s is here now, and the bank's %d memories are found by words alone; move them over with --move, or "
                "while the server is stopped with: membank reencode '%s'",
                found.name, held, found.source or found.name,
            )  # fmt: skip
            return
        own = self._bank.adapter
        adapter = own.around(found) if isinstance(own, PriorityAdapter) else PriorityAdapter(found)
        with adapter.in_background():
            self._bank.reencode(adapter, self._going_on)
            # what the next question would wait for
            self._bank.recall("good morning", 1)
        logger.info("the bank is encoded by %s now", found.name)

    def _going_on(self, what: str, done: int, total: int) -> None:
        if self._ending.is_set():
            raise _EndedError
        if done % 1024 < 32:
            logger.info("%s: %d of %d", what, done, total)
