"""Tokens of the models that answer: what a text costs, and how many fit into the context.

They are counted by a model's own GGUF where that is at hand, or by the server that has the model, or else estimated
upwards. A vocabulary is read in the background the first time a model is asked, and looked for again after a while,
since another model may have the name by then; until it is there a token is taken to be three bytes, and whatever is
written as a control token of any family counts as one. How long a context is, is what stands behind the proxy says of
the models that it has loaded: it is asked in the background after a model has answered, at most once in a while, and
it is not known until then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.adapters.llama_cpp.trial_load import prove
from membank_llama.core.bounded import keep_newest
from membank_llama.core.control_tokens import COMMON, FORMS
from membank_llama.core.errors import MembankError
from membank_llama.core.types import TokenCounter

from ..asgi import ASGIApp, Message, Scope
from .remote_vocabulary import RemoteVocabulary
from .upstream_server import UpstreamServer, contexts_of, with_tag

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


@dataclass(frozen=True)
class _Place:
    """Where a model's vocabulary comes from, and when that was looked up."""

    of: Path | RemoteVocabulary
    since: float


class Tokenizers:
    """The tokenizers of the models that were asked last.

    A name is a client's: what cannot be found or read takes no place, and is looked for again after a while.

    Args:
        find: the GGUF of a model's name, or what else counts its tokens; None where neither is at hand.
    """

    def __init__(self, find: Callable[[str], Path | RemoteVocabulary | None]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._opened: OrderedDict[Path, FileVocabulary] = OrderedDict()
        self._opening: dict[str, threading.Thread] = {}
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._closed = False

    def get(self, model: str, n_ctx: int) -> TokenCounter:
        """What counts tokens for a model with a context of so many."""
        with self._lock:
            exact, since = self._exact(model)
            if (exact is None or time.monotonic() - since >= FRESH_SECONDS) and self._may_open(model):
                thread = threading.Thread(target=self._open, args=(model,), name="membank-vocabulary", daemon=True)
                self._opening[model] = thread
                thread.start()
        if isinstance(exact, RemoteVocabulary):
            return exact.with_context(n_ctx, EstimatedTokenizer(n_ctx))
        return EstimatedTokenizer(n_ctx) if exact is None else exact.with_context(n_ctx)

    def _exact(self, model: str) -> tuple[FileVocabulary | RemoteVocabulary | None, float]:
        place = self._places.get(model)
        if place is None:
            return None, 0.0
        self._places.move_to_end(model)
        if isinstance(place.of, RemoteVocabulary):
            return place.of, place.since
        if place.of in self._opened:
            self._opened.move_to_end(place.of)
        return self._opened.get(place.of), place.since

    def _may_open(self, model: str) -> bool:
        if self._closed or model in self._opening or len(self._opening) >= MOST_OPENING:
            return False
        return time.monotonic() - self._failed.get(model, -AGAIN_SECONDS) >= AGAIN_SECONDS

    def _open(self, model: str) -> None:
        found, exact = None, None
        try:
            found = self._find(model)
            with self._lock:
                exact = self._opened.get(found) if isinstance(found, Path) else None
            if isinstance(found, Path) and exact is None:
                prove(found, vocabulary_only=True)
                exact = FileVocabulary(found)
        except (MembankError, ValueError, OSError) as exc:
            found = None
            logger.warning("tokens of %.200s are estimated: %s", model, exc)
        with self._lock:
            del self._opening[model]
            if found is None:
                keep_newest(self._failed, model, time.monotonic(), MOST_NAMES)
                return
            keep_newest(self._places, model, _Place(found, time.monotonic()), MOST_NAMES)
            if isinstance(found, Path) and exact is not None:
                # what is let go is freed with the last request that counts by it
                keep_newest(self._opened, found, exact, MOST_VOCABULARIES)

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
    """Contexts by model.

    Args:
        backend: asked for what it has loaded: an `Upstream` by its server, an engine by `/api/ps`.
    """

    def __init__(self, backend: ASGIApp) -> None:
        self._backend = backend
        self._server: UpstreamServer | None = getattr(backend, "server", None)
        self._known: dict[str, int] = {}
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, model: str) -> int | None:
        """Tokens of context of a model; None where that is not known."""
        return self._known.get(with_tag(model)) if self._server is None else self._server.context_of(model)

    def answered(self, model: str) -> None:
        """A model has just answered, so that it is loaded now: look, unless that was done of late."""
        now = time.monotonic()
        fresh = FRESH_SECONDS if self._server is None or self._server.is_known else AGAIN_SECONDS
        if self._tasks or now - self._asked.get(model, -fresh) < fresh:
            return
        self._asked[model] = now
        if len(self._asked) > MOST_MODELS:
            self._asked.popitem(last=False)
        task = asyncio.ensure_future(self._look(model))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self, model: str) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._server.look, model)
            return
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
            found = contexts_of(json.loads(b"".join(parts)))
            self._known = (self._known if len(self._known) < MOST_MODELS else {}) | found
        except (ValueError, RecursionError, asyncio.TimeoutError):
            logger.debug("%s told no contexts", _PS)
