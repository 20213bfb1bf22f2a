"""`ProxyMemory`: one bank for all that goes by, asked off the event loop and never for long.

A recall that takes longer than the deadline, or fails, leaves the request as it was; where several are stuck, the next
ones are not even begun. What it finds too late is not kept: the model never saw it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any

from membank_llama.memory.bank import MemBank
from membank_llama.memory.conversation_keys import without_echo
from membank_llama.memory.prompt_injection import LastRecall, MemoryOptions, PromptInjector
from membank_llama.memory.turn_writer import NewTurns
from membank_llama.recall.result_json import scores_of

from ..asgi import outward
from .client_request import ChatReply, ChatRequest
from .conversation_tracker import ConversationTracker, RecognisedConversation
from .ingest_worker import IngestWorker
from .priority_adapter import PriorityAdapter
from .tokenizers import Tokenizers

logger = logging.getLogger("membank_llama")

DEADLINE_SECONDS = 0.3
WORKERS = 4
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
        deadline: seconds that a recall may take.
        context: tokens of context, where neither a request nor `context_of` says.
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
        self.context_of: Callable[[str], int] = lambda model: context
        self._options = options or MemoryOptions()
        self._injector = PromptInjector(bank, REPLAYED)
        self.conversations = ConversationTracker(bank.store.registry)
        self._tokenizers = Tokenizers(find_model)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="membank-recall")
        self._lock = threading.Lock()
        self._running = 0
        self._busy = threading.Event()
        self._overdue = 0
        self._last: OrderedDict[str, deque[dict[str, Any]]] = OrderedDict()
        adapter = bank.adapter if isinstance(bank.adapter, PriorityAdapter) else None
        if adapter is not None:
            adapter.is_busy = self._busy.is_set
        self.ingest_worker = IngestWorker(
            bank,
            self.conversations,
            is_busy=self._busy.is_set,
            background=nullcontext if adapter is None else adapter.in_background,
        )

    # -- before a call

    async def recall(self, request: ChatRequest, namespace: str, zone: tzinfo | None = None) -> InjectedRequest:
        """The request with memories in it, or as it was where there is none in time; `zone`: whose days are meant."""
        start = time.perf_counter()
        if self._overdue >= WORKERS:
            logger.warning("no memory for this call: %d recalls are stuck", self._overdue)
            return InjectedRequest("degraded", namespace)
        late = threading.Event()
        running = asyncio.get_running_loop().run_in_executor(self._pool, self._recall, request, namespace, zone, late)
        try:
            injected = await asyncio.wait_for(asyncio.shield(running), self.deadline)
        except asyncio.TimeoutError:
            late.set()
            with self._lock:
                self._overdue += 1
            running.add_done_callback(self._came_late)
            logger.warning("no memory for this call: recall takes longer than %g ms", 1000 * self.deadline)
            injected = InjectedRequest("degraded", namespace)
        except Exception:
            logger.exception("no memory for this call")
            injected = InjectedRequest("degraded", namespace)
        return replace(injected, milliseconds=1000 * (time.perf_counter() - start))

    def _came_late(self, running: asyncio.Future[InjectedRequest]) -> None:
        with self._lock:
            self._overdue -= 1
        if not running.cancelled() and running.exception() is not None:
            logger.warning("a late recall failed: %s", running.exception())

    def _recall(
        self, request: ChatRequest, namespace: str, zone: tzinfo | None, late: threading.Event
    ) -> InjectedRequest:
        with self._lock:
            self._running += 1
            self._busy.set()
        try:
            return self._injected(request, namespace, zone, late)
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._busy.clear()

    def _injected(
        self, request: ChatRequest, namespace: str, zone: tzinfo | None, late: threading.Event
    ) -> InjectedRequest:
        options = replace(self._options, namespace=namespace, zone=zone or self._options.zone)
        tokens = self._tokenizers.get(request.model, request.n_ctx or self.context_of(request.model))
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

    # -- afterwards

    def learn(self, request: ChatRequest, injected: InjectedRequest, reply: ChatReply) -> int:
        """Remember what was asked and answered; returns how many turns are new."""
        namespace, known = injected.namespace, injected.recognised
        if known is None:
            # recall never came back: the conversation is looked up now
            known = self.conversations.recognise(namespace, request.said, request.context)
        # what is said beside a call of a tool is no answer yet
        turns = tuple(turn for turn in known.fresh if not (request.raw or request.said[turn.place].get("tool_calls")))
        said = "" if reply.calls else without_echo(reply.text)
        if said.strip():
            turns = (*turns, known.keys.reply(said))
        if not turns:
            return 0
        key = None if reply.context is None else self.conversations.context_key(namespace, reply.context)
        cut = bool(said.strip()) and not reply.whole
        again = () if known.again is None or request.raw else (known.again,)
        taken = self.ingest_worker.learn(NewTurns(namespace, known.conversation, turns, cut, key, again))
        return len(turns) if taken else 0

    def learn_all(self, request: ChatRequest, namespace: str, reply: ChatReply) -> int:
        """Remember whatever of a conversation is new; returns how many turns are."""
        return self.learn(request, InjectedRequest("none", namespace), reply)

    # -- looking

    def last_recalls(self, namespace: str) -> list[dict[str, Any]]:
        """The newest recalls of one namespace, newest first."""
        with self._lock:
            return list(reversed(self._last.get(namespace, ())))

    def _note(self, namespace: str, last: LastRecall, conversation: str) -> None:
        skipped = {str(memory_id): reason for memory_id, reason in last.skipped.items()}
        record = {
            "query": last.query,
            "when": time.time(),
            "conversation": conversation,
            "injected": list(last.injected),
            "skipped": skipped,
            "tokens": last.tokens,
            "recall_ms": round(last.recall_ms, 2),
            "error": None if last.error is None else outward(last.error),
            "memories": _rows(last),
        }
        with self._lock:
            self._last.setdefault(namespace, deque(maxlen=LAST_RECALLS)).append(record)
            self._last.move_to_end(namespace)
            while len(self._last) > MOST_NAMESPACES:
                self._last.popitem(last=False)

    def close(self) -> None:
        """Store what is waiting and end all threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.ingest_worker.close()
        self._tokenizers.close()


def _rows(last: LastRecall) -> Sequence[dict[str, Any]]:
    return [
        {
            "id": scores["memory_id"],
            "cosine": round(scores["final_score"], 4),
            "fused": round(scores["fused_score"], 4),
            **scores,
        }
        for scores in scores_of(last.results)
    ]
