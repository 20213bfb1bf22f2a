"""`UpstreamConnection`: HTTP/1.1 to an upstream, as much of it as a proxy needs.

What comes in one read goes on in one piece, however many chunks it was cut into: of a fast stream a client that gives
out each chunk costs more than the proxy itself. Heads are read strictly: what two programs could read in two ways is
refused, and the connection closed.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import cast

MOST_HEAD = 64 * 1024
"""Bytes of a head, or of what comes after the last chunk."""
MOST_SIZE_LINE = 4096
UNREAD = 256 * 1024
"""Bytes that wait to be taken before the other side is made to wait."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n\0]{0,4096})?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]{0,64}([^\r\n\0]{0,65536})")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]{0,16}(?:;[^\r\n\0]{0,4096})?")
_SIZES = {b"%x" % size: size for size in range(1, 2048)}
"""The usual ones, looked up faster than read."""

Lines = list[tuple[bytes, bytes]]


class BrokenError(Exception):
    """The other side broke off, or does not speak HTTP/1.1."""


@dataclass(frozen=True)
class UpstreamHead:
    """How an answer begins; names in lower case."""

    status: int
    headers: Lines
    keeps_alive: bool
    length: int | None
    """Bytes of the body; None where its end is marked."""
    chunked: bool


class UpstreamConnection(asyncio.Protocol):
    """One connection, on which one request is under way at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._parts: list[bytes] = []
        self._unread = 0
        self._paused = False
        self._head: UpstreamHead | None = None
        self._asked_head = False
        self._left = 0
        self._chunk_end = self._in_trailer = False
        self._ended = True
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.idle_since = 0.0
        self.closed = False

    @property
    def is_reusable(self) -> bool:
        """Whether another request can be made on it."""
        head = self._head
        return self._ended and not self.closed and not self._rest and (head is None or head.keeps_alive)

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it was made in this loop."""
        return self._loop is loop

    # -- one request

    def ask(self, data: bytes, *, head_only: bool) -> None:
        """Begin a request with its head, or all of it; `head_only`: its answer has no body."""
        self._head, self._asked_head, self._ended, self._error = None, head_only, False, None
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
        while self._head is None:
            await self._more()
        return self._head

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
        head = self._head
        if not self._ended and head is not None and head.length is None and not head.chunked and exc is None:
            # it ends with the connection
            self._ended = True
        elif not self._ended and self._error is None:
            self._error = BrokenError(str(exc) if exc else "the connection was closed before the answer was whole")
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            # an answer to nothing that was asked
            self.abort()
            return
        self._rest = self._rest + data if self._rest else data
        try:
            if self._head is None:
                self._read_head()
            if self._head is not None:
                self._read_body(self._head)
        except BrokenError as exc:
            self._error = exc
            self.abort()
            return
        if self._unread > UNREAD and not self._paused and self._transport is not None and not self._ended:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    # -- reading

    def _read_head(self) -> None:
        while self._head is None:
            end = self._rest.find(b"\r\n\r\n")
            if end > MOST_HEAD or (end < 0 and len(self._rest) > MOST_HEAD):
                raise BrokenError("its head is too long")
            if end < 0:
                return
            head = head_of(self._rest[:end], bodiless=self._asked_head)
            self._rest = self._rest[end + 4 :]
            if head.status >= 200:
                self._head = head
                self._left = head.length or 0
                self._chunk_end = self._in_trailer = False
                self._ended = head.length == 0 and not head.chunked
            elif head.status == 101:
                raise BrokenError("it wants to speak something else")

    def _read_body(self, head: UpstreamHead) -> None:
        if self._ended:
            return
        if head.chunked:
            self._read_chunks()
            return
        data, self._rest = self._rest, b""
        if head.length is not None:
            data, self._rest = data[: self._left], data[self._left :]
            self._left -= len(data)
            self._ended = not self._left
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._unread += len(data)

    def _read_chunks(self) -> None:
        data, at = self._rest, 0
        while not self._ended:
            if self._in_trailer:
                at = self._after_trailer(data, at)
                break
            if self._left:
                piece = data[at : at + self._left]
                self._keep(piece)
                at, self._left = at + len(piece), self._left - len(piece)
                if self._left:
                    break
            if self._chunk_end:
                if len(data) - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise BrokenError("a chunk does not end where it says")
                at, self._chunk_end = at + 2, False
            at = self._take_whole(data, at)
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > MOST_SIZE_LINE:
                    raise BrokenError("a chunk says nothing of its size")
                break
            self._left = chunk_size(data[at:end])
            at, self._chunk_end, self._in_trailer = end + 2, self._left > 0, not self._left
        self._rest = data[at:]

    def _take_whole(self, data: bytes, at: int) -> int:
        """Take the chunks of usual size that are there from beginning to end; returns where the first other one begins:
        a fast stream is nothing but such, thousands in one read."""
        find, sizes, take, taken = data.find, _SIZES, self._parts.append, 0
        while (end := find(b"\r\n", at)) >= 0 and (size := sizes.get(data[at:end])) is not None:
            stop = end + 2 + size
            if data[stop : stop + 2] != b"\r\n":
                break
            take(data[end + 2 : stop])
            at, taken = stop + 2, taken + size
        self._unread += taken
        return at

    def _after_trailer(self, data: bytes, at: int) -> int:
        """Where the answer ends; `at` where it does not yet."""
        if data.startswith(b"\r\n", at):
            self._ended = True
            return at + 2
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            if len(data) - at > MOST_HEAD:
                raise BrokenError("what comes after it is too long")
            return at
        fields_of(data[at:end])
        self._ended = True
        return end + 4


def head_of(data: bytes, *, bodiless: bool = False) -> UpstreamHead:
    """A head without its empty line; `bodiless`: whatever it says, no body follows.

    Raises:
        BrokenError: it is no head of HTTP/1.1, or says two things of its length.
    """
    status_line, _, rest = data.partition(b"\r\n")
    found = _STATUS.fullmatch(status_line)
    if found is None:
        raise BrokenError("it does not answer in HTTP/1.1")
    headers, status = fields_of(rest), int(found.group(2))
    lengths = {value.strip() for name, value in headers if name == b"content-length"}
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    options = [one.strip().lower() for name, value in headers if name == b"connection" for one in value.split(b",")]
    if codings not in ([], [b"chunked"]):
        raise BrokenError("it uses a transfer coding that is not known here")
    if len(lengths) > 1 or any(_LENGTH.fullmatch(length) is None for length in lengths):
        raise BrokenError("it says two things of its length, or none that is a number")
    keeps = b"close" not in options and (found.group(1) == b"1" or b"keep-alive" in options)
    if bodiless or status < 200 or status in (204, 304):
        return UpstreamHead(status, headers, keeps, 0, chunked=False)
    if codings:
        # of both, the one that marks the end counts, and nothing may follow on such a connection
        return UpstreamHead(status, headers, keeps and not lengths, None, chunked=True)
    length = int(lengths.pop()) if lengths else None
    return UpstreamHead(status, headers, keeps and length is not None, length, chunked=False)


def fields_of(data: bytes) -> Lines:
    """The lines of a head, or of a trailer."""
    found = []
    for line in data.split(b"\r\n") if data else ():
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BrokenError("a line of its head is none")
        found.append((field.group(1).lower(), field.group(2).rstrip(b" \t")))
    return found


def chunk_size(line: bytes) -> int:
    """What the line before a chunk says of its length."""
    size = _SIZES.get(line)
    if size is None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise BrokenError("a chunk says nothing of its size")
        size = int(found.group(1), 16)
    return size
