"""Odd requests: what is behind the proxy sees one request for each that was let in, and none that was hidden in it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import h11
import httpx
import pytest
from support.asgi_server import serve

from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.upstream import Upstream

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: upstream\r\n\r\n"
CHUNKED_HIDDEN = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)

REQUESTS = {
    "two kinds of length": b"POST /api/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED_HIDDEN,
    "the end of a body, and more": b"POST /api/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two lengths": b"POST /api/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n"
    + HIDDEN,
    "an unknown coding": b"POST /api/pull HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n"
    + CHUNKED_HIDDEN,
    "a space before the colon": b"POST /api/pull HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n"
    + CHUNKED_HIDDEN,
    "a sign": b"POST /api/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: +0\r\n\r\n" + HIDDEN,
    "a line break in a path": b"GET /x%0d%0aX-Evil:%201%0d%0a%0d%0aGET%20/smuggled HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: close\r\n\r\n",
    "a return in a header": b"GET /x HTTP/1.1\r\nHost: localhost\r\nX-A: a\r\rGET /smuggled HTTP/1.1\r\n\r\n",
    "a length that Connection names": b"POST /api/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
    b"Connection: close, content-length\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "another server": b"GET http://upstream/smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "a name for another server": b"GET @upstream/smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
}


class Wire:
    """An upstream that reads bytes, keeps them, and answers each request that it would see in them."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(0.5)
                data = b""
                try:
                    while part := connection.recv(65_536):
                        data += part
                        if b"\r\n\r\n" in data:
                            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
                            break
                    while part := connection.recv(65_536):
                        data += part
                except OSError:
                    pass
                self.seen.append(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)


@contextmanager
def fronted() -> Iterator[tuple[int, Wire]]:
    with closing(Wire()) as wire, serve(Proxy(Upstream(wire.url), None)) as url:
        yield httpx.URL(url).port or 0, wire


@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
def test_nothing_hidden_gets_through(sent: bytes) -> None:
    with fronted() as (port, wire):
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            raw.sendall(sent)
            raw.settimeout(1)
            answer = b""
            try:
                while part := raw.recv(65_536):
                    answer += part
            except OSError:
                pass
        assert answer.startswith(b"HTTP/1.1 ")
        assert httpx.get(f"http://127.0.0.1:{port}/after", timeout=10).text == "{}"
    seen = [request for data in wire.seen for request in requests(data)]
    assert seen.count("/after") == 1
    assert len(seen) <= 2
    assert not [target for target in seen if target.startswith(("/smuggled", "http:", "@"))]


def requests(data: bytes) -> list[str]:
    """The targets of all requests that a server sees in these bytes; one that it cannot make out is none."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found = []
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
            return found
        if event is h11.PAUSED:
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
        elif isinstance(event, h11.Request):
            assert not [name for name, _ in event.headers if name == b"x-evil"]
            found.append(event.target.decode())
