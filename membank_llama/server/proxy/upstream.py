"""`Upstream`: whatever answers over HTTP, Ollama or another, as an ASGI app: requests go on, and answers back, byte for
byte.

Nothing is decoded, nothing is collected: every piece is passed on as it comes. A client that hangs up closes the
connection to the other side, which stops the generation there.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

import httpx

from membank_llama.core.errors import InvalidInputError

from ..asgi import ClientGoneError, Receive, Scope, Send, WireError, send_error
from .upstream_connection import BrokenError, UpstreamConnection, UpstreamHead
from .upstream_kind import unreached
from .upstream_server import UpstreamServer

_log = logging.getLogger("membank_llama")

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 4.0
"""After which a connection is not used again: many servers close theirs after five, just when something is sent."""
MOST_IDLE = 128
FALLBACK_SECONDS = 0.25
"""After which the next address of a name is tried beside the first."""

_HOP = {
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"trailer", b"transfer-encoding",
    b"upgrade",
}  # fmt: skip
_OWN = {b"host", b"content-length", b"expect"}
_TARGET = re.compile(rb"/[\x21-\x7e\x80-\xff]*")
_BREAKS = re.compile(rb"[\r\n\0]")


class Upstream:
    """Passes requests on to one address.

    Args:
        address: as in ``http://127.0.0.1:11434``; a path in it comes before every request's, but for a ``/v1`` at its
            end, which requests bring along.
        keep_authorization: whether the client's bearer token goes on; not where it is one of the proxy's own.

    Raises:
        InvalidInputError: it is no HTTP address.
    """

    def __init__(self, address: str, *, keep_authorization: bool = True) -> None:
        parsed = httpx.URL(address)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise InvalidInputError(f"{address!r} is no address; write it as in http://127.0.0.1:11434")
        self.address = address.rstrip("/").removesuffix("/v1").rstrip("/")
        self.server = UpstreamServer(self.address)
        """What is known of it."""
        self._prefix = httpx.URL(self.address).raw_path.rstrip(b"/")
        self._host = parsed.host
        self._port = parsed.port or (443 if parsed.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if parsed.scheme == "https" else None
        self._host_line = b"host: " + parsed.netloc + b"\r\n"
        self._dropped = _HOP | _OWN | (set() if keep_authorization else {b"authorization", b"x-api-key"})
        self._idle: deque[UpstreamConnection] = deque()

    async def close(self) -> None:
        """Let go of all connections."""
        while self._idle:
            self._idle.pop().abort()
        self.server.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        answered = False
        try:
            head, length = self._head_of(scope)
            async with _Exchange(self, receive) as exchange:
                answer = await exchange.ask(head, length, head_only=scope["method"] == "HEAD")
                answered = True
                await _pass_on(answer, exchange.connection, send)
        except ClientGoneError:
            return
        except WireError as exc:
            await send_error(scope, send, exc)
        except (BrokenError, OSError) as exc:
            if answered:
                # the client has half an answer: it sees the connection end without the end of the body
                _log.warning("%s broke off in the middle of an answer: %s", self.server, exc)
                return
            await send_error(scope, send, WireError(502, self._unreachable(exc)))

    def _unreachable(self, exc: Exception) -> str:
        self.server.lost()
        kind = self.server.kind
        if isinstance(exc, OSError):
            return unreached(kind, self.address, self._port)
        return f"{kind.name if kind is not None else 'what answers'} at {self.address} broke off: {exc}"

    def _head_of(self, scope: Scope) -> tuple[bytes, int | None]:
        """A request's head as it goes on, and how long the body is; None where its end is marked."""
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        target = (scope.get("raw_path") or scope["path"].encode()) + query
        if _TARGET.fullmatch(target) is None:
            raise WireError(400, "the request's target is no path")
        dropped = self._dropped | _named(scope["headers"])
        lines = [(k, v) for k, v in scope["headers"] if k not in dropped and not k.startswith(b"x-membank")]
        lengths = [v for k, v in scope["headers"] if k == b"content-length"]
        if any(k == b"transfer-encoding" for k, _ in scope["headers"]):
            # it says where the body ends, whatever else is said of its length
            lines.append((b"transfer-encoding", b"chunked"))
            length = None
        else:
            lines += [(b"content-length", value) for value in lengths[:1]]
            length = int(lengths[0]) if lengths else 0
        head = b"".join([b"%s: %s\r\n" % line for line in lines if _BREAKS.search(line[1]) is None])
        method = scope["method"].encode()
        return b"%s %s HTTP/1.1\r\n%s%s\r\n" % (method, self._prefix + target, self._host_line, head), length

    # -- connections

    async def connection(self) -> UpstreamConnection:
        """One that is free, or a new one.

        Raises:
            OSError: there is nobody there.
        """
        loop = asyncio.get_running_loop()
        while self._idle:
            found = self._idle.pop()
            if found.is_of(loop) and found.is_reusable and loop.time() - found.idle_since < IDLE_SECONDS:
                return found
            found.abort()
        connecting = loop.create_connection(
            UpstreamConnection,
            self._host,
            self._port,
            ssl=self._ssl,
            server_hostname=self._host if self._ssl else None,
            happy_eyeballs_delay=FALLBACK_SECONDS,
        )
        try:
            _, made = await asyncio.wait_for(connecting, CONNECT_SECONDS)
        except asyncio.TimeoutError as exc:
            raise OSError("nobody answers") from exc
        return made

    def release(self, connection: UpstreamConnection) -> None:
        """Take a connection back."""
        if connection.is_reusable and len(self._idle) < MOST_IDLE:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.abort()


class _Exchange:
    """One request on its way, and the news that the client hung up."""

    connection: UpstreamConnection

    def __init__(self, upstream: Upstream, receive: Receive) -> None:
        self._upstream = upstream
        self._receive = receive
        self._gone: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Exchange:
        self.connection = await self._upstream.connection()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._gone is not None and not self._gone.done():
            self._gone.cancel()
            with suppress(asyncio.CancelledError):
                await self._gone
        self._upstream.release(self.connection)

    async def ask(self, head: bytes, length: int | None, *, head_only: bool) -> UpstreamHead:
        """Send a request; returns how its answer begins.

        Raises:
            ClientGoneError: the client hung up.
            BrokenError: there is no answer.
        """
        connection = self.connection
        if length == 0:
            connection.ask(head, head_only=head_only)
        else:
            await self._send(head, chunked=length is None, head_only=head_only)
        self._gone = asyncio.ensure_future(self._watch())
        return await connection.head()

    async def _send(self, head: bytes, *, chunked: bool, head_only: bool) -> None:
        """The head and the body, as it comes; of a short one in one piece."""
        connection, begun, more = self.connection, False, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            data, more = message.get("body", b""), message.get("more_body", False)
            if chunked:
                data = (b"%x\r\n%s\r\n" % (len(data), data) if data else b"") + (b"" if more else b"0\r\n\r\n")
            if begun:
                connection.write(data)
            else:
                connection.ask(head + data, head_only=head_only)
                begun = True
            await connection.drain()

    async def _watch(self) -> None:
        """Close the connection once the client has hung up, which ends whatever waits for it."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.connection.abort(ClientGoneError())


def _named(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """The headers that Connection names: they are for this hop alone, as it is itself."""
    names = (part.strip().lower() for key, value in headers if key == b"connection" for part in value.split(b","))
    # the length belongs to the message, whatever is said of it
    return {name for name in names if name} - {b"content-length"}


async def _pass_on(answer: UpstreamHead, connection: UpstreamConnection, send: Send) -> None:
    dropped = _HOP | _named(answer.headers)
    headers = [(k, v) for k, v in answer.headers if k not in dropped]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    ended = False
    while not ended:
        piece, ended = await connection.part()
        await send({"type": "http.response.body", "body": piece, "more_body": not ended})
