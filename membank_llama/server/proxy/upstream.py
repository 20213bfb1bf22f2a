"""`Upstream`: whatever answers over HTTP, Ollama or another, as an ASGI app: requests go on, and answers back, byte for
byte.

Nothing is decoded, nothing is collected: every piece is passed on as it comes. A client that hangs up closes the
connection to the other side, which stops the generation there.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import httpx

from membank_llama.core.errors import InvalidInputError

from ..asgi import Receive, Scope, Send, WireError, send_error
from .upstream_kind import unreached
from .upstream_server import UpstreamServer

_log = logging.getLogger("membank_llama")

CONNECT_SECONDS = 5.0
POOLS = 8
"""Pools that share the connections: one looks at each of its connections for every request."""

_HOP = {
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"trailer", b"transfer-encoding",
    b"upgrade",
}  # fmt: skip
_OWN = {b"host", b"content-length", b"expect"}


class Upstream:
    """Passes requests on to one address.

    Args:
        address: as in ``http://127.0.0.1:11434``; a path in it comes before every request's.
        keep_authorization: whether the client's bearer token goes on; not where it is one of the proxy's own.

    Raises:
        InvalidInputError: it is no HTTP address.
    """

    def __init__(self, address: str, *, keep_authorization: bool = True) -> None:
        parsed = httpx.URL(address)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise InvalidInputError(f"{address!r} is no address; write it as in http://127.0.0.1:11434")
        self.address = address.rstrip("/")
        self.server = UpstreamServer(self.address)
        """What is known of it."""
        self._prefix = parsed.raw_path.rstrip(b"/")
        self._url = parsed
        self._dropped = _HOP | _OWN | (set() if keep_authorization else {b"authorization"})
        # a generation may take its time between two tokens: only the connection has a limit
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=16)
        verify = ssl.create_default_context()
        clients = [
            httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False, follow_redirects=False, verify=verify)
            for _ in range(POOLS)
        ]
        for client in clients:
            client.headers.clear()
        self._clients = clients
        self._next = itertools.cycle(clients)

    async def close(self) -> None:
        """Let go of all connections."""
        for client in self._clients:
            await client.aclose()
        self.server.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        body = _Body(receive)
        dropped = self._dropped | _named(scope["headers"])
        headers = [(k, v) for k, v in scope["headers"] if k not in dropped and not k.startswith(b"x-membank")]
        length = next((v for k, v in scope["headers"] if k == b"content-length"), None)
        chunked = any(k == b"transfer-encoding" for k, _ in scope["headers"])
        if chunked:
            # it says where the body ends, whatever else is said of its length
            length = None
        if length is not None:
            headers.append((b"content-length", length))
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        target = self._prefix + (scope.get("raw_path") or scope["path"].encode()) + query
        content = body.parts() if length not in (None, b"0") or chunked else None
        client = next(self._next)
        request = client.build_request(
            scope["method"], self._url.copy_with(raw_path=target), headers=headers, content=content
        )
        sending = asyncio.ensure_future(client.send(request, stream=True))
        gone = asyncio.ensure_future(body.gone(content is not None))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                return
            response = sending.result()
            body.answered = True
            streaming = asyncio.ensure_future(_answer(response, send))
            try:
                await asyncio.wait({streaming, gone}, return_when=asyncio.FIRST_COMPLETED)
                if streaming.done():
                    streaming.result()
            finally:
                await _ended(streaming)
                await response.aclose()
        except httpx.HTTPError as exc:
            if body.answered:
                # the client has half an answer: it sees the connection end without the end of the body
                _log.warning("%s broke off in the middle of an answer: %r", self.server, exc)
                return
            await self._unreachable(exc, scope, send)
        finally:
            await _ended(sending)
            await _ended(gone)

    async def _unreachable(self, exc: httpx.HTTPError, scope: Scope, send: Send) -> None:
        self.server.lost()
        if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
            message = unreached(self.server.kind, self.address, self._url.port)
        else:
            who = self.server.kind.name if self.server.kind is not None else "what answers"
            message = f"{who} at {self.address} broke off: {str(exc) or type(exc).__name__}"
        await send_error(scope, send, WireError(502, message))


class _Body:
    """A request's body on its way, and the news that the client hung up."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._whole = asyncio.Event()
        self._gone = asyncio.Event()
        self.answered = False

    async def parts(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone.set()
                return
            yield message.get("body", b"")
            if not message.get("more_body"):
                self._whole.set()
                return

    async def gone(self, has_body: bool) -> None:
        """Returns once the client has hung up."""
        if has_body:
            whole = asyncio.ensure_future(self._whole.wait())
            gone = asyncio.ensure_future(self._gone.wait())
            try:
                await asyncio.wait({whole, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                whole.cancel()
                gone.cancel()
        while not self._gone.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                return


def _named(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """The headers that Connection names: they are for this hop alone, as it is itself."""
    names = (part.strip().lower() for key, value in headers if key == b"connection" for part in value.split(b","))
    # the length belongs to the message, whatever is said of it
    return {name for name in names if name} - {b"content-length"}


async def _answer(response: httpx.Response, send: Send) -> None:
    lines = [(k.lower(), v) for k, v in response.headers.raw]
    dropped = _HOP | _named(lines)
    headers = [(k, v) for k, v in lines if k not in dropped]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    async for piece in response.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancel a task and see it end."""
    if not task.done():
        task.cancel()
    with suppress(asyncio.CancelledError, httpx.HTTPError):
        await task
