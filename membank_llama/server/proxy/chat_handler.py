"""`ChatHandler`: one request that may have a memory: recall, pass on, watch what comes back, learn.

The bytes that come back reach the client as they come and unchanged; they are read as they go by. What cannot be read
goes on as it came.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from ..asgi import KEPT_SINCE, NAMESPACE, ASGIApp, Message, Receive, Scope, Send, header, with_body
from .auxiliary_requests import is_marked
from .chat_requests import open_request
from .client_request import ChatReply, ChatRequest
from .metrics import Metrics
from .namespace_auth import zone_of
from .proxy_memory import InjectedRequest, ProxyMemory
from .reply_parts import PromptTokens
from .reply_reader import ReplyReader
from .request_habits import RequestHabits
from .tokenizers import ContextLengths
from .upstream_slots import SlotTurn, UpstreamSlots

HELD_SECONDS, HELD_CHARACTERS = 0.05, 4096
"""How long the last byte of a reply waits until it is stored, and up to which length: what takes longer is waited for
when its namespace is asked next."""


class ChatHandler:
    """Carries requests through a memory to the app behind it.

    Args:
        slots: of the server behind, where what it has read is kept in files.
    """

    def __init__(
        self, backend: ASGIApp, memory: ProxyMemory, metrics: Metrics, slots: UpstreamSlots | None = None
    ) -> None:
        self._backend = backend
        self._memory = memory
        self._metrics = metrics
        self._habits = RequestHabits()
        self._slots = slots
        self._contexts = ContextLengths(backend)
        self._kv_store = getattr(backend, "kv_store", None)
        memory.context_of = self._contexts.of
        memory.context_follows = bool(getattr(backend, "context_follows", False))

    async def close(self) -> None:
        """End what is under way."""
        await self._contexts.close()
        if self._slots is not None:
            await self._slots.close()

    async def handle(
        self, scope: Scope, receive: Receive, send: Send, body: bytes, parsed: dict[str, Any] | None, namespace: str
    ) -> None:
        """Answer one request.

        Args:
            body: as it goes on where no memory is put into it.
            parsed: the same; None where it is no JSON object.
        """
        scope[NAMESPACE] = namespace
        with nullcontext() if self._slots is None else self._slots.under_way():
            await self._handle(scope, receive, send, body, parsed, namespace)
        if parsed is not None and isinstance(parsed.get("model"), str):
            self._contexts.answered(parsed["model"])

    async def _handle(
        self, scope: Scope, receive: Receive, send: Send, body: bytes, parsed: dict[str, Any] | None, namespace: str
    ) -> None:
        request = None
        if parsed is not None and (header(scope, "x-membank") or "").strip().lower() != "off":
            request = open_request(scope["path"], parsed)
        if request is None:
            await self._pass_on(scope, receive, send, body, "off")
        elif is_marked(scope) or self._habits.is_aside(request, namespace, header(scope, "user-agent") or ""):
            await self._pass_on(scope, receive, send, body, "none")
        else:
            await self._with_memory(scope, receive, send, body, request, namespace)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, body: bytes, state: str) -> None:
        marked = _marking(send, {b"x-membank": state.encode()})
        await self._backend(*with_body(scope, receive, body), marked)

    async def _with_memory(
        self, scope: Scope, receive: Receive, send: Send, body: bytes, request: ChatRequest, namespace: str
    ) -> None:
        if self._kv_store is not None:
            # ahead of the recall: what is forgotten behind it may stand in the prompt
            scope[KEPT_SINCE] = await asyncio.to_thread(self._kv_store.begin)
        turn = None if self._slots is None or request.counts else self._slots.begin(namespace)
        injected = await self._memory.recall(request, namespace, zone_of(scope))
        self._metrics.remembered.labels(injected.state).inc()
        self._metrics.recall_seconds.observe(injected.milliseconds / 1000)
        self._metrics.injected.inc(injected.tokens)
        asked = None if injected.messages is None else request.place(injected.messages)
        if self._slots is not None and turn is not None:
            given = asked or request.place(request.messages)
            known = injected.recognised
            slot = await self._slots.before(turn, None if known is None else known.conversation, given)
            asked = asked if slot is None else {**given, "id_slot": slot}
        if asked is not None:
            body = json.dumps(asked, separators=(",", ":")).encode()
        if request.counts:
            await self._pass_on(scope, receive, send, body, injected.state)
        else:
            await self._watched(scope, receive, send, body, request, injected, turn)

    async def _watched(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        body: bytes,
        request: ChatRequest,
        injected: InjectedRequest,
        turn: SlotTurn | None,
    ) -> None:
        marks = {
            b"x-membank": injected.state.encode(),
            b"x-membank-memories": str(injected.memories).encode(),
            b"x-membank-recall-ms": f"{injected.milliseconds:.1f}".encode(),
        }

        client = header(scope, "user-agent") or ""

        def learn(reply: ChatReply, ended: bool) -> Awaitable[None] | None:
            self._habits.answered(request, injected.namespace, client, reply)
            if ended or reply.text.strip():
                self._metrics.turns.inc(self._memory.learn(request, injected, reply))
            if ended and self._slots is not None and turn is not None:
                self._slots.answered(turn, watch.tokens)
            if ended and len(reply.text) <= HELD_CHARACTERS:
                return self._memory.settled(injected.namespace, HELD_SECONDS)
            return None

        watch = _ReplyWatch(scope["path"], learn)
        # compressed bytes could not be read on their way
        inner = with_body(scope, receive, body, without=(b"accept-encoding",))
        try:
            await self._backend(*inner, _marking(send, marks, watch.see))
        finally:
            # a client that hangs up ends the above early: what was said so far is kept
            watch.finish(ended=False)


class _ReplyWatch:
    """Reads a response as it goes by; hands the reply over before its last bytes go out, or when nothing more comes.

    The client can ask again as soon as it has them: by then its turns are known, and as a rule stored.

    Args:
        done: takes the reply and whether it came to its end; what it gives is waited for before the last byte goes
            out.
    """

    def __init__(self, path: str, done: Callable[[ChatReply, bool], Awaitable[None] | None]) -> None:
        self._done: Callable[[ChatReply, bool], Awaitable[None] | None] | None = done
        self._reader = ReplyReader(path)
        self._size = 0
        self._length: int | None = None

    @property
    def tokens(self) -> PromptTokens | None:
        """What the upstream says that it has read."""
        return self._reader.tokens

    def see(self, message: Message) -> Awaitable[None] | None:
        """Look at a message on its way to the client; what is to be waited for before its last byte goes out."""
        if message["type"] == "http.response.start":
            if message["status"] != 200:
                self._done = None
            length = next((v for k, v in message.get("headers", ()) if k.lower() == b"content-length"), b"")
            self._length = int(length) if length.isdigit() else None
            return None
        if self._done is None:
            return None
        part = message.get("body", b"")
        self._size += len(part)
        self._reader.feed(part)
        whole = self._length is not None and self._size >= self._length
        if whole or self._reader.over or not message.get("more_body", False):
            return self.finish(ended=True)
        return None

    def finish(self, *, ended: bool) -> Awaitable[None] | None:
        """Hand over what there is, the first time."""
        done, self._done = self._done, None
        return done(self._reader.reply(), ended) if done is not None and self._size else None


def _marking(
    send: Send, marks: dict[bytes, bytes], seen: Callable[[Message], Awaitable[None] | None] | None = None
) -> Send:
    """`send` with more headers, and with somebody who looks on and may hold the end of a message back for a moment."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *marks.items()]}
        if seen is not None and (storing := seen(message)) is not None:
            # all but the last byte, without which no client takes the reply for whole
            body = message.get("body", b"")
            if len(body) > 1:
                await send({**message, "body": body[:-1], "more_body": True})
            message = {**message, "body": body[-1:]}
            await storing
        await send(message)

    return sending
