"""`RequestHabits`: which requests a client makes for itself, told by what it asks beside them, in any language.

A sub-agent is given as its user's words what a model wrote into the arguments of a tool just before. A title or a
summary is asked for with the words of a turn that has just gone by within a longer text, by a client that brings tools
with every turn of a person and none with this, or by other instructions in the middle of a conversation. None of these
is ever gone on from: a conversation that holds one as an earlier turn is a person's after all.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from membank_llama.core.bounded import keep_newest

from .auxiliary_requests import is_auxiliary
from .client_request import ChatReply, ChatRequest

MOST_CLIENTS = 1024
MOST_KEPT = 16_384
RECENT = 16
"""Turns of one namespace that are looked for in the text of others."""
FRESH_SECONDS = 900.0
MOST_SEARCHED = 64 * 1024
_LEAST_QUOTED, _LEAST_AROUND = 8, 80
"""Characters of a turn that is quoted, and of a text ahead of it."""
_LEAST_ORDER = 16
_LEAST_TOOLS = 3
_DRESS = 400
"""Characters that instructions are told apart by."""
_BILLING = re.compile(r"^x-[a-z-]{1,40}: [^\n]{0,400}\n?", re.MULTILINE)
"""What Claude Code puts at their head, other in every request."""


@dataclass(frozen=True)
class _Dress:
    """What comes with a turn: names of tools, and a mark of the instructions."""

    tools: frozenset[str]
    system: int

    def is_another(self, now: _Dress) -> bool:
        """Whether neither is what it was: instructions are others, and of the tools none is left."""
        return bool(self.tools) and self.system != now.system and self.tools.isdisjoint(now.tools)


@dataclass
class _Client:
    """What one client has asked so far: turns with tools, and whether a chat of it went on without any."""

    tools_at: float = 0.0
    plain: bool = False
    said: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=RECENT))


class RequestHabits:
    """The habits of all clients, by namespace and by what they call themselves. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: OrderedDict[tuple[str, str], _Client] = OrderedDict()
        self._orders: OrderedDict[int, None] = OrderedDict()
        self._aside: OrderedDict[int, None] = OrderedDict()
        self._dress: OrderedDict[int, _Dress] = OrderedDict()

    def is_aside(self, request: ChatRequest, namespace: str, client: str) -> bool:
        """Whether the client asks this for itself; it is known from now on."""
        turns = _user_texts(request)
        if not turns or request.raw:
            return is_auxiliary(request, client)
        with self._lock:
            if any(_key(namespace, text) in self._aside for text in turns[:-1]):
                return False
            aside = is_auxiliary(request, client) or self._stands_out(request, namespace, client, turns)
            if aside:
                keep_newest(self._aside, _key(namespace, turns[-1]), None, MOST_KEPT)
            elif not request.counts:
                self._note(request, namespace, client, turns)
        return aside

    def answered(self, request: ChatRequest, namespace: str, client: str, reply: ChatReply) -> None:
        """A person's turn was answered so."""
        turns = _user_texts(request)
        with self._lock:
            for order in (text for call in reply.calls for text in _texts_in(call)):
                keep_newest(self._orders, _key(namespace, order), None, MOST_KEPT)
            known = self._clients.get((namespace, client))
            if known is not None and turns and reply.text.strip():
                known.said.append((time.monotonic(), _plain(turns[-1]), _plain(reply.text)[:200]))

    def _note(self, request: ChatRequest, namespace: str, client: str, turns: list[str]) -> None:
        known = self._clients.get((namespace, client)) or _Client()
        if len(request.shape.tools) >= _LEAST_TOOLS:
            known.tools_at = time.monotonic()
        elif _is_answered(request):
            known.plain = True
        known.said.append((time.monotonic(), _plain(turns[-1]), ""))
        keep_newest(self._clients, (namespace, client), known, MOST_CLIENTS)
        keep_newest(self._dress, _key(namespace, turns[0]), _dress(request), MOST_KEPT)

    def _stands_out(self, request: ChatRequest, namespace: str, client: str, turns: list[str]) -> bool:
        first = _key(namespace, turns[0])
        worn = self._dress.get(first)
        if first in self._orders and worn is None:
            # a model may also give a tool what a person has said
            return True
        if _is_answered(request):
            return worn is not None and worn.is_another(_dress(request))
        known = self._clients.get((namespace, client))
        if known is None or request.shape.tools:
            return False
        now = time.monotonic()
        agent = not known.plain and now - known.tools_at < FRESH_SECONDS and known.tools_at > 0
        return (agent and bool(request.shape.system)) or _quotes(turns, known, now)


def _quotes(turns: list[str], known: _Client, now: float) -> bool:
    """Whether a text is about turns that have just gone by: a question with its answer, or within a longer text."""
    text = _plain("\n".join(turns)[:MOST_SEARCHED])
    for when, asked, answer in known.said:
        at = text.find(asked) if len(asked) >= _LEAST_QUOTED and now - when < FRESH_SECONDS else -1
        if at < 0 or text == asked:
            continue
        if at >= _LEAST_AROUND or (len(answer) >= _LEAST_QUOTED and answer in text):
            return True
    return False


def _is_answered(request: ChatRequest) -> bool:
    return any(message.get("role") == "assistant" for message in request.said)


def _user_texts(request: ChatRequest) -> list[str]:
    return [text for m in request.said if m.get("role") == "user" and (text := str(m.get("content"))).strip()]


def _dress(request: ChatRequest) -> _Dress:
    system = _BILLING.sub("", request.shape.system[:_DRESS])
    return _Dress(frozenset(request.shape.tools), _key(system))


def _texts_in(call: str) -> Iterator[str]:
    """What the arguments of a call say."""
    try:
        arguments = json.loads(call)
    except (ValueError, RecursionError):
        return
    values: Any = arguments.values() if isinstance(arguments, Mapping) else ()
    yield from (value for value in values if isinstance(value, str) and len(value) >= _LEAST_ORDER)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _key(*parts: str) -> int:
    """Tells texts apart within this process."""
    return hash(tuple(part.strip() for part in parts))
