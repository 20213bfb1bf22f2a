"""The way of one request that may have a memory: recall, pass on, watch what comes back, learn.

The bytes that come back reach the client as they come and unchanged; they are read as they go by. What
this cannot read goes on as it came.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from ..asgi import ASGIApp, Message, Receive, Scope, Send, for_body, header, replayed
from .api_formats import Asked, Reply, open_request
from .auxiliary_calls import is_side_call
from .metrics import Metrics
from .namespace_auth import zone_of
from .recall_service import ProxyMemory, Reminded
from .reply_reader import ReplyReader


class Way:
    """Carries requests through a memory to the app behind it."""

    def __init__(self, behind: ASGIApp, memory: ProxyMemory, metrics: Metrics) -> None:
        self._behind = behind
        self._memory = memory
        self._metrics = metrics

    async def take(
        self, scope: Scope, receive: Receive, send: Send, body: bytes, parsed: dict[str, Any] | None, namespace: str
    ) -> None:
        """Answer one request.

        Args:
            body: as it goes on where no memory is put into it.
            parsed: the same; None where it is no JSON object.
        """
        path = scope["path"]
        asked = None
        if parsed is not None and (header(scope, "x-membank") or "").strip().lower() != "off":
            asked = open_request(path, parsed)
        if asked is None:
            await self._plain(scope, receive, send, body, "off")
            return
        if is_side_call(asked.messages):
            await self._plain(scope, receive, send, body, "none")
            return
        reminded = await self._memory.remind(asked, namespace, zone_of(scope))
        self._metrics.remembered.labels(reminded.state).inc()
        self._metrics.recall_seconds.observe(reminded.milliseconds / 1000)
        self._metrics.injected.inc(reminded.tokens)
        if reminded.messages is not None:
            body = json.dumps(asked.place(reminded.messages), separators=(",", ":")).encode()
        await self._watched(scope, receive, send, body, asked, reminded)

    async def _plain(self, scope: Scope, receive: Receive, send: Send, body: bytes, state: str) -> None:
        marked = _marking(send, {b"x-membank": state.encode()})
        await self._behind(for_body(scope, body), replayed(body, receive), marked)

    async def _watched(
        self, scope: Scope, receive: Receive, send: Send, body: bytes, asked: Asked, reminded: Reminded
    ) -> None:
        marks = {
            b"x-membank": reminded.state.encode(),
            b"x-membank-memories": str(reminded.memories).encode(),
            b"x-membank-recall-ms": f"{reminded.milliseconds:.1f}".encode(),
        }

        def learn(reply: Reply, ended: bool) -> None:
            if ended or reply.text.strip():
                self._metrics.turns.inc(self._memory.learn(asked, reminded, reply))

        copy = _Copy(scope["path"], learn)
        inner = for_body(scope, body)
        # compressed bytes could not be read on their way
        inner["headers"] = [(k, v) for k, v in inner["headers"] if k != b"accept-encoding"]
        try:
            await self._behind(inner, replayed(body, receive), _marking(send, marks, copy.take))
        finally:
            # a client that hangs up ends the above early: what was said so far is kept
            copy.finish(ended=False)


class _Copy:
    """Reads a response as it goes by; hands the reply over before its last bytes go out, or when nothing more comes.

    The client can ask again as soon as it has them: by then its turns are known.
    """

    def __init__(self, path: str, done: Callable[[Reply, bool], None]) -> None:
        self._done: Callable[[Reply, bool], None] | None = done
        self._reader = ReplyReader(path)
        self._size = 0
        self._length: int | None = None

    def take(self, message: Message) -> None:
        """Look at a message on its way to the client."""
        if message["type"] == "http.response.start":
            if message["status"] != 200:
                self._done = None
            length = next((v for k, v in message.get("headers", ()) if k.lower() == b"content-length"), b"")
            self._length = int(length) if length.isdigit() else None
            return
        if self._done is None:
            return
        part = message.get("body", b"")
        self._size += len(part)
        self._reader.feed(part)
        whole = self._length is not None and self._size >= self._length
        if whole or self._reader.over or not message.get("more_body", False):
            self.finish(ended=True)

    def finish(self, *, ended: bool) -> None:
        """Hand over what there is, the first time."""
        done, self._done = self._done, None
        if done is not None and self._size:
            done(self._reader.reply(), ended)


def _marking(send: Send, marks: dict[bytes, bytes], seen: Callable[[Message], None] | None = None) -> Send:
    """`send` with more headers, and with somebody who looks on."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *marks.items()]}
        if seen is not None:
            seen(message)
        await send(message)

    return sending


class Timed:
    """Passes messages on and remembers the status; how long it took so far."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start = time.perf_counter()
        self.status = 0
        self.state = ""

    @property
    def milliseconds(self) -> float:
        return 1000 * (time.perf_counter() - self._start)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.state = next((v.decode() for k, v in message.get("headers", ()) if k == b"x-membank"), "")
        await self._send(message)
