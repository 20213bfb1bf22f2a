"""uvicorn as the proxy runs it: connections on which nothing happens are closed, and never keep a new client out.

uvicorn waits for the head of a request for as long as the connection lasts; a program that opens many and sends a byte
now and then would hold them all. Where the process is about to run out of descriptors, whoever has waited longest
without asking anything makes room.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if sys.platform != "win32":
    import resource

HEAD_SECONDS = 30.0
FEWEST, MOST = 64, 4096
ACCEPTED_AT_ONCE = 128

_log = logging.getLogger("membank_llama")


def most_connections() -> int:
    """How many clients may be connected: half of the descriptors, as every answer takes one towards the upstream, and
    the bank and the models take some."""
    if sys.platform == "win32":
        return FEWEST * 8
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(FEWEST, min(MOST, soft // 2))


class JoiningTransport:
    """A transport that sends what is written in one turn of the event loop together: the head of an answer and its
    first piece, or a piece and the mark of the end, are one call to the system and one packet."""

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)

    def close(self) -> None:
        """After what was written."""
        self._flush()
        self._inner.close()

    def _flush(self) -> None:
        written, self._written = self._written, []
        if written and not self._inner.is_closing():
            self._inner.write(b"".join(written))


class PunctualProtocol(H11Protocol):
    """HTTP/1.1 whose requests' heads have to come in time."""

    _waiting: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]
        self._since = self.loop.time()
        self._watch()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self._late)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _late(self) -> None:
        self._waiting = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()

    def _make_room(self) -> None:
        """Close the connection that has waited longest, first of those that ask nothing, then of those whose request
        has not come whole; never one that is being answered."""
        others = [other for other in self.connections if other is not self and isinstance(other, PunctualProtocol)]
        if len(others) < most_connections():
            return
        idle = [other for other in others if not other.transport.is_closing() and other._is_unanswered(h11.IDLE)]
        slow = [other for other in others if not other.transport.is_closing() and other._is_unanswered(h11.SEND_BODY)]
        waiting = idle or slow
        if waiting:
            _log.debug("%d connections: the oldest idle one makes room", len(others))
            min(waiting, key=lambda other: other._since).transport.abort()

    def _is_unanswered(self, state: Any) -> bool:
        return self.conn.their_state is state and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE)


def configured(app: Any, host: str, port: int) -> uvicorn.Config:
    """How `membank serve` runs an app."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=PunctualProtocol,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        backlog=ACCEPTED_AT_ONCE,
        timeout_graceful_shutdown=30,
    )
