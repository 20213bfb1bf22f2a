"""`ProxyMemory`: one bank for all that goes by, asked off the event loop and never for long.

What was just said in a namespace is stored before it is asked again: a recall waits for that, a deadline at most. A
recall that takes longer than the deadline, or fails, leaves the request as it was; how long it may stand in line is
bounded too (recall_queue.py). What it finds too late is not kept: the model never saw it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Any

from membank_llama.memory.bank import MemBank
from membank_llama.memory.bank_undo import is_hidden
from membank_llama.memory.conversation_keys import newest_user, text_of, without_echo
from membank_llama.memory.prompt_block import strip_block
from membank_llama.memory.prompt_injection import (
    MESSAGE_OVERHEAD,
    QUERY_CHARACTERS,
    REPLY_RESERVE,
    LastRecall,
    MemoryOptions,
    PromptInjector,
)
from membank_llama.memory.text_splitting import clean_text
from membank_llama.memory.turn_writer import NewTurns
from membank_llama.recall.question_encoder import encoded_as

from .client_request import ChatReply, ChatRequest
from .conversation_tracker import ConversationTracker, RecognisedConversation
from .ingest_worker import IngestWorker
from .priority_adapter import PriorityAdapter
from .recall_fields import recall_fields
from .recall_queue import LateError, RecallQueue
from .tokenizers import BYTES_A_TOKEN, Tokenizers

logger = logging.getLogger("membank_llama")

DEADLINE_SECONDS = 0.3
DEFAULT_CONTEXT = 4096
REPLAYED = 16_384
LAST_RECALLS = 20
MOST_NAMESPACES = 128
"""Namespaces whose last recalls are kept to be looked at."""


@dataclass(frozen=True)
class InjectedRequest:
    """A request after recall.

    Args:
        state: ``on``: memories are in it; ``none``: nothing belonged to it; ``degraded``: memory failed or was late.
        messages: with the memories; None to leave the request as it was.
    """

    state: str
    namespace: str
    messages: list[dict[str, Any]] | None = None
    recognised: RecognisedConversation | None = None
    memories: int = 0
    tokens: int = 0
    milliseconds: float = 0.0


class ProxyMemory:
    """The memory of everyone who comes by.

    Args:
        bank: closed by whoever opened it, after `close()`.
        find_model: the GGUF of a model's name, for its tokenizer; None where it is not at hand.
        deadline: seconds that a recall may take, once it is begun; see recall_queue.py.
        context: tokens of context, where neither a request nor `context_of` says; more, where a request holds more.
        options: how much is injected; the namespace is the request's.
    """

    def __init__(
        self,
        bank: MemBank,
        *,
        find_model: Callable[[str], Path | None] = lambda name: None,
        deadline: float = DEADLINE_SECONDS,
        context: int = DEFAULT_CONTEXT,
        options: MemoryOptions | None = None,
    ) -> None:
        self.bank = bank
        self.deadline = deadline
        self.context = context
        self.context_of: Callable[[str], int | None] = lambda model: None
        """Tokens of context of a model; None where that is not known."""
        self.context_follows = False
        """Whether a context grows with what is asked."""
        self._options = options or MemoryOptions()
        self._injector = PromptInjector(bank, REPLAYED)
        self.conversations = ConversationTracker(bank.store.registry)
        self._tokenizers = Tokenizers(find_model)
        self.recalls = RecallQueue(self._encode_ahead)
        self._lock = threading.Lock()
        self._last: OrderedDict[str, deque[tuple[LastRecall, str, float]]] = OrderedDict()
        bank.store.on_forget.append(self._forget_recalls)
        self._adapter = bank.adapter if isinstance(bank.adapter, PriorityAdapter) else None
        self.ingest_worker = IngestWorker(
            bank,
            self.conversations,
            is_busy=lambda: self.recalls.is_busy,
            background=nullcontext if self._adapter is None else self._adapter.in_background,
        )
        if self._adapter is not None:
            self._adapter.is_busy = lambda: self.recalls.is_busy and not self.ingest_worker.is_awaited

    # -- before a call

    async def recall(self, request: ChatRequest, namespace: str, zone: tzinfo | None = None) -> InjectedRequest:
        """The request with memories in it, or as it was where there is none in time; `zone`: whose days are meant."""
        start = time.perf_counter()
        try:
            await self.settled(namespace, self.deadline)
            work = partial(self._injected, request, namespace, zone)
            injected = await self.recalls.run(work, self.deadline, self._asked(request))
        except LateError as exc:
            logger.warning("no memory for this call: %s", exc)
            injected = InjectedRequest("degraded", namespace)
        except Exception:
            logger.exception("no memory for this call")
            injected = InjectedRequest("degraded", namespace)
        return replace(injected, milliseconds=1000 * (time.perf_counter() - start))

    async def settled(self, namespace: str, seconds: float) -> None:
        """Wait until what was said in a namespace is stored or was tried, and no longer than this."""
        storing = self.ingest_worker.settling(namespace)
        if storing is not None:
            await asyncio.wait({asyncio.wrap_future(storing)}, timeout=seconds)

    def _asked(self, request: ChatRequest) -> str:
        """What will be encoded to answer a request, where others wait to be encoded with it."""
        if request.raw or self._adapter is None or not self.recalls.is_busy:
            return ""
        place = newest_user(request.said)
        text = "" if place is None else strip_block(str(request.said[place].get("content")))
        return clean_text(text[:QUERY_CHARACTERS])

    def _encode_ahead(self, texts: Sequence[str]) -> None:
        # that of now: a bank may have been moved to another model since
        adapter = self.bank.adapter
        if isinstance(adapter, PriorityAdapter):
            adapter.encode_ahead([encoded_as(text) for text in texts if text.strip()])

    def _injected(
        self, request: ChatRequest, namespace: str, zone: tzinfo | None, late: threading.Event
    ) -> InjectedRequest:
        options = replace(self._options, namespace=namespace, zone=zone or self._options.zone)
        tokens = self._tokenizers.get(request.model, self._context(request))
        recognised = self.conversations.recognise(namespace, request.said, request.context)
        if request.raw:
            prompt = str(request.messages[0]["content"])
            at, block, last = self._injector.prompt(prompt, tokens, options, request.max_tokens)
            told = [{**request.messages[0], "content": prompt[:at] + block + prompt[at:]}]
        else:
            told, last = self._injector.messages(
                request.messages,
                tokens,
                options,
                recognised.conversation,
                said=request.said,
                keys=recognised.keys,
                beside=request.shape.characters,
                max_tokens=request.max_tokens,
                late=late,
            )
        if last is None:
            last = LastRecall("")
        else:
            self._note(namespace, last, recognised.conversation)
        if last.error is not None:
            return InjectedRequest("degraded", namespace, recognised=recognised)
        return InjectedRequest(
            "on" if last.injected else "none",
            namespace,
            messages=told if told != request.messages else None,
            recognised=recognised,
            memories=len(last.injected),
            tokens=last.tokens,
        )

    def _context(self, request: ChatRequest) -> int:
        """Tokens of context that a request is answered with."""
        if request.n_ctx is not None:
            return request.n_ctx
        known = self.context_of(request.model)
        if known is not None and not self.context_follows:
            return known
        characters = request.shape.characters + sum(len(text_of(m.get("content"))) for m in request.messages)
        held = characters // BYTES_A_TOKEN + MESSAGE_OVERHEAD * len(request.messages) + 2 * REPLY_RESERVE
        return max(known or self.context, 1 << (held - 1).bit_length())

    # -- afterwards

    def learn(self, request: ChatRequest, injected: InjectedRequest, reply: ChatReply) -> int:
        """Remember what was asked and answered; returns how many turns are new."""
        namespace, known = injected.namespace, injected.recognised
        if known is None:
            # recall never came back: the conversation is looked up now
            known = self.conversations.recognise(namespace, request.said, request.context)
        # what is said beside a call of a tool is no answer yet
        turns = tuple(turn for turn in known.fresh if not request.said[turn.place].get("tool_calls"))
        said = without_echo(reply.text) if _answers_somebody(request, reply) else ""
        if said.strip():
            turns = (*turns, known.keys.reply(said))
        if not turns:
            return 0
        key = None if reply.context is None else self.conversations.context_key(namespace, reply.context)
        cut = bool(said.strip()) and not reply.whole
        again = () if known.again is None else (known.again,)
        taken = self.ingest_worker.learn(NewTurns(namespace, known.conversation, turns, cut, key, again))
        return len(turns) if taken else 0

    def learn_all(self, request: ChatRequest, namespace: str, reply: ChatReply) -> int:
        """Remember whatever of a conversation is new; returns how many turns are."""
        return self.learn(request, InjectedRequest("none", namespace), reply)

    # -- looking

    def last_recalls(self, namespace: str) -> list[dict[str, Any]]:
        """The newest recalls of one namespace, newest first; none that said what is forgotten."""
        going = self._going(namespace)
        with self._lock:
            noted = [one for one in reversed(self._last.get(namespace, ())) if not _says(one[0], going)]
        told = {memory_id for last, _, _ in noted for memory_id in last.injected}
        there = {one.id for one in self.bank.store.registry.get(told).values() if not is_hidden(one)}
        return [recall_fields(*one, there) for one in noted]

    def _going(self, namespace: str) -> list[str]:
        """What is forgotten and can be brought back yet."""
        changes = [change for change in self.bank.changes(namespace) if change.until is not None]
        found = self.bank.store.registry.get(memory_id for change in changes for memory_id in change.ids)
        return [one.text for one in found.values() if is_hidden(one)]

    def _forget_recalls(self, texts: Mapping[str, Sequence[str]]) -> None:
        """Keep no recall whose question said what is forgotten."""
        with self._lock:
            for namespace in texts.keys() & self._last.keys():
                kept = [one for one in self._last[namespace] if not _says(one[0], texts[namespace])]
                self._last[namespace] = deque(kept, maxlen=LAST_RECALLS)

    def _note(self, namespace: str, last: LastRecall, conversation: str) -> None:
        with self._lock:
            self._last.setdefault(namespace, deque(maxlen=LAST_RECALLS)).append((last, conversation, time.time()))
            self._last.move_to_end(namespace)
            while len(self._last) > MOST_NAMESPACES:
                self._last.popitem(last=False)

    def close(self) -> None:
        """Store what is waiting and end all threads."""
        self.recalls.close()
        self.ingest_worker.close()
        self._tokenizers.close()


def _says(last: LastRecall, texts: Sequence[str]) -> bool:
    """Whether a question said one of these."""
    return any(text in last.query or (last.query and last.query in text) for text in texts)


def _answers_somebody(request: ChatRequest, reply: ChatReply) -> bool:
    """Whether a reply is one to what a person said, and not to a client, or the call of a tool."""
    roles = (message.get("role") for message in reversed(request.said))
    return (
        not reply.calls and next((role for role in roles if role in ("user", "tool", "assistant")), "") != "assistant"
    )
