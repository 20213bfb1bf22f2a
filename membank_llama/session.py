"""`ChatMemory`: what stands between a conversation and a bank.

Before a call it recalls, and puts a block into the newest user message; blocks of earlier turns are put back where
they were, so that the prompt only ever grows at its end and the model's prompt cache holds. After a call it
remembers both sides, in order, on a thread of its own. A bank that fails never breaks a chat: it is logged and the
call goes through without memory.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from .bank import MemBank
from .errors import InvalidInputError, MembankError
from .passages import clean_text, split_passages
from .prompt import Block, Neutraliser, build_block, excerpted, find_user_turn, strip_block
from .query import RecallResult
from .types import DEFAULT_NAMESPACE, NewMemory

logger = logging.getLogger("membank_llama")

MESSAGE_OVERHEAD = 12
PROMPT_MARGIN = 16
REPLY_RESERVE = 512
REPLAYED_TURNS = 512
QUERY_CHARACTERS = 2000

Message = Mapping[str, Any]


class Tokens(Protocol):
    """The model's tokenizer; see `Vocabulary`."""

    @property
    def n_ctx(self) -> int: ...
    @property
    def controls(self) -> Sequence[str]: ...
    def count(self, text: str) -> int: ...
    def is_clean(self, text: str) -> bool: ...


@dataclass(frozen=True)
class MemoryOptions:
    """How a conversation uses its bank.

    Args:
        namespace: whose memories.
        top_k: most memories injected in one turn.
        share: most of the context that one block may take; all blocks of a prompt take at most twice that.
        budget: the same in tokens, in place of `share`.
        recall, remember: switch one side off.
        conversation: a fixed name for the conversation; by default each has its own.
    """

    namespace: str = DEFAULT_NAMESPACE
    top_k: int = 6
    share: float = 0.25
    budget: int | None = None
    recall: bool = True
    remember: bool = True
    conversation: str | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise InvalidInputError(f"top_k is {self.top_k}; use 1 or more, or recall=False for no memory")
        if not 0 < self.share <= 0.5:
            raise InvalidInputError(f"share is {self.share}; use a part of the context above 0 and up to 0.5")
        if self.budget is not None and self.budget < 1:
            raise InvalidInputError(f"budget is {self.budget}; use 1 token or more, or recall=False")


@dataclass(frozen=True)
class LastRecall:
    """What the last call recalled, and what became of each memory."""

    query: str
    results: tuple[RecallResult, ...] = ()
    injected: tuple[int, ...] = ()
    skipped: dict[int, str] = field(default_factory=dict)
    block: str = ""
    tokens: int = 0
    recall_ms: float = 0.0
    error: str | None = None


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
    """

    def __init__(
        self, bank: MemBank, tokens: Tokens, options: MemoryOptions | None = None, *, own_bank: bool = False
    ) -> None:
        self.bank = bank
        self.options = options or MemoryOptions()
        self.last: LastRecall | None = None
        self._tokens = tokens
        self._own_bank = own_bank
        self._neutralise = Neutraliser(tokens.controls)
        self._session = uuid.uuid4().hex[:12]
        self._blocks: OrderedDict[str, tuple[Block, float]] = OrderedDict()
        self._lock = threading.Lock()
        # one thread: memories are stored in the order they were said; the interpreter waits for it at exit
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="membank-remember")
        self._pending: list[Future[None]] = []
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
        plain = [dict(message) for message in messages]
        newest = _newest_user(plain)
        if newest is None:
            return plain, None
        keys = _rolling_keys(plain)
        text = strip_block(text_of(plain[newest].get("content")))
        turn = self._turn(text, keys[_first_user(plain)])
        if not self.options.recall or not text.strip():
            return plain, turn
        used = sum(self._tokens.count(text_of(m.get("content"))) + MESSAGE_OVERHEAD for m in plain)
        shown = [text_of(message.get("content")) for message in plain]
        with self._lock:
            one, together = self._room(used, max_tokens)
            earlier = self._kept(keys[: newest + 1])
            kept = earlier.pop(newest, None)
            spent = sum(block.tokens for block in earlier.values())
            if spent > 0.75 * together:
                # the blocks of old turns have filled their room: drop them all at once, the cache is lost but once
                earlier, spent = {}, 0
                for key in keys[:newest]:
                    self._blocks.pop(key, None)
            if kept is None or newest == len(plain) - 1 or spent + kept.tokens > together:
                # a message that is sent again is asked again: something may have been told or forgotten since
                known = {memory_id for old in earlier.values() for memory_id in old.ids}
                since = self._blocks[keys[newest]][1] if kept is not None else turn.said_at
                block = self._recall(text, shown, min(one, together - spent), known, (turn.conversation, since))
                self._keep(keys[newest], block, since)
            else:
                block = kept
                self.last = LastRecall(text[:QUERY_CHARACTERS], (), block.ids, {}, block.text, block.tokens)
        for index, old in [*earlier.items(), (newest, block)]:
            plain[index] = with_block(plain[index], old.text)
        return plain, turn

    def for_prompt(self, prompt: str, max_tokens: int | None = None) -> tuple[int, str, Turn | None]:
        """For a prompt templated elsewhere: where to insert, what to insert, and the turn to `learn`."""
        found = find_user_turn(prompt)
        text = strip_block(found.text).strip()
        turn = self._turn(text, "") if text else None
        if turn is None or not self.options.recall:
            return found.start, "", turn
        with self._lock:
            one, _ = self._room(self._tokens.count(prompt), max_tokens)
            block = self._recall(text, [prompt], one, set())
        return found.start, block.text, turn

    def _turn(self, text: str, key: str) -> Turn:
        conversation = self.options.conversation or (f"{self._session}-{key[:8]}" if key else self._session)
        return Turn(text, conversation, time.time())

    def _room(self, used: int, max_tokens: int | None) -> tuple[int, int]:
        """Tokens that one block may take, and all blocks together: a share, and never what the reply needs."""
        n_ctx = self._tokens.n_ctx
        share = self.options.budget or int(self.options.share * n_ctx)
        reserve = max_tokens if max_tokens is not None and max_tokens > 0 else min(REPLY_RESERVE, n_ctx // 4)
        left = max(0, n_ctx - used - reserve - PROMPT_MARGIN)
        return min(share, left), min(2 * share, left)

    def _recall(
        self, text: str, shown: Sequence[str], room: int, known: set[int], own: tuple[str, float] | None = None
    ) -> Block:
        start = time.perf_counter()
        query = text[:QUERY_CHARACTERS]
        try:
            results = self.bank.recall(clean_text(query), 2 * self.options.top_k, namespace=self.options.namespace)
        except MembankError as exc:
            logger.warning("no memory for this call: %s", exc)
            self.last = LastRecall(query, error=str(exc))
            return Block()
        spent = 1000 * (time.perf_counter() - start)
        if own is not None:
            known = known | {r.memory_id for r in results if _is_answer(r, *own)}
        chosen, skipped = self._choose(results, shown, known)
        count = self._tokens.count
        block = build_block([excerpted(r, room, count) for r in chosen], room, count, self._neutralise)
        if block.text and not self._tokens.is_clean(block.text):
            logger.warning("a recalled memory still held a control token of the model; none was injected")
            block = Block(skipped=dict.fromkeys((r.memory_id for r in chosen), "holds a control token"))
        self.last = LastRecall(
            query, tuple(results), block.ids, {**skipped, **block.skipped}, block.text, block.tokens, spent
        )
        return block

    def _choose(
        self, results: Sequence[RecallResult], shown: Sequence[str], known: set[int]
    ) -> tuple[list[RecallResult], dict[int, str]]:
        visible = [_plain(text) for text in shown]
        chosen: list[RecallResult] = []
        skipped: dict[int, str] = {}
        for result in results:
            if not result.relevant:
                skipped[result.memory_id] = result.reason
            elif result.memory_id in known or _is_shown(_plain(result.passage_text), visible):
                skipped[result.memory_id] = "the conversation shows it already"
            elif len(chosen) == self.options.top_k:
                skipped[result.memory_id] = f"beyond the first {self.options.top_k}"
            else:
                chosen.append(result)
        return chosen, skipped

    def _kept(self, keys: Sequence[str]) -> dict[int, Block]:
        """The blocks of these messages, by place; one that holds what was forgotten since is given up."""
        blocks = {place: self._blocks[key][0] for place, key in enumerate(keys) if key in self._blocks}
        there = self.bank.store.registry.get({memory_id for block in blocks.values() for memory_id in block.ids})
        for place, block in list(blocks.items()):
            if not there.keys() >= set(block.ids):
                del blocks[place]
                self._blocks.pop(keys[place], None)
        return blocks

    def _keep(self, key: str, block: Block, since: float) -> None:
        self._blocks[key] = block, since
        self._blocks.move_to_end(key)
        while len(self._blocks) > REPLAYED_TURNS:
            self._blocks.popitem(last=False)

    # -- after a call

    def learn(self, turn: Turn | None, reply: str, *, partial: bool = False) -> None:
        """Remember a turn and its reply, in the background. `partial`: the reply was cut off."""
        if turn is None or not self.options.remember or self._closed:
            return
        items = [*self._items(turn, "user", turn.text, {}, turn.said_at)]
        items += self._items(turn, "assistant", reply, {"partial": True} if partial else {}, time.time())
        if items:
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

    def _store(self, items: list[NewMemory]) -> None:
        try:
            self.bank.ingest_many(items)
        except MembankError as exc:
            logger.error("what was said could not be remembered: %s", exc)

    def flush(self) -> None:
        """Wait until everything said so far is stored."""
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def close(self) -> None:
        """Store what is waiting, then close the bank where it is this object's own. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._worker.shutdown(wait=True)
        if self._own_bank:
            self.bank.close()


# -- messages


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = (part.get("text", "") for part in content if isinstance(part, Mapping) and part.get("type") == "text")
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def with_block(message: dict[str, Any], block: str) -> dict[str, Any]:
    """The message with a block ahead of its text."""
    if not block:
        return message
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": block + content}
    return {**message, "content": [{"type": "text", "text": block}, *(content or ())]}


def _newest_user(messages: Sequence[Message]) -> int | None:
    """The user message that is to be answered: nothing but tool calls and their results may follow it."""
    for index in range(len(messages) - 1, -1, -1):
        role = messages[index].get("role")
        if role == "user":
            return index
        if role == "assistant" and not messages[index].get("tool_calls"):
            return None
    return None


def _first_user(messages: Sequence[Message]) -> int:
    return next(index for index, message in enumerate(messages) if message.get("role") == "user")


def _rolling_keys(messages: Sequence[Message]) -> list[str]:
    """For each message a hash of everything up to it."""
    digest = hashlib.sha256()
    keys = []
    for message in messages:
        digest.update(f"{message.get('role')}\0{text_of(message.get('content'))}\0".encode("utf-8", "replace"))
        keys.append(digest.hexdigest())
    return keys


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _is_answer(result: RecallResult, conversation: str, since: float) -> bool:
    """Whether this is what was answered to the same message before."""
    return result.role == "assistant" and result.conversation == conversation and result.created_at >= since


def _is_shown(text: str, visible: Sequence[str]) -> bool:
    return any(text == other or (len(text) >= 16 and text in other) for other in visible)
