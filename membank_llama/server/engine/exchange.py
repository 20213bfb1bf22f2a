"""`Exchange`: one request and the way back to its client, whole or in a stream.

A stream's head is sent with its first piece, so that what goes wrong before it is answered with a status of
its own; what goes wrong later is told in the stream.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..asgi import Scope, Send, error_body, is_anthropic, send_json

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
STALL_SECONDS = 120.0


@dataclass(frozen=True)
class NamedEvent:
    """A piece of a stream whose events have names: its payload's `type` is one."""

    payload: Mapping[str, Any]


@dataclass
class Exchange:
    """A request whose body has been read.

    Args:
        body: its JSON object, where its path takes one; `raw`: its bytes, where it takes anything.
        failing: what a stream says of an error, where its API has its own way.
        marks: more headers of the answer, names in lower case.
    """

    scope: Scope
    send: Send
    body: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes = b""
    kind: str = ""
    failing: Callable[[int, str], list[Any]] | None = None
    marks: dict[str, str] = field(default_factory=dict)
    _sending: float | None = None

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    @property
    def stalled(self) -> bool:
        """Whether the client has stopped reading: it must not keep a model from everybody else."""
        return self._sending is not None and time.monotonic() - self._sending > STALL_SECONDS

    @property
    def streaming(self) -> bool:
        """Whether a stream has begun."""
        return bool(self.kind)

    async def reply(self, payload: Any, status: int = 200) -> None:
        """Answer with JSON."""
        await send_json(self.send, status, dump(payload), self.marks)

    async def reply_from(self, made: Callable[[], Any]) -> None:
        """Answer with JSON that takes time to make: on a thread, and written there too."""
        await send_json(self.send, 200, await asyncio.to_thread(lambda: dump(made())))

    async def push(self, payload: Any, kind: str) -> None:
        """Send one piece of a stream, and its head before the first."""
        if not self.kind:
            self.kind = kind
            headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-cache")]
            headers += [(name.encode(), value.encode()) for name, value in self.marks.items()]
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        data = _framed(payload, kind)
        self._sending = time.monotonic()
        await self.send({"type": "http.response.body", "body": data, "more_body": True})
        self._sending = None

    async def end(self) -> None:
        """Close the stream."""
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, status: int, message: str) -> None:
        """Tell of an error in the middle of a stream, and close it."""
        told = self.failing or self._error
        for piece in told(status, message):
            await self.push(piece, self.kind)
        await self.end()

    def _error(self, status: int, message: str) -> list[Any]:
        body = error_body(self.path, status, message)
        return [NamedEvent(json.loads(body))] if is_anthropic(self.path) else [body]


def _framed(payload: Any, kind: str) -> bytes:
    name = b""
    if isinstance(payload, NamedEvent):
        payload = payload.payload
        name = b"event: " + str(payload["type"]).encode() + b"\n"
    data = payload if isinstance(payload, bytes) else dump(payload)
    return name + b"data: " + data + b"\n\n" if kind == SSE else data + b"\n"


def dump(payload: Any) -> bytes:
    """JSON as Ollama writes it: UTF-8, not escaped."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
