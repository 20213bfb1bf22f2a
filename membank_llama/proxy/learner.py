"""`Learner`: what was said goes into the bank, in order, on a thread of its own, after the reply is out.

It waits for a quiet moment, because encoding and recall share the encoder, but never long. Small batches leave the
encoder free in between. A turn and its key are written in one transaction; what could not be stored is new again when
the client sends its history the next time.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..bank import MemBank
from ..errors import MembankError
from ..passages import clean_text, split_passages
from ..types import NewMemory
from .conversations import Conversations, Turn

logger = logging.getLogger("membank_llama")

BATCH = 4
QUIET_SECONDS = 0.05
PATIENCE_SECONDS = 1.0
MOST_CHARACTERS = 64 * 1024


@dataclass(frozen=True)
class Lesson:
    """Turns of one conversation that are to be remembered; `partial`: the last was cut off."""

    namespace: str
    conversation: str
    turns: tuple[Turn, ...]
    partial: bool = False
    context_key: bytes | None = None

    def marks(self) -> list[tuple[bytes, int]]:
        """Keys of the turns, and of what a generate call is gone on from."""
        keys = [(turn.key, turn.depth) for turn in self.turns]
        return keys if self.context_key is None else [*keys, (self.context_key, 0)]


class Learner:
    """Takes lessons from any thread and stores them one after the other.

    Args:
        is_busy: whether a recall is under way.
    """

    def __init__(self, bank: MemBank, conversations: Conversations, is_busy: Callable[[], bool]) -> None:
        self._bank = bank
        self._conversations = conversations
        self._is_busy = is_busy
        self._lessons: queue.Queue[tuple[float, Lesson] | None] = queue.Queue()
        self._closing = threading.Event()
        self.stored = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._work, name="membank-learn")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Lessons that are not stored yet."""
        return self._lessons.unfinished_tasks

    def learn(self, lesson: Lesson) -> None:
        """Remember this, soon."""
        self._conversations.note(lesson.conversation, lesson.marks())
        self._lessons.put((time.monotonic(), lesson))

    def flush(self) -> None:
        """Wait until everything so far is stored."""
        self._lessons.join()

    def close(self) -> None:
        """Store what is waiting, then end."""
        if not self._closing.is_set():
            self._closing.set()
            self._lessons.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (next_one := self._lessons.get()) is not None:
            came, lesson = next_one
            try:
                self._wait(came)
                self._store(lesson)
            except MembankError as exc:
                self.failed += 1
                self._conversations.forget(key for key, _ in lesson.marks())
                logger.error("what was said could not be remembered: %s", exc)
            except Exception:
                self.failed += 1
                self._conversations.forget(key for key, _ in lesson.marks())
                logger.exception("what was said could not be remembered")
            finally:
                self._lessons.task_done()
        self._lessons.task_done()

    def _wait(self, came: float) -> None:
        """Until no recall was under way for a moment, or this has waited long enough."""
        quiet_since = time.monotonic()
        while not self._closing.is_set():
            now = time.monotonic()
            if self._is_busy():
                quiet_since = now
            if now - quiet_since >= QUIET_SECONDS or now - came >= PATIENCE_SECONDS:
                return
            time.sleep(QUIET_SECONDS / 5)

    def _store(self, lesson: Lesson) -> None:
        now = time.time()
        items = [
            NewMemory(
                passage,
                {"partial": True} if lesson.partial and turn is lesson.turns[-1] else {},
                role=turn.role,
                namespace=lesson.namespace,
                conversation=lesson.conversation,
                # a microsecond apart: they keep the order in which they were said
                created_at=now + place * 1e-6,
                source="proxy",
            )
            for place, turn in enumerate(lesson.turns)
            for passage in split_passages(clean_text(turn.text)[:MOST_CHARACTERS])
        ]
        for start in range(0, len(items), BATCH):
            self.stored += len(self._bank.ingest_many(items[start : start + BATCH]))
        self._conversations.keep(lesson.conversation, lesson.marks())
