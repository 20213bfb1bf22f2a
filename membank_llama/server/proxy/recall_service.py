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
from membank_llama.memory.prompt_injection import LastRecall, MemoryOptions, Reminder, without_echo
from membank_llama.recall.result_json import result_scores

from ..asgi import outward
from .api_formats import Asked, Reply
from .conversation_tracker import Conversations, Recognised
from .ingest_worker import Learner, Lesson
from .priority_adapter import PoliteAdapter
from .tokenizers import Vocabularies

logger = logging.getLogger("membank_llama")

DEADLINE_SECONDS = 0.3
WORKERS = 4
DEFAULT_CONTEXT = 4096
REPLAYED = 16_384
LAST_RECALLS = 20
MOST_NAMESPACES = 128
"""Namespaces whose last recalls are kept to be looked at."""


@dataclass(frozen=True)
class Reminded:
    """A request after recall.

    Args:
        state: ``on``: memories are in it; ``none``: nothing belonged to it; ``degraded``: memory failed or was late.
        messages: with the memories; None to leave the request as it was.
    """

    state: str
    namespace: str
    messages: list[dict[str, Any]] | None = None
    recognised: Recognised | None = None
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
        self._reminder = Reminder(bank, REPLAYED)
        self.conversations = Conversations(bank.store.registry)
        self._vocabularies = Vocabularies(find_model)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="membank-recall")
        self._lock = threading.Lock()
        self._running = 0
        self._overdue = 0
        self._last: OrderedDict[str, deque[dict[str, Any]]] = OrderedDict()
        polite = bank.adapter if isinstance(bank.adapter, PoliteAdapter) else None
        if polite is not None:
            polite.is_busy = lambda: self._running > 0
        self.learner = Learner(
            bank,
            self.conversations,
            is_busy=lambda: self._running > 0,
            background=nullcontext if polite is None else polite.in_background,
        )

    async def remind(self, asked: Asked, namespace: str, zone: tzinfo | None = None) -> Reminded:
        """The request with memories in it, or as it was where there is none in time; `zone`: whose days are meant."""
        start = time.perf_counter()
        if self._overdue >= WORKERS:
            logger.warning("no memory for this call: %d recalls are stuck", self._overdue)
            return Reminded("degraded", namespace)
        late = threading.Event()
        running = asyncio.get_running_loop().run_in_executor(self._pool, self._recall, asked, namespace, zone, late)
        try:
            reminded = await asyncio.wait_for(asyncio.shield(running), self.deadline)
        except asyncio.TimeoutError:
            late.set()
            with self._lock:
                self._overdue += 1
            running.add_done_callback(self._came_late)
            logger.warning("no memory for this call: recall takes longer than %g ms", 1000 * self.deadline)
            reminded = Reminded("degraded", namespace)
        except Exception:
            logger.exception("no memory for this call")
            reminded = Reminded("degraded", namespace)
        return replace(reminded, milliseconds=1000 * (time.perf_counter() - start))

    def _came_late(self, running: asyncio.Future[Reminded]) -> None:
        with self._lock:
            self._overdue -= 1
        if not running.cancelled() and running.exception() is not None:
            logger.warning("a late recall failed: %s", running.exception())

    def _recall(self, asked: Asked, namespace: str, zone: tzinfo | None, late: threading.Event) -> Reminded:
        with self._lock:
            self._running += 1
        try:
            return self._reminded(asked, namespace, zone, late)
        finally:
            with self._lock:
                self._running -= 1

    def _reminded(self, asked: Asked, namespace: str, zone: tzinfo | None, late: threading.Event) -> Reminded:
        options = replace(self._options, namespace=namespace, zone=zone or self._options.zone)
        tokens = self._vocabularies.get(asked.model, asked.n_ctx or self.context_of(asked.model))
        recognised = self.conversations.recognise(namespace, asked.messages, asked.context)
        if asked.raw:
            prompt = str(asked.messages[0]["content"])
            at, block, last = self._reminder.prompt(prompt, tokens, options, asked.max_tokens)
            told = [{**asked.messages[0], "content": prompt[:at] + block + prompt[at:]}]
        else:
            told, last = self._reminder.messages(
                asked.messages,
                tokens,
                options,
                recognised.conversation,
                max_tokens=asked.max_tokens,
                wanted=lambda: not late.is_set(),
            )
        if last is not None:
            self._remember_recall(namespace, last, recognised.conversation)
        if last is not None and last.error is not None:
            return Reminded("degraded", namespace, recognised=recognised)
        changed = told != asked.messages
        count = len(last.injected) if last is not None else 0
        state = "on" if count else "none"
        return Reminded(
            state, namespace, told if changed else None, recognised, count, last.tokens if last is not None else 0
        )

    # -- afterwards

    def learn(self, asked: Asked, reminded: Reminded, reply: Reply) -> int:
        """Remember what was asked and answered; returns how many turns are new."""
        recognised = reminded.recognised
        if recognised is None:
            # recall never came back: the conversation is looked up now
            recognised = self.conversations.recognise(reminded.namespace, asked.messages, asked.context)
        turns = recognised.fresh
        if asked.raw:
            turns = ()
        said = without_echo(reply.text)
        if said.strip():
            turns = (*turns, self.conversations.reply(recognised, said))
        if not turns:
            return 0
        key = None if reply.context is None else self.conversations.context_key(reminded.namespace, reply.context)
        cut = bool(said.strip()) and not reply.whole
        taken = self.learner.learn(Lesson(reminded.namespace, recognised.conversation, turns, cut, key))
        return len(turns) if taken else 0

    def learn_all(self, asked: Asked, namespace: str, reply: Reply) -> int:
        """Remember whatever of a conversation is new; returns how many turns are."""
        return self.learn(asked, Reminded("none", namespace), reply)

    # -- looking

    def last_recalls(self, namespace: str) -> list[dict[str, Any]]:
        """The newest recalls of one namespace, newest first."""
        with self._lock:
            return list(reversed(self._last.get(namespace, ())))

    def _remember_recall(self, namespace: str, last: LastRecall, conversation: str) -> None:
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
        self.learner.close()
        self._vocabularies.close()


def _rows(last: LastRecall) -> Sequence[dict[str, Any]]:
    return [
        {
            "id": result.memory_id,
            "cosine": round(result.final_score, 4),
            "fused": round(result.fused_score, 4),
            **result_scores(result),
        }
        for result in last.results
    ]
