"""`PromptInjector`: from the messages of a call to the same messages with memory in them.

A block goes into the newest user message; blocks of earlier turns are put back where they were, found by the turns'
keys, so that the prompt only ever grows at its end and the model's prompt cache holds. A bank that fails never breaks a
call: it is logged and the messages go through without memory. Several threads may ask; nothing is locked while the bank
is searched.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import lru_cache
from typing import Any

from membank_llama.core.bounded import keep_newest
from membank_llama.core.errors import InvalidInputError, MembankError
from membank_llama.core.letters import folded
from membank_llama.core.provenance import Provenance, provenance_named
from membank_llama.core.types import DEFAULT_NAMESPACE, TokenCounter
from membank_llama.recall.query import RecallResult

from .bank import MemBank
from .block_lines import replaced_among
from .conversation_keys import TEXT_PARTS, ChatMessage, ConversationKeys, ConversationTurn, newest_user, text_of
from .prompt_block import BLOCK_OPEN, Block, KeptBlock, Neutraliser, build_block, excerpted, strip_block
from .raw_prompts import find_user_turn
from .text_splitting import clean_text

logger = logging.getLogger("membank_llama")

MESSAGE_OVERHEAD = 12
PROMPT_MARGIN = 16
REPLY_RESERVE = 512
REPLAYED_TURNS = 512
QUERY_CHARACTERS = 2000
CHARACTERS_COUNTED = 16
"""Characters a token of context beyond which a text is not counted any more, but taken to be longer than it."""
MOST_COUNTED = 256 * 1024
"""Characters of a request that are counted, whatever context it asks for; the rest is estimated."""
CHARACTERS_A_TOKEN = 3

INSTRUCTING = ("system", "developer")


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
        zone: whose days are meant and shown; by default this machine's.
        without: memories of this provenance are never injected; names of `Provenance` in lower case will do.
    """

    namespace: str = DEFAULT_NAMESPACE
    top_k: int = 6
    share: float = 0.25
    budget: int | None = None
    recall: bool = True
    remember: bool = True
    conversation: str | None = None
    zone: tzinfo | None = None
    without: Collection[Provenance | str] = ()

    def __post_init__(self) -> None:
        for one in self.without:
            if not isinstance(one, Provenance):
                provenance_named(one)
        if self.top_k < 1:
            raise InvalidInputError(f"top_k is {self.top_k}; use 1 or more, or recall=False for no memory")
        if not 0 < self.share <= 0.5:
            raise InvalidInputError(f"share is {self.share}; use a part of the context above 0 and up to 0.5")
        if self.budget is not None and self.budget < 1:
            raise InvalidInputError(f"budget is {self.budget}; use 1 token or more, or recall=False")

    def leaves_out(self, provenance: Provenance) -> bool:
        """Whether memories of this provenance are never injected."""
        return provenance in self.without or provenance.name.lower() in self.without


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


class PromptInjector:
    """Puts memories of a bank into messages and prompts.

    Args:
        bank: where memories live.
        replayed: the most blocks kept to be put back on later turns.
    """

    def __init__(self, bank: MemBank, replayed: int = REPLAYED_TURNS) -> None:
        self.bank = bank
        self._replayed = replayed
        self._blocks: OrderedDict[bytes, KeptBlock] = OrderedDict()
        self._lock = threading.Lock()

    def messages(
        self,
        messages: Sequence[ChatMessage],
        tokens: TokenCounter,
        options: MemoryOptions,
        conversation: str,
        *,
        said: Sequence[ChatMessage] | None = None,
        keys: ConversationKeys | None = None,
        beside: int = 0,
        max_tokens: int | None = None,
        late: threading.Event | None = None,
    ) -> tuple[list[dict[str, Any]], LastRecall | None]:
        """The messages with memory in them, and what was recalled; None where nothing was looked for.

        The messages given are not changed. Without a user message to be answered nothing is recalled, and the blocks
        of earlier turns are put back all the same.

        Args:
            tokens: the tokenizer of the model that is prompted.
            conversation: where an earlier answer to this very message would have been kept.
            said: of each message what was said in it, where a client puts more around it; ``part`` names the part of a
                content that the words begin in.
            keys: of what is said, where the caller has them.
            beside: characters that the model reads beside the messages.
            late: set where nobody waits for the memories any more.
        """
        plain = [dict(message) for message in messages]
        if not options.recall:
            return plain, None
        shown = [text_of(message.get("content")) for message in plain]
        said = plain if said is None else said
        keys = keys or ConversationKeys.of(said, options.namespace)
        asked = keys.at(newest_user(said))
        used = _used(shown, tokens) + beside // CHARACTERS_A_TOKEN
        if used > tokens.n_ctx and asked is not None:
            # older turns are let go by whatever answers
            used = _used(_kept_anyway(plain, shown, asked.place), tokens) + beside // CHARACTERS_A_TOKEN
        one, together = _room(tokens.n_ctx, used, options, max_tokens)
        goes_on = asked is not None and asked.place < len(plain) - 1
        if goes_on:
            # while tools run, the turn keeps what it began with, but where that alone would be too much
            left = tokens.n_ctx - used - PROMPT_MARGIN
            together = left if left >= 0 else tokens.n_ctx
        earlier, kept = self._earlier(keys, shown, asked, together, goes_on)
        spent = sum(block.tokens for block, _ in earlier.values())
        last: LastRecall | None = None
        if asked is not None:
            if kept is None or not goes_on or spent + kept[0].tokens > together:
                # a message that is sent again is asked again: something may have been told or forgotten since
                known = {memory_id for old, _ in earlier.values() for memory_id in old.ids}
                since = time.time() if kept is None else kept[1]
                room = min(one, together - spent)
                block, last = self._recall(asked.text, shown, room, known, tokens, options, (conversation, since))
                if late is None or not late.is_set():
                    self._keep(asked.key, block, since)
            else:
                block, since = kept
                last = LastRecall(
                    query=asked.text[:QUERY_CHARACTERS],
                    results=(),
                    injected=block.ids,
                    skipped={},
                    block=block.text,
                    tokens=block.tokens,
                )
            earlier[asked.place] = block, since
        for place, (old, _) in earlier.items():
            plain[place] = _with_block(plain[place], old.text, said[place].get("part") or 0)
        return plain, last

    def prompt(
        self, prompt: str, tokens: TokenCounter, options: MemoryOptions, max_tokens: int | None = None
    ) -> tuple[int, str, LastRecall | None]:
        """For a prompt templated elsewhere: where to insert, what to insert, and what was recalled."""
        found = find_user_turn(prompt)
        text = strip_block(found.text).strip()
        if not text or not options.recall:
            return found.start, "", None
        one, _ = _room(tokens.n_ctx, _counted(prompt, tokens, _counted_at_most(tokens)), options, max_tokens)
        block, last = self._recall(text, [prompt], one, set(), tokens, options)
        return found.start, block.text, last

    def _recall(
        self,
        text: str,
        shown: Sequence[str],
        room: int,
        known: set[int],
        tokens: TokenCounter,
        options: MemoryOptions,
        own: tuple[str, float] | None = None,
    ) -> tuple[Block, LastRecall]:
        start = time.perf_counter()
        query = text[:QUERY_CHARACTERS]
        try:
            results = self.bank.recall(
                clean_text(query), 2 * options.top_k, namespace=options.namespace, zone=options.zone
            )
        except MembankError as exc:
            logger.warning("no memory for this call: %s", exc)
            return Block(), LastRecall(query, error=str(exc))
        spent = 1000 * (time.perf_counter() - start)
        if own is not None:
            known = known | {r.memory_id for r in results if _is_answer(r, *own)}
        chosen, skipped = _choose(results, shown, known, options)
        count = tokens.count
        neutralise = _neutraliser(tuple(tokens.controls))
        shortened = [r if r.passage is None else excerpted(r, room, count) for r in chosen]
        block = build_block(shortened, room, count, neutralise, options.zone)
        if block.text and not tokens.is_clean(block.text):
            logger.warning("a recalled memory still held a control token of the model; none was injected")
            block = Block(skipped=dict.fromkeys((r.memory_id for r in chosen), "holds a control token"))
        every = {**skipped, **block.skipped}
        return block, LastRecall(
            query=query,
            results=tuple(results),
            injected=block.ids,
            skipped=every,
            block=block.text,
            tokens=block.tokens,
            recall_ms=spent,
        )

    def _earlier(
        self, keys: ConversationKeys, shown: Sequence[str], asked: ConversationTurn | None, together: int, goes_on: bool
    ) -> tuple[dict[int, KeptBlock], KeptBlock | None]:
        """The blocks that stood in the earlier turns, by place, and the one of the turn that is asked; `goes_on`: tools
        run for it.

        One that holds what was forgotten since is given up, and all are once they fill most of what they may take
        together.
        """
        # a message that brings a block along gets no other one
        own = [turn for turn in keys.turns if turn.role == "user" and not _brings_block(shown[turn.place])]
        with self._lock:
            blocks = {turn.place: self._blocks[turn.key] for turn in own if turn.key in self._blocks}
        if not blocks:
            return {}, None
        there = self.bank.exists({memory_id for block, _ in blocks.values() for memory_id in block.ids})
        gone = {place for place, (block, _) in blocks.items() if not there >= set(block.ids)}
        earlier = {place: kept for place, kept in blocks.items() if place not in gone}
        kept = None if asked is None else earlier.pop(asked.place, None)
        most = together if goes_on else 0.75 * together
        if sum(block.tokens for block, _ in earlier.values()) > most:
            # all at once: the prompt cache is lost but once
            gone.update(earlier)
            earlier = {}
        with self._lock:
            for turn in own:
                if turn.place in gone:
                    self._blocks.pop(turn.key, None)
        return earlier, kept

    def kept_blocks(self, keys: ConversationKeys) -> dict[int, KeptBlock]:
        """The blocks that stand in a conversation's messages, by place."""
        with self._lock:
            found = {turn.place: self._blocks[turn.key] for turn in keys.turns if turn.key in self._blocks}
        return {place: kept for place, kept in found.items() if kept[0].text}

    def put_back(self, keys: ConversationKeys, blocks: Mapping[int, KeptBlock]) -> None:
        """Let these blocks stand in the messages at their places, as `kept_blocks` gave them."""
        for turn in keys.turns:
            if turn.place in blocks:
                self._keep(turn.key, *blocks[turn.place])

    def _keep(self, key: bytes, block: Block, since: float) -> None:
        with self._lock:
            keep_newest(self._blocks, key, (block, since), self._replayed)


def _used(shown: Sequence[str], tokens: TokenCounter) -> int:
    """Tokens of the messages, or some number above the context: beyond it nothing is counted."""
    used, left = 0, _counted_at_most(tokens)
    for text in shown:
        used += _counted(text, tokens, left) + MESSAGE_OVERHEAD
        left -= len(text)
        if used > tokens.n_ctx:
            break
    return used


def _kept_anyway(messages: Sequence[ChatMessage], shown: Sequence[str], newest: int) -> list[str]:
    """What stays of messages that are more than a context holds: instructions, and the newest with what follows it."""
    roles = (message.get("role") for message in messages)
    return [text for n, (text, role) in enumerate(zip(shown, roles, strict=True)) if n >= newest or role in INSTRUCTING]


def _counted_at_most(tokens: TokenCounter) -> int:
    return min(CHARACTERS_COUNTED * tokens.n_ctx, MOST_COUNTED)


def _counted(text: str, tokens: TokenCounter, most: int) -> int:
    """Tokens of a text; of one that is longer than `most` characters an estimate."""
    return len(text) // CHARACTERS_A_TOKEN if len(text) > most else tokens.count(text)


def _choose(
    results: Sequence[RecallResult], shown: Sequence[str], known: set[int], options: MemoryOptions
) -> tuple[list[RecallResult], dict[int, str]]:
    """What is injected, and why each of the others is not."""
    visible = [_plain(text) for text in shown]
    chosen: list[RecallResult] = []
    in_sight: list[RecallResult] = []
    skipped: dict[int, str] = {}
    for result in results:
        if not result.relevant:
            skipped[result.memory_id] = result.reason
            continue
        said = result.text if result.passage is None else result.passage_text
        if result.memory_id in known or _is_shown(_plain(said), visible):
            skipped[result.memory_id] = "the conversation shows it already"
            in_sight.append(result)
        elif options.without and options.leaves_out(result.provenance):
            skipped[result.memory_id] = f"left out: its provenance is {result.provenance.name.lower()}"
        elif len(chosen) == options.top_k:
            skipped[result.memory_id] = f"beyond the first {options.top_k}"
        else:
            chosen.append(result)
    if not in_sight:
        return chosen, skipped
    # what was said since, and is in sight, needs no older word against it
    outdated = replaced_among([*chosen, *in_sight])
    gone = {place for place, newer in outdated.items() if place < len(chosen) <= newer}
    skipped |= {chosen[place].memory_id: "the conversation says otherwise since" for place in gone}
    return [result for place, result in enumerate(chosen) if place not in gone], skipped


def _room(n_ctx: int, used: int, options: MemoryOptions, max_tokens: int | None) -> tuple[int, int]:
    """Tokens that one block may take, and all blocks together: a share, and never what the reply needs."""
    share = options.budget or int(options.share * n_ctx)
    usual = min(REPLY_RESERVE, n_ctx // 4)
    # a limit is no need: clients allow for replies that no context holds
    reserve = min(max_tokens, max(REPLY_RESERVE, n_ctx // 4)) if max_tokens is not None and max_tokens > 0 else usual
    left = max(0, n_ctx - used - reserve - PROMPT_MARGIN)
    return min(share, left), min(2 * share, left)


@lru_cache(maxsize=16)
def _neutraliser(controls: tuple[str | re.Pattern[str], ...]) -> Neutraliser:
    return Neutraliser(controls)


def _brings_block(text: str) -> bool:
    return BLOCK_OPEN in text and strip_block(text) != text


def _with_block(message: dict[str, Any], block: str, part: int) -> dict[str, Any]:
    """The message with a block ahead of its text, which begins in this part where the content is a list."""
    if not block:
        return message
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": block + content}
    parts = list(content or ())
    kind = parts[part].get("type") if part < len(parts) and isinstance(parts[part], dict) else ""
    parts.insert(part, {"type": kind if kind in TEXT_PARTS else "text", "text": block})
    return {**message, "content": parts}


def _plain(text: str) -> str:
    return " ".join(folded(text).split())


def _is_answer(result: RecallResult, conversation: str, since: float) -> bool:
    """Whether this is what was answered to the same message before."""
    return result.role == "assistant" and result.conversation == conversation and result.created_at >= since


def _is_shown(text: str, visible: Sequence[str]) -> bool:
    return any(text == other or (len(text) >= 16 and text in other) for other in visible)
