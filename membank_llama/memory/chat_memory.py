"""`ChatMemory`: what stands between one model's conversations and a bank.

Before a call a `PromptInjector` puts memories into the newest user message; after it a `TurnWriter` remembers both
sides, in order. A bank that fails never breaks a chat: it is logged and the call goes through without memory. What
could not be stored is kept, tried again with the next turn and when everything is to be stored, and counted
(`unsaved`, `failure`) until it is.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from membank_llama.core.surrogates import repaired, repaired_text
from membank_llama.core.types import TokenCounter

from .bank import MemBank
from .conversation_keys import (
    ChatMessage,
    ConversationKeys,
    ConversationTurn,
    newest_user,
    text_of,
    without_echo,
    without_thinking,
)
from .prompt_block import Block, KeptBlock, strip_block
from .prompt_injection import LastRecall, MemoryOptions, PromptInjector
from .raw_prompts import find_user_turn
from .turn_writer import NewTurns, TurnWriter, settle

logger = logging.getLogger("membank_llama")

SETTLE_SECONDS = 1.0
"""How long a call waits for what was said before it to be stored."""


@dataclass(frozen=True)
class PendingTurn:
    """A user's message that is remembered once its reply is there."""

    text: str
    namespace: str
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
        self._injector = PromptInjector(bank)
        self._writer = TurnWriter(bank, "chat", thread="membank-remember")
        self._session = uuid.uuid4().hex[:12]
        self._settle = settle
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
        self, messages: Sequence[ChatMessage], max_tokens: int | None = None
    ) -> tuple[list[dict[str, Any]], PendingTurn | None]:
        """The messages with memory in them, and the turn to `learn` once the reply is there.

        The messages given are not changed. Without a user message at the end nothing is recalled.
        """
        messages = repaired(list(messages))
        keys = ConversationKeys.of(messages, self.options.namespace)
        newest = newest_user(messages)
        turn: PendingTurn | None = None
        if newest is not None:
            first = next(place for place, message in enumerate(messages) if message.get("role") == "user")
            opening = keys.at(first)
            text = strip_block(text_of(messages[newest].get("content")))
            turn = self._pending(text, keys.start if opening is None else opening.key)
            self._await_what_was_said()
        conversation = self.conversation if turn is None else turn.conversation
        told, last = self._injector.messages(
            messages, self._tokens, self.options, conversation, keys=keys, max_tokens=max_tokens
        )
        if last is not None:
            self.last = last
        return told, turn

    def for_prompt(self, prompt: str, max_tokens: int | None = None) -> tuple[int, str, PendingTurn | None]:
        """For a prompt templated elsewhere: where to insert, what to insert, and the turn to `learn`."""
        prompt = repaired_text(prompt)
        self._await_what_was_said()
        at, block, last = self._injector.prompt(prompt, self._tokens, self.options, max_tokens)
        if last is not None:
            self.last = last
        text = strip_block(find_user_turn(prompt).text).strip()
        return at, block, self._pending(text) if text else None

    def kept_blocks(self, messages: Sequence[ChatMessage]) -> dict[int, KeptBlock]:
        """The blocks that stand in messages that were asked with, by place."""
        return self._injector.kept_blocks(ConversationKeys.of(repaired(list(messages)), self.options.namespace))

    def put_back(self, messages: Sequence[ChatMessage], blocks: Mapping[int, KeptBlock]) -> None:
        """Let blocks that `kept_blocks` gave, in another process maybe, stand in these messages again.

        They may come from a file: one that is no block, that holds a control token of this model or a memory of a
        provenance that is left out is not put back, and how many tokens each takes is counted anew.
        """
        keys = ConversationKeys.of(repaired(list(messages)), self.options.namespace)
        again = {
            place: (replace(block, tokens=self._tokens.count(block.text)), since)
            for place, (block, since) in blocks.items()
            if self._may_stand(block)
        }
        self._injector.put_back(keys, again)

    def _may_stand(self, block: Block) -> bool:
        if not block.text or strip_block(block.text) or not self._tokens.is_clean(block.text):
            return False
        shown = self.bank.store.registry.get(block.ids).values() if self.options.without else ()
        return not any(self.options.leaves_out(memory.provenance) for memory in shown)

    def _await_what_was_said(self) -> None:
        """What another conversation has just told is found in this one."""
        if self.options.recall and not settle(self.bank, self.options.namespace, SETTLE_SECONDS):
            logger.warning("what was said last is still being stored, and not found by this call")

    def _pending(self, text: str, key: bytes = b"") -> PendingTurn:
        conversation = f"{self._session}-{key.hex()[:8]}" if key else self._session
        options = self.options
        return PendingTurn(text, options.namespace, options.conversation or conversation, time.time())

    # -- after a call

    def learn(self, turn: PendingTurn | None, reply: str, *, partial: bool = False, begun: bool = False) -> None:
        """Remember a turn and its reply, in the background.

        Args:
            partial: the reply was cut off.
            begun: the prompt ended within a thought.
        """
        if turn is None or not self.options.remember:
            return
        if self._closed:
            logger.error("what was said after the memory was closed is not remembered")
            return
        asked = ConversationTurn("user", turn.text, said_at=turn.said_at)
        answered = ConversationTurn(
            "assistant", without_echo(without_thinking(reply, begun=begun)), said_at=time.time()
        )
        said = tuple(one for one in (asked, answered) if one.text.strip())
        if said:
            partial = partial and said[-1] is answered
            self._writer.add(NewTurns(turn.namespace, turn.conversation, said, partial))

    @property
    def unsaved(self) -> int:
        """Turns that could not be stored so far."""
        return self._writer.unsaved

    @property
    def failure(self) -> str | None:
        """Why the newest try to store them failed; None where nothing is left over."""
        return self._writer.failure

    def flush(self) -> bool:
        """Wait until everything said so far was stored, or tried; returns whether all of it is (see `unsaved`)."""
        if self._settle is not None:
            self._settle()
        return self._writer.flush()

    def close(self) -> None:
        """Store what is waiting, then close the bank where it is this object's own. May be called twice."""
        if self._closed:
            return
        if self._settle is not None:
            self._settle()
        self._closed = True
        self._writer.close()
        if self.unsaved:
            logger.error("%s turns were not remembered: %s", self.unsaved, self.failure)
        if self._own_bank:
            self.bank.close()
