"""Tokens of the models that answer: what a text costs, and how many fit into the context.

They are counted by a model's own GGUF where that is at hand, or else estimated upwards. A vocabulary is read in the
background the first time a model is asked; until then, and where there is no file, a token is taken to be three bytes,
and whatever is written as a control token of any family counts as one. How long a context is, is what stands behind the
proxy says of the models that it has loaded: it is asked in the background after a model has answered, at most once in a
while, and the given number is assumed until it is known.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.adapters.llama_cpp.trial_load import prove
from membank_llama.core.bounded import keep_newest
from membank_llama.core.control_tokens import COMMON, FORMS
from membank_llama.core.errors import MembankError
from membank_llama.core.types import TokenCounter

from ..asgi import ASGIApp, Message, Scope

logger = logging.getLogger("membank_llama")

BYTES_A_TOKEN = 3
MOST_VOCABULARIES = 8
MOST_OPENING = 4
MOST_NAMES = 256
AGAIN_SECONDS = 60.0
"""How long a model that could not be found or read is not looked for again."""
FRESH_SECONDS = 300.0
LOOK_SECONDS = 30.0
MOST_MODELS = 256
_PS = "/api/ps"

COMMON_CONTROLS: tuple[str | re.Pattern[str], ...] = (*COMMON, *FORMS)
"""What may be a control token of some model."""


@dataclass(frozen=True)
class EstimatedTokenizer:
    """A tokenizer in the place of one that is not at hand."""

    n_ctx: int
    controls: Sequence[str | re.Pattern[str]] = COMMON_CONTROLS

    def count(self, text: str) -> int:
        """Tokens of a text, rather more than fewer."""
        return -(-len(text.encode("utf-8", "replace")) // BYTES_A_TOKEN)

    def is_clean(self, text: str) -> bool:
        """Whether none of the known control tokens is in the text."""
        marks = (mark for mark in self.controls if isinstance(mark, str))
        forms = (form for form in self.controls if isinstance(form, re.Pattern))
        return not (any(mark in text for mark in marks) or any(form.search(text) for form in forms))


class Tokenizers:
    """The tokenizers of the models that were asked last.

    A name is a client's: what cannot be found or read takes no place, and is looked for again after a while.

    Args:
        find: the GGUF of a model's name; None where it is not on this machine.
    """

    def __init__(self, find: Callable[[str], Path | None]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._places: OrderedDict[str, Path] = OrderedDict()
        self._opened: OrderedDict[Path, FileVocabulary] = OrderedDict()
        self._opening: dict[str, threading.Thread] = {}
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._closed = False

    def get(self, model: str, n_ctx: int) -> TokenCounter:
        """What counts tokens for a model with a context of so many."""
        with self._lock:
            path = self._places.get(model)
            exact = None if path is None else self._opened.get(path)
            if exact is not None and path is not None:
                self._opened.move_to_end(path)
                self._places.move_to_end(model)
            elif self._may_open(model):
                thread = threading.Thread(target=self._open, args=(model,), name="membank-vocabulary", daemon=True)
                self._opening[model] = thread
                thread.start()
        return EstimatedTokenizer(n_ctx) if exact is None else exact.with_context(n_ctx)

    def _may_open(self, model: str) -> bool:
        if self._closed or model in self._opening or len(self._opening) >= MOST_OPENING:
            return False
        return time.monotonic() - self._failed.get(model, -AGAIN_SECONDS) >= AGAIN_SECONDS

    def _open(self, model: str) -> None:
        path, exact = None, None
        try:
            path = self._find(model)
            with self._lock:
                exact = None if path is None else self._opened.get(path)
            if path is not None and exact is None:
                prove(path, vocabulary_only=True)
                exact = FileVocabulary(path)
        except (MembankError, ValueError, OSError) as exc:
            logger.warning("tokens of %.200s are estimated: %s", model, exc)
        with self._lock:
            del self._opening[model]
            if path is None or exact is None:
                keep_newest(self._failed, model, time.monotonic(), MOST_NAMES)
            else:
                keep_newest(self._places, model, path, MOST_NAMES)
                # what is let go is freed with the last request that counts by it
                keep_newest(self._opened, path, exact, MOST_VOCABULARIES)

    def close(self) -> None:
        """Wait for those that are being read, and free all."""
        with self._lock:
            self._closed = True
            opening = list(self._opening.values())
        for thread in opening:
            thread.join()
        with self._lock:
            for exact in self._opened.values():
                exact.close()
            self._opened.clear()


class ContextLengths:
    """ContextLengths by model.

    Args:
        backend: asked for `/api/ps`.
        assumed: tokens of a model that nothing is known of.
    """

    def __init__(self, backend: ASGIApp, assumed: int) -> None:
        self._backend = backend
        self._assumed = assumed
        self._known: dict[str, int] = {}
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, model: str) -> int:
        """Tokens of context of a model."""
        return self._known.get(_with_tag(model), self._assumed)

    def known(self, model: str) -> int | None:
        """The same; None where nothing is known of it."""
        return self._known.get(_with_tag(model))

    def answered(self, model: str) -> None:
        """A model has just answered, so that it is loaded now: look, unless that was done of late."""
        now = time.monotonic()
        if self._tasks or now - self._asked.get(model, -FRESH_SECONDS) < FRESH_SECONDS:
            return
        self._asked[model] = now
        if len(self._asked) > MOST_MODELS:
            self._asked.popitem(last=False)
        task = asyncio.ensure_future(self._look())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        parts: list[bytes] = []
        waiting = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if not waiting:
                # what is behind watches for a client that hangs up: this one never does
                await asyncio.Event().wait()
            return waiting.pop()

        async def send(message: Message) -> None:
            parts.append(message.get("body", b""))

        scope: Scope = {
            "type": "http", "method": "GET", "path": _PS, "raw_path": _PS.encode(), "query_string": b"", "headers": [],
        }  # fmt: skip
        try:
            await asyncio.wait_for(self._backend(scope, receive, send), LOOK_SECONDS)
            found = _contexts(json.loads(b"".join(parts)))
            self._known = (self._known if len(self._known) < MOST_MODELS else {}) | found
        except (ValueError, RecursionError, asyncio.TimeoutError):
            logger.debug("%s told no contexts", _PS)


def _contexts(answer: Any) -> dict[str, int]:
    models = answer.get("models") if isinstance(answer, dict) else None
    found = {}
    for model in models if isinstance(models, list) else ():
        length = model.get("context_length") if isinstance(model, Mapping) else None
        if isinstance(length, int) and length > 0:
            found[_with_tag(str(model.get("model") or model.get("name")))] = length
    return found


def _with_tag(model: str) -> str:
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
