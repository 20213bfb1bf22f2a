"""`Learner`: what was said goes into the bank, in order, on a thread of its own, after the reply is out.

It waits for a quiet moment, because encoding and recall share the encoder, but never long; what has come meanwhile is
stored together, with the turns' keys, in one transaction. What could not be stored is kept and tried again a few times,
then given up with an error: that, or what was not stored when the process was killed, is new again when the client
sends its history the next time, and what was stored is not, forgotten or not.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from membank_llama.core.errors import InvalidInputError, MembankError
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.text_splitting import clean_text, split_passages

from .conversation_tracker import Conversations, Turn

logger = logging.getLogger("membank_llama")

MOST_LESSONS = 64
QUIET_SECONDS = 0.05
PATIENCE_SECONDS = 1.0
MOST_CHARACTERS = 256 * 1024
"""Of one message; of what is longer, its beginning and its end are remembered."""
_END_CHARACTERS = 64 * 1024
MOST_WAITING_CHARACTERS = 32 * 1024 * 1024
_TURN = 200
"""What a turn takes beside its text, in characters."""
AGAIN_SECONDS = 5.0
MOST_TRIES = 6
MOST_KEPT = 512


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


@dataclass
class _Kept:
    """A lesson that could not be stored so far: when it came, how often it was tried, and whether it was given up."""

    lesson: Lesson
    came: float
    tries: int = 0
    given_up: bool = False


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
        self._kept: list[_Kept] = []
        self._again_at = 0.0
        self._lock = threading.Lock()
        self._characters = 0
        self.stored = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._work, name="membank-learn")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Lessons that are not stored yet."""
        return self._lessons.unfinished_tasks + len(self._kept)

    def learn(self, lesson: Lesson) -> bool:
        """Remember this, soon. Returns False where too much waits already: it is new when it is sent again."""
        lesson = _shortened(lesson)
        size = _size(lesson)
        with self._lock:
            if self._characters and self._characters + size > MOST_WAITING_CHARACTERS:
                self.failed += 1
                logger.warning("what was said is not remembered: %d characters wait to be stored", self._characters)
                return False
            self._characters += size
        self._conversations.note(lesson.conversation, lesson.marks())
        self._lessons.put((time.monotonic(), lesson))
        return True

    def flush(self) -> None:
        """Wait until everything so far is stored, or was tried once."""
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
            try:
                first = self._lessons.get(timeout=AGAIN_SECONDS if self._kept else None)
            except queue.Empty:
                self._take_in([])
                continue
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
        for kept in self._kept:
            self._give_up(kept, "the server ends")

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
        """Store what was kept and these together, or where that fails one by one, so that a bad one takes no other
        with it."""
        now = time.time()
        due = time.monotonic() >= self._again_at or self._closing.is_set()
        taken = [*(self._kept if due else ()), *(_Kept(lesson, now) for lesson in lessons)]
        failed: list[_Kept] = []
        if taken and not self._try(taken, last=len(taken) == 1):
            failed = [one for one in taken if len(taken) == 1 or not self._try([one], last=True)]
        left = [one for one in failed if not one.given_up]
        self._kept = [*(() if due else self._kept), *left]
        if left:
            self._again_at = time.monotonic() + AGAIN_SECONDS
        while len(self._kept) > MOST_KEPT:
            self._give_up(self._kept.pop(0), "too much waits already")

    def _try(self, taken: list[_Kept], *, last: bool) -> bool:
        """Store these; `last`: say what kept one from it, and whether it is given up."""
        try:
            self._store(taken)
        except Exception as exc:  # noqa: BLE001  whatever it is, nothing said is lost by it
            if last:
                self._failed_with(taken[0], exc)
            return False
        return True

    def _failed_with(self, kept: _Kept, exc: Exception) -> None:
        kept.tries += 1
        if isinstance(exc, InvalidInputError) or kept.tries >= MOST_TRIES:
            # it would be refused every time, or has been
            self._give_up(kept, exc)
            return
        known = isinstance(exc, MembankError)
        logger.error(
            "what was said could not be remembered: %s; it is tried again", exc, exc_info=None if known else exc
        )

    def _give_up(self, kept: _Kept, why: Exception | str) -> None:
        self.failed += 1
        kept.given_up = True
        self._conversations.forget(key for key, _ in kept.lesson.marks())
        logger.error("%s turns of %s are not remembered: %s", len(kept.lesson.turns), kept.lesson.conversation, why)

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

    def _store(self, kept: list[_Kept]) -> None:
        items = [item for place, one in enumerate(kept) for item in _items(one.lesson, one.came + place * 1e-4)]
        turns = [(one.lesson.conversation, *mark) for one in kept for mark in one.lesson.marks()]
        if not items:
            self._conversations.keep(turns)
            return
        with self._background():
            # one batch, so that the turns' keys come with all that was said, or not at all
            stored = self._bank.ingest_many(
                items, batch_size=len(items), beside=lambda: self._conversations.keep(turns)
            )
        self.stored += len(stored)


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
