"""`TurnWriter`: what was said goes into the bank, in order, on a thread of its own.

What has come meanwhile is stored together. What cannot be stored is kept and tried again with what comes next: a turn
that the bank refuses takes no other with it, but where the disk does, the others wait too.

Not everything said is worth keeping: not an order to forget something, not a reply that says nothing ("I don't know",
"How can I help?"), and not the fragment of a reply that was stopped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

from membank_llama.core.dialogue_acts import is_evasion, is_forget_command
from membank_llama.core.errors import BankStorageError, InvalidInputError, MembankError
from membank_llama.core.types import NewMemory

from .bank import MemBank
from .conversation_keys import ConversationTurn
from .text_splitting import clean_passages

logger = logging.getLogger("membank_llama")

MOST_TOGETHER = 64
_APART, _TURNS_APART = 1e-4, 1e-6
"""Seconds between what comes at once and between its turns: memories keep the order in which they were said."""
_TURN = 200
"""What a turn takes beside its text, in characters."""


@dataclass(frozen=True)
class NewTurns:
    """Turns of one conversation that are to be remembered; `partial`: the last is a reply that was cut off.

    `context_key`: the key under which a generate call is gone on from; `again`: turns that were taken in before, whose
    memories are of now, where they are still there.
    """

    namespace: str
    conversation: str
    turns: tuple[ConversationTurn, ...]
    partial: bool = False
    context_key: bytes | None = None
    again: tuple[ConversationTurn, ...] = ()

    @property
    def size(self) -> int:
        """Characters, and what a turn takes beside them."""
        return sum(len(turn.text) + _TURN for turn in self.turns)


@dataclass
class Waiting:
    """Turns that are not stored yet: their size, when they came, by both clocks, and how often that was tried."""

    new: NewTurns
    size: int
    came: float
    since: float
    tries: int = 0
    number: int = 0
    """Which of all that came to the writer, from 1."""


_WRITERS: WeakKeyDictionary[MemBank, WeakSet[TurnWriter]] = WeakKeyDictionary()
_WRITERS_LOCK = threading.Lock()


def settle(bank: MemBank, namespace: str, seconds: float) -> bool:
    """Wait, as `TurnWriter.settle` does, for all who write into a bank of this process."""
    with _WRITERS_LOCK:
        writers = list(_WRITERS.get(bank, ()))
    until = time.monotonic() + seconds
    return all(writer.settle(namespace, max(0.0, until - time.monotonic())) for writer in writers)


class TurnWriter:
    """Takes turns from any thread and stores them one after the other. The interpreter waits for it at exit.

    Args:
        source: of the memories.
        most_tries: after so many tries a turn is given up; None: never.
        retry_seconds: what is kept is tried again after so long; None: with the next turn, and by `flush`.
        most_kept: beyond so many the oldest that could not be stored are given up.
    """

    def __init__(
        self,
        bank: MemBank,
        source: str,
        *,
        thread: str,
        most_tries: int | None = None,
        retry_seconds: float | None = None,
        most_kept: int = 1024,
    ) -> None:
        self._bank = bank
        self._source = source
        self._most_tries = most_tries
        self._retry_seconds = retry_seconds
        self._most_kept = most_kept
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=thread)
        self._changed = threading.Condition()
        self._new: deque[Waiting | None] = deque()
        self._unfinished = 0
        self._characters = 0
        self._came = self._finished = 0
        self._newest_of: dict[str, int] = {}
        self._awaited = 0
        self._settling: list[tuple[int, Future[None]]] = []
        self._is_working = False
        self._last_came = 0.0
        self._kept: list[Waiting] = []
        self._again_at = 0.0
        self._failure: str | None = None
        self._closing = threading.Event()
        self.stored = 0
        self.failed = 0
        with _WRITERS_LOCK:
            _WRITERS.setdefault(bank, WeakSet()).add(self)

    @property
    def waiting(self) -> int:
        """How many are not stored yet."""
        return self._unfinished + len(self._kept)

    @property
    def unsaved(self) -> int:
        """How many of them could not be stored so far."""
        return len(self._kept)

    @property
    def failure(self) -> str | None:
        """Why the newest try to store them failed; None where nothing is left over."""
        return self._failure if self._kept else None

    def add(self, new: NewTurns) -> None:
        """Store this soon."""
        with self._changed:
            self._last_came = max(time.time(), self._last_came + _APART)
            self._came += 1
            waiting = Waiting(new, new.size, self._last_came, time.monotonic(), number=self._came)
            self._newest_of[new.namespace] = waiting.number
            self._characters += waiting.size
            self._begin(waiting)

    def flush(self) -> bool:
        """Wait until everything so far is stored or was tried; returns whether nothing is left."""
        with self._changed:
            if self._kept and self._retry_seconds is None and not self._closing.is_set():
                self._begin(None)
            self._changed.wait_for(lambda: not self._unfinished)
            return not self._kept

    def settle(self, namespace: str, seconds: float) -> bool:
        """Wait until what was said so far in one namespace is stored or was tried, and no longer than so many seconds.

        What could not be stored is not tried again for this. Returns whether nothing is on its way any more.
        """
        with self._changed:
            newest = self._newest_of.get(namespace, 0)
            if newest <= self._finished:
                return True
            self._awaited += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._finished >= newest, seconds)
            finally:
                self._awaited -= 1

    def settling(self, namespace: str) -> Future[None] | None:
        """The same for those who cannot wait here: done once that is stored or was tried; None where nothing is on its
        way."""
        with self._changed:
            newest = self._newest_of.get(namespace, 0)
            if newest <= self._finished:
                return None
            future: Future[None] = Future()
            self._settling.append((newest, future))
            self._awaited += 1
            self._changed.notify_all()
            return future

    def _settle(self) -> list[Future[None]]:
        """Those of what is waited for that have come to pass, with the lock held."""
        settled = [future for newest, future in self._settling if newest <= self._finished]
        if settled:
            self._settling = [(newest, future) for newest, future in self._settling if newest > self._finished]
            self._awaited -= len(settled)
        return settled

    def close(self) -> None:
        """Try everything that waits once more, then end."""
        if self._closing.is_set():
            return
        self._closing.set()
        with self._changed:
            self._begin(None)
        self._executor.shutdown(wait=True)

    def _begin(self, waiting: Waiting | None) -> None:
        """Hand something to the thread, with the lock held; None: only what is kept."""
        self._new.append(waiting)
        self._unfinished += 1
        self._changed.notify_all()
        if self._is_working:
            return
        self._is_working = True
        try:
            self._executor.submit(self._work)
        except RuntimeError:
            # the interpreter is on its way out and starts nothing in the background any more
            self._work()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            new = [waiting for waiting in batch if waiting is not None]
            self._take_in(new)
            with self._changed:
                self._unfinished -= len(batch)
                self._characters -= sum(waiting.size for waiting in new)
                for waiting in new:
                    self._finished = waiting.number
                    if self._newest_of.get(waiting.new.namespace) == waiting.number:
                        del self._newest_of[waiting.new.namespace]
                settled = self._settle()
                self._changed.notify_all()
            for future in settled:
                if future.set_running_or_notify_cancel():
                    future.set_result(None)

    def _next(self) -> list[Waiting | None] | None:
        """What is to be stored now, none of it new where something is tried again; None where nothing is left to do."""
        with self._changed:
            while not self._new:
                if not self._kept or self._retry_seconds is None or self._closing.is_set():
                    self._is_working = False
                    return None
                if not self._changed.wait(max(0.0, self._again_at - time.monotonic())):
                    return []
            first = self._new[0]
        if first is not None:
            self._wait(first.since)
        with self._changed:
            return [self._new.popleft() for _ in range(min(len(self._new), MOST_TOGETHER))]

    def _wait(self, since: float) -> None:
        """Wait for a good moment to store what came at this one; not while somebody waits for it (`_awaited`)."""

    def _take_in(self, new: list[Waiting]) -> None:
        due = time.monotonic() >= self._again_at or self._closing.is_set()
        left = self._left_of([*(self._kept if due else ()), *new])
        self._kept = [*(() if due else self._kept), *left]
        if left and self._retry_seconds is not None:
            self._again_at = time.monotonic() + self._retry_seconds
        while len(self._kept) > self._most_kept:
            self._give_up(self._kept.pop(0), "too much waits already")

    def _left_of(self, waiting: list[Waiting]) -> list[Waiting]:
        """Store these together, or where that fails one by one; returns those that are to be tried again."""
        if not waiting:
            return []
        try:
            self._store(waiting)
            return []
        except Exception as exc:  # noqa: BLE001  whatever it is, nothing said is lost by it
            if len(waiting) == 1:
                return self._failed_with(waiting[0], exc)
        left: list[Waiting] = []
        for place, one in enumerate(waiting):
            try:
                self._store([one])
            except Exception as exc:  # noqa: BLE001
                left += self._failed_with(one, exc)
                if isinstance(exc, OSError | BankStorageError):
                    return left + waiting[place + 1 :]
        return left

    def _failed_with(self, waiting: Waiting, exc: Exception) -> list[Waiting]:
        waiting.tries += 1
        if isinstance(exc, InvalidInputError) or waiting.tries == self._most_tries:
            # it would be refused every time, or has been
            self._give_up(waiting, exc)
            return []
        self._failure = str(exc) or type(exc).__name__
        known = isinstance(exc, MembankError)
        logger.error(
            "what was said could not be remembered and is tried again: %s", exc, exc_info=None if known else exc
        )
        return [waiting]

    def _give_up(self, waiting: Waiting, why: Exception | str) -> None:
        logger.error("%s turns of %s are not remembered: %s", len(waiting.new.turns), waiting.new.conversation, why)
        self.failed += 1

    def _store(self, waiting: list[Waiting]) -> None:
        self._ingest([item for one in waiting for item in self._memories(one)], waiting)
        again = [
            NewMemory(passage, role=turn.role, namespace=one.new.namespace, created_at=one.came)
            for one in waiting
            for turn in one.new.again
            for passage in clean_passages(turn.text)
        ]
        if again:
            self._bank.tell_again(again)

    def _ingest(self, items: list[NewMemory], waiting: list[Waiting]) -> None:
        if items:
            self.stored += len(self._bank.ingest_many(items, batch_size=len(items)))

    def _memories(self, waiting: Waiting) -> list[NewMemory]:
        new = waiting.new
        return [
            NewMemory(
                passage,
                role=turn.role,
                namespace=new.namespace,
                conversation=new.conversation,
                created_at=waiting.came + place * _TURNS_APART if turn.said_at is None else turn.said_at,
                source=self._source,
            )
            for place, turn in enumerate(new.turns)
            if is_kept(turn, new.turns[place - 1] if place else None, cut_off=new.partial and turn is new.turns[-1])
            for passage in clean_passages(turn.text)
        ]


class SpokenTurn(Protocol):
    """What somebody said in a conversation."""

    @property
    def role(self) -> str: ...
    @property
    def text(self) -> str: ...


def is_kept(turn: SpokenTurn, before: SpokenTurn | None, *, cut_off: bool = False) -> bool:
    """Whether a turn is worth remembering. `before`: the one that it follows; `cut_off`: it was stopped."""
    if turn.role == "assistant":
        # what is answered to an order to forget something mostly repeats it
        ordered = before is not None and before.role != "assistant" and is_forget_command(before.text)
        return not (cut_off or ordered or is_evasion(turn.text))
    return not is_forget_command(turn.text)
