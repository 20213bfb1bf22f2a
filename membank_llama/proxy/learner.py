"""`Learner`: what was said goes into the bank, in order, on a thread of its own, after the reply is out.

It waits for a quiet moment, because encoding and recall share the encoder, but never long; what has come meanwhile is
stored together, with the turns' keys, in one transaction: what could not be stored, or was not when the process was
killed, is new again when the client sends its history the next time, and what was is not, forgotten or not.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

from ..bank import MemBank
from ..errors import MembankError
from ..passages import clean_text, split_passages
from ..types import NewMemory
from .conversations import Conversations, Turn

logger = logging.getLogger("membank_llama")

MOST_LESSONS = 64
MOST_WAITING = 4096
MOST_WAITING_CHARACTERS = 32 * 1024 * 1024
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

    @cached_property
    def characters(self) -> int:
        """How much text waits with it."""
        return sum(len(turn.text) for turn in self.turns)

    def marks(self) -> list[tuple[bytes, int]]:
        """Keys of the turns, and of what a generate call is gone on from."""
        keys = [(turn.key, turn.depth) for turn in self.turns]
        return keys if self.context_key is None else [*keys, (self.context_key, 0)]


class Learner:
    """Takes lessons from any thread and stores them one after the other.

    Args:
        is_busy: whether a recall is under way.
        background: entered around what can wait.
    """

    def __init__(
        self,
        bank: MemBank,
        conversations: Conversations,
        *,
        is_busy: Callable[[], bool],
        background: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._bank = bank
        self._conversations = conversations
        self._is_busy = is_busy
        self._background = background
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

    def learn(self, lesson: Lesson) -> bool:
        """Remember this, soon. Returns False where too much waits already: it is new when it comes again."""
        with self._lessons.mutex:
            waiting = [entry[1].characters for entry in self._lessons.queue if entry is not None]
        if len(waiting) >= MOST_WAITING or sum(waiting) >= MOST_WAITING_CHARACTERS:
            self.failed += 1
            logger.warning("what was said is not remembered: %d lessons wait to be stored", len(waiting))
            return False
        self._conversations.note(lesson.conversation, lesson.marks())
        self._lessons.put((time.monotonic(), lesson))
        return True

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
        going_on = True
        while going_on:
            first = self._lessons.get()
            if first is not None:
                self._wait(first[0])
            taken = [first, *self._more()]
            going_on = None not in taken
            lessons = [entry[1] for entry in taken if entry is not None]
            self._take_in(lessons)
            for _ in taken:
                self._lessons.task_done()

    def _more(self) -> list[tuple[float, Lesson] | None]:
        """What else waits, as much as goes into one batch."""
        more: list[tuple[float, Lesson] | None] = []
        while len(more) < MOST_LESSONS:
            try:
                more.append(self._lessons.get_nowait())
            except queue.Empty:
                break
        return more

    def _take_in(self, lessons: list[Lesson]) -> None:
        """Store these together, or where that fails one by one, so that a bad one takes no other with it."""
        try:
            if lessons:
                self._store(lessons)
        except Exception as exc:
            if len(lessons) > 1:
                for lesson in lessons:
                    self._take_in([lesson])
                return
            self.failed += 1
            self._conversations.forget(key for key, _ in lessons[0].marks())
            known = isinstance(exc, MembankError)
            logger.error("what was said could not be remembered: %s", exc, exc_info=None if known else exc)

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

    def _store(self, lessons: list[Lesson]) -> None:
        now = time.time()
        items = [item for place, lesson in enumerate(lessons) for item in _items(lesson, now + place * 1e-4)]
        turns = [(lesson.conversation, *mark) for lesson in lessons for mark in lesson.marks()]
        if not items:
            self._conversations.keep(turns)
            return
        with self._background():
            # one batch, so that the turns' keys come with all that was said, or not at all
            stored = self._bank.ingest_many(
                items, batch_size=len(items), beside=lambda: self._conversations.keep(turns)
            )
        self.stored += len(stored)


def _items(lesson: Lesson, now: float) -> list[NewMemory]:
    return [
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
