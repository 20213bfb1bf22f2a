"""`IngestWorker`: the turns that go by are stored after the reply is out, with their keys in the same transaction.

It waits for a quiet moment, because encoding and recall share the encoder, but never long. What could not be stored is
tried again a few times, then given up with an error: that, or what was not stored when the process was killed, is new
again when the client sends its history the next time, and what was stored is not, forgotten or not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.turn_writer import NewTurns, TurnWriter, Waiting

from .conversation_tracker import ConversationTracker

logger = logging.getLogger("membank_llama")

QUIET_SECONDS = 0.05
PATIENCE_SECONDS = 1.0
MOST_CHARACTERS = 256 * 1024
"""Of one message; of what is longer, its beginning and its end are remembered."""
_END_CHARACTERS = 64 * 1024
MOST_WAITING_CHARACTERS = 32 * 1024 * 1024
AGAIN_SECONDS = 5.0
MOST_TRIES = 6
MOST_KEPT = 512


class IngestWorker(TurnWriter):
    """Takes turns from any thread and stores them one after the other.

    Args:
        is_busy: whether a recall is under way.
        background: entered around what can wait.
    """

    def __init__(
        self,
        bank: MemBank,
        conversations: ConversationTracker,
        *,
        is_busy: Callable[[], bool],
        background: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__(
            bank,
            "proxy",
            thread="membank-learn",
            most_tries=MOST_TRIES,
            retry_seconds=AGAIN_SECONDS,
            most_kept=MOST_KEPT,
        )
        self._conversations = conversations
        self._is_busy = is_busy
        self._background = background

    def learn(self, new: NewTurns) -> bool:
        """Remember this, soon. Returns False where too much waits already: it is new when it is sent again."""
        new = _shortened(new)
        with self._changed:
            if self._characters and self._characters + new.size > MOST_WAITING_CHARACTERS:
                self.failed += 1
                logger.warning("what was said is not remembered: %d characters wait to be stored", self._characters)
                return False
            self._conversations.note(new.conversation, _marks(new))
            self.add(new)
        return True

    def close(self) -> None:
        """Store what is waiting, then end."""
        super().close()
        while self._kept:
            self._give_up(self._kept.pop(0), "the server ends")

    def _wait(self, since: float) -> None:
        """Until no recall was under way for a moment, this has waited long enough, or somebody waits for it."""
        quiet_since = time.monotonic()
        while not self._closing.is_set() and not self._awaited:
            now = time.monotonic()
            if self._is_busy():
                quiet_since = now
            if now - quiet_since >= QUIET_SECONDS or now - since >= PATIENCE_SECONDS:
                return
            time.sleep(QUIET_SECONDS / 5)

    def _ingest(self, items: list[NewMemory], waiting: list[Waiting]) -> None:
        turns = [(one.new.conversation, *mark) for one in waiting for mark in _marks(one.new)]
        if not items:
            self._conversations.keep(turns)
            return
        with self._background():
            # one batch, so that the turns' keys come with all that was said, or not at all
            stored = self._bank.ingest_many(
                items, batch_size=len(items), beside=lambda db: self._conversations.keep(turns, db)
            )
        self.stored += len(stored)

    def _give_up(self, waiting: Waiting, why: Exception | str) -> None:
        self._conversations.forget(key for key, _ in _marks(waiting.new))
        super()._give_up(waiting, why)


def _marks(new: NewTurns) -> list[tuple[bytes, int]]:
    """Keys of the turns, and of what a generate call is gone on from."""
    keys = [(turn.key, turn.depth) for turn in new.turns]
    return keys if new.context_key is None else [*keys, (new.context_key, 0)]


def _shortened(new: NewTurns) -> NewTurns:
    if all(len(turn.text) <= MOST_CHARACTERS for turn in new.turns):
        return new
    return replace(new, turns=tuple(replace(turn, text=_beginning_and_end(turn.text)) for turn in new.turns))


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
