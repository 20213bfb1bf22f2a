"""`ChatMemory`: what stands between one model's conversations and a bank.

Before a call a `Reminder` puts memories into the newest user message. After a call both sides are remembered, in
order, on a thread of its own. A bank that fails never breaks a chat: it is logged and the call goes through without
memory. What could not be stored is kept, tried again with the next turn and when everything is to be stored, and
counted (`unsaved`, `failure`) until it is.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from membank_llama.core.errors import InvalidInputError, MembankError
from membank_llama.core.surrogates import repaired, repaired_text
from membank_llama.core.types import NewMemory, TokenCounter

from .bank import MemBank
from .prompt_block import find_user_turn, strip_block
from .prompt_injection import (
    LastRecall,
    MemoryOptions,
    Message,
    Reminder,
    first_user,
    newest_user,
    rolling_keys,
    text_of,
    without_echo,
)
from .text_splitting import clean_text, split_passages

logger = logging.getLogger("membank_llama")

MOST_UNSAVED = 1024
"""Turns kept that could not be stored."""


@dataclass(frozen=True)
class Turn:
    """A user's message on its way to being remembered."""

    text: str
    conversation: str
    said_at: float


class ChatMemory:
    """The memory of one model's conversations.

    Args:
        bank: where memories live.
        tokens: the tokenizer of the model that is prompted.
        own_bank: close the bank with this.
        settle: called before everything is to be stored: ends what the model's streams have left open.
    """

    def __init__(
        self,
        bank: MemBank,
        tokens: TokenCounter,
        options: MemoryOptions | None = None,
        *,
        own_bank: bool = False,
        settle: Callable[[], None] | None = None,
    ) -> None:
        self.bank = bank
        self.options = options or MemoryOptions()
        self.last: LastRecall | None = None
        self._tokens = tokens
        self._own_bank = own_bank
        self._reminder = Reminder(bank)
        self._session = uuid.uuid4().hex[:12]
        # one thread: memories are stored in the order they were said; the interpreter waits for it at exit
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="membank-remember")
        self._pending: list[Future[None]] = []
        self._settle = settle
        self._unsaved: deque[list[NewMemory]] = deque()
        self._failure: str | None = None
        self._closed = False

    # -- before a call

    def new_conversation(self) -> None:
        """What comes next belongs to another conversation."""
        self._session = uuid.uuid4().hex[:12]

    @property
    def conversation(self) -> str:
        """The name under which what is said now is remembered, or begins to be."""
        return self.options.conversation or self._session

    def for_messages(
        self, messages: Sequence[Message], max_tokens: int | None = None
    ) -> tuple[list[dict[str, Any]], Turn | None]:
        """The messages with memory in them, and the turn to `learn` once the reply is there.

        The messages given are not changed. Without a user message at the end nothing is recalled.
        """
        messages = repaired(list(messages))
        newest = newest_user(messages)
        turn: Turn | None = None
        if newest is not None:
            keys = rolling_keys(messages, self.options.namespace)
            text = strip_block(text_of(messages[newest].get("content")))
            turn = self._turn(text, keys[first_user(messages)])
        conversation = self.conversation if turn is None else turn.conversation
        told, last = self._reminder.messages(messages, self._tokens, self.options, conversation, max_tokens=max_tokens)
        if last is not None:
            self.last = last
        return told, turn

    def for_prompt(self, prompt: str, max_tokens: int | None = None) -> tuple[int, str, Turn | None]:
        """For a prompt templated elsewhere: where to insert, what to insert, and the turn to `learn`."""
        prompt = repaired_text(prompt)
        at, block, last = self._reminder.prompt(prompt, self._tokens, self.options, max_tokens)
        if last is not None:
            self.last = last
        text = strip_block(find_user_turn(prompt).text).strip()
        return at, block, self._turn(text, "") if text else None

    def _turn(self, text: str, key: str) -> Turn:
        conversation = self.options.conversation or (f"{self._session}-{key[:8]}" if key else self._session)
        return Turn(text, conversation, time.time())

    # -- after a call

    def learn(self, turn: Turn | None, reply: str, *, partial: bool = False) -> None:
        """Remember a turn and its reply, in the background. `partial`: the reply was cut off."""
        if turn is None or not self.options.remember:
            return
        if self._closed:
            logger.error("what was said after the memory was closed is not remembered")
            return
        items = [*self._items(turn, "user", turn.text, {}, turn.said_at)]
        items += self._items(turn, "assistant", without_echo(reply), {"partial": True} if partial else {}, time.time())
        if items:
            self._submit(items)

    def _submit(self, items: list[NewMemory] | None) -> None:
        self._pending = [future for future in self._pending if not future.done()]
        try:
            self._pending.append(self._worker.submit(self._store, items))
        except RuntimeError:
            # the interpreter is on its way out and starts nothing in the background any more
            self._store(items)

    def _items(self, turn: Turn, role: str, text: str, metadata: dict[str, Any], when: float) -> list[NewMemory]:
        text = clean_text(strip_block(text)).strip()
        if not text:
            return []
        return [
            NewMemory(
                passage,
                metadata,
                role=role,
                namespace=self.options.namespace,
                conversation=turn.conversation,
                created_at=when,
                source="chat",
            )
            for passage in split_passages(text)
        ]

    def _store(self, items: list[NewMemory] | None) -> None:
        """Store this behind what is still kept, in the order in which it was said; None: only what is kept."""
        if items is not None:
            self._unsaved.append(items)
        while len(self._unsaved) > MOST_UNSAVED:
            self._unsaved.popleft()
            logger.error("a turn is lost: %s turns wait to be remembered already", MOST_UNSAVED)
        while self._unsaved:
            try:
                self.bank.ingest_many(self._unsaved[0])
            except InvalidInputError as exc:
                # it would be refused every time
                logger.error("what was said cannot be remembered: %s", exc)
            except Exception as exc:
                self._failure = str(exc) or type(exc).__name__
                known = isinstance(exc, MembankError)
                logger.error(
                    "what was said could not be remembered and is tried again: %s", exc, exc_info=None if known else exc
                )
                return
            self._unsaved.popleft()
        self._failure = None

    @property
    def unsaved(self) -> int:
        """Turns that could not be stored so far."""
        return len(self._unsaved) if self._failure is not None else 0

    @property
    def failure(self) -> str | None:
        """Why the newest try to store them failed; None where nothing is left over."""
        return self._failure

    def flush(self) -> bool:
        """Wait until everything said so far was stored, or tried; returns whether all of it is (see `unsaved`)."""
        if self._settle is not None:
            self._settle()
        if self._failure is not None and not self._closed:
            self._submit(None)
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()
        return not self._unsaved

    def close(self) -> None:
        """Store what is waiting, then close the bank where it is this object's own. May be called twice."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        self._worker.shutdown(wait=True)
        if self._unsaved:
            logger.error("%s turns were not remembered: %s", len(self._unsaved), self._failure)
        if self._own_bank:
            self.bank.close()
