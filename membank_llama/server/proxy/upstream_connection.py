"""`UpstreamConnection`: HTTP/1.1 to an upstream, as much of it as a proxy needs; what comes is read by llhttp.

What comes in one read goes on in one piece, however many chunks it was cut into: of a fast stream a client that gives
out each chunk costs more than the proxy itself. Heads are read strictly: what two programs could read in two ways is
refused, and the connection closed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import httptools

MOST_HEAD = 64 * 1024
"""Bytes of a head, of what says how long a chunk is, or of what comes after the last."""
UNREAD = 256 * 1024
"""Bytes that wait to be taken before the other side is made to wait."""

Lines = list[tuple[bytes, bytes]]


class BrokenError(Exception):
    """The other side broke off, or does not speak HTTP/1.1."""


@dataclass(frozen=True)
class UpstreamHead:
    """How an answer begins; names in lower case."""

    status: int
    headers: Lines
    keeps_alive: bool
    """Whether the connection stays open after it."""


class _Answer:
    """One answer as it is read: llhttp's callbacks, and what llhttp lets pass that is not let pass here.

    Args:
        bodiless: whatever its head says, no body follows.
    """

    def __init__(self, *, bodiless: bool) -> None:
        self.head: UpstreamHead | None = None
        self.ended = False
        self.ends_with_connection = False
        self.is_followed = False
        """Whether there was more after its end."""
        self._bodiless = bodiless
        self._headers: Lines = []
        self._fed = 0
        """Bytes since the beginning, or since the last of the body."""
        self._body: list[bytes] = []
        self.on_body = self._body.append
        self._parser = httptools.HttpResponseParser(self)

    def read(self, data: bytes) -> tuple[bytes, BrokenError | None]:
        """Read on; returns what of the body was in it, and what was wrong with what came then."""
        error = None
        try:
            if self.head is None and not self._fed and not data.startswith(b"H"):
                # llhttp overlooks empty lines, and knows relatives of HTTP
                raise BrokenError("it does not answer in HTTP/1.1")
            self._parser.feed_data(data)
        except BrokenError as exc:
            error = exc
        except httptools.HttpParserError as exc:
            # what a callback raises comes as the context of another error
            ours = exc.__context__
            error = ours if isinstance(ours, BrokenError) else BrokenError(f"it does not speak HTTP/1.1: {exc}")
        body = b"".join(self._body)
        self._body.clear()
        if self.ended:
            self.is_followed = error is not None or (self._bodiless and bool(body))
            return (b"" if self._bodiless else body), None
        self._fed = 0 if body else self._fed + len(data)
        if self._fed > MOST_HEAD and error is None:
            error = BrokenError("its head is too long, or what is between its pieces or after them")
        return body, error

    # -- llhttp's side

    def on_message_begin(self) -> None:
        if self.ended:
            raise BrokenError("it answers what was not asked")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, []
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if status < 100 or version not in ("1.0", "1.1"):
            raise BrokenError("it does not answer in HTTP/1.1")
        if status == 101:
            raise BrokenError("it wants to speak something else")
        if sum(len(name) + len(value) + 4 for name, value in headers) > MOST_HEAD:
            raise BrokenError("its head is too long")
        codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):
            raise BrokenError("it uses a transfer coding that is not known here")
        if status < 200:
            return
        # an older program knows no chunks; and where chunks are announced that do not come, llhttp waits for them
        unsure = bool(codings) and (version == "1.0" or self._bodiless)
        self.head = UpstreamHead(status, headers, self._parser.should_keep_alive() and not unsure)
        self.ends_with_connection = not codings and all(name != b"content-length" for name, _ in headers)
        self.ended = self._bodiless

    def on_message_complete(self) -> None:
        self.ended = self.head is not None


class UpstreamConnection(asyncio.Protocol):
    """One connection, on which one request is under way at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: _Answer | None = None
        self._parts: list[bytes] = []
        self._unread = 0
        self._paused = False
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.idle_since = 0.0
        self.closed = False

    @property
    def is_reusable(self) -> bool:
        """Whether another request can be made on it."""
        answer = self._answer
        if self.closed or answer is None:
            return not self.closed
        return answer.ended and not answer.is_followed and answer.head is not None and answer.head.keeps_alive

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it was made in this loop."""
        return self._loop is loop

    # -- one request

    def ask(self, data: bytes, *, head_only: bool) -> None:
        """Begin a request with its head, or all of it; `head_only`: its answer has no body."""
        self._answer, self._error = _Answer(bodiless=head_only), None
        self._parts, self._unread = [], 0
        self.write(data)

    def write(self, data: bytes) -> None:
        """More of the request."""
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the other side takes more."""
        await self._writable.wait()

    async def head(self) -> UpstreamHead:
        """How the answer begins.

        Raises:
            BrokenError: there is none.
        """
        while self._answer is None or self._answer.head is None:
            await self._more()
        return self._answer.head

    async def part(self) -> tuple[bytes, bool]:
        """What has come of the body since the last time, and whether that was the end of it; waits for something.

        Raises:
            BrokenError: it broke off.
        """
        while not self._parts and not self._ended:
            await self._more()
        parts, self._parts, self._unread = self._parts, [], 0
        if self._paused and self._transport is not None and not self.closed:
            self._paused = False
            self._transport.resume_reading()
        return (parts[0] if len(parts) == 1 else b"".join(parts)), self._ended

    @property
    def _ended(self) -> bool:
        return self._answer is None or self._answer.ended

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        if self.closed:
            raise BrokenError("the connection was closed")
        self._news = self._loop.create_future()
        await self._news

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def abort(self, error: Exception | None = None) -> None:
        """Close it at once; whoever waits for something gets this error."""
        self.closed = True
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._writable.set()
        answer = self._answer
        if answer is not None and answer.ends_with_connection and exc is None:
            answer.ended = True
        elif not self._ended and self._error is None:
            self._error = BrokenError(str(exc) if exc else "the connection was closed before the answer was whole")
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.ended:
            # an answer to nothing that was asked
            self.abort()
            return
        body, error = self._answer.read(data)
        if body:
            self._parts.append(body)
            self._unread += len(body)
        if error is not None:
            self.abort(error)
            return
        if self._unread > UNREAD and not self._paused and self._transport is not None and not self._ended:
            self._paused = True
            self._transport.pause_reading()
        self._wake()
