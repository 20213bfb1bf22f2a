"""`Learner`: what was said goes into the bank, in order, on a thread of its own, after the reply is out.

It waits for a quiet moment, because encoding and recall share the encoder, but never long; what has come meanwhile is
stored together. A turn's key is written after it: what could not be stored, or was not when the process was killed, is
new again when the client sends its history the next time, and the bank keeps a text once.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from ..bank import MemBank
from ..errors import MembankError
from ..passages import clean_text, split_passages
from ..types import NewMemory
from .conversations import Conversations, Turn

logger = logging.getLogger("membank_llama")

BATCH = 16
MOST_LESSONS = 64
QUIET_SECONDS = 0.05
PATIENCE_SECONDS = 1.0
MOST_CHARACTERS = 256 * 1024
"""Of one message; of what is longer, its beginning and its end are remembered."""
_END_CHARACTERS = 64 * 1024
MOST_WAITING = 32 * 1024 * 1024
"""Characters that wait to be stored."""
_TURN = 200


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
        self._lock = threading.Lock()
        self._characters = 0
        self.stored = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._work, name="membank-learn")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Lessons that are not stored yet."""
        return self._lessons.unfinished_tasks

    def learn(self, lesson: Lesson) -> None:
        """Remember this, soon; where too much waits already it is left out, and is new when it is sent again."""
        lesson = _shortened(lesson)
        size = _size(lesson)
        with self._lock:
            if self._characters and self._characters + size > MOST_WAITING:
                logger.warning("a message was not remembered: %d characters wait to be stored", self._characters)
                return
            self._characters += size
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
        going_on = True
        while going_on:
            first = self._lessons.get()
            if first is not None:
                self._wait(first[0])
            taken = [first, *self._more()]
            going_on = None not in taken
            lessons = [entry[1] for entry in taken if entry is not None]
            self._take_in(lessons)
            with self._lock:
                self._characters -= sum(map(_size, lessons))
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
        with self._background():
            self.stored += len(self._bank.ingest_many(items, batch_size=BATCH))
        for lesson in lessons:
            self._conversations.keep(lesson.conversation, lesson.marks())


def _shortened(lesson: Lesson) -> Lesson:
    if all(len(turn.text) <= MOST_CHARACTERS for turn in lesson.turns):
        return lesson
    return replace(lesson, turns=tuple(replace(turn, text=_beginning_and_end(turn.text)) for turn in lesson.turns))


def _beginning_and_end(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    logger.warning(
        "of a message of %d characters the first %d and the last %d are remembered",
        len(text),
        MOST_CHARACTERS - _END_CHARACTERS,
        _END_CHARACTERS,
    )
    return f"{text[: MOST_CHARACTERS - _END_CHARACTERS]}\n\n{text[-_END_CHARACTERS:]}"


def _size(lesson: Lesson) -> int:
    """Characters, and what a turn takes beside them."""
    return sum(len(turn.text) + _TURN for turn in lesson.turns)


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
        for passage in split_passages(clean_text(turn.text))
    ]
