"""Answers are read as they were meant, wherever they are cut, and what could be read in two ways is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from membank_llama.server.proxy.upstream_connection import BrokenError, UpstreamConnection

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = {
    "a length": (OK + b"Content-Length: 5\r\nX-A:  b \r\n\r\nhello", b"hello", True),
    "the same length twice": (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    "chunks": (CHUNKED + b"5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\n\r\n", b"hello world", True),
    "chunks and a trailer": (CHUNKED + b"A\r\nhello worl\r\n1\r\nd\r\n0\r\nX-B: c\r\n\r\n", b"hello world", True),
    "a large chunk": (CHUNKED + b"20000\r\n" + b"x" * 0x20000 + b"\r\n0\r\n\r\n", b"x" * 0x20000, True),
    "early hints": (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", b"hi", True),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "close": (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nhi", b"hi", False),
    "an older version": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", False),
    "both": (OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", b"hi", False),
    "more than was asked": (OK + b"Content-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n", b"hi", False),
}  # fmt: skip
BROKEN = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "a return in a line": b"HTTP/1.1 200 OK\r\nX-A: b\rX-C: d\r\nContent-Length: 0\r\n\r\n",
    "a size with a sign": CHUNKED + b"+2\r\nhi\r\n0\r\n\r\n",
    "a size with a prefix": CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\nhi\r\n0\r\n\r\n",
    "a chunk that goes on": CHUNKED + b"2\r\nhippo\r\n0\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000,
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "an end in the middle": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
    "an end within a chunk": CHUNKED + b"5\r\nhel",
    "nothing": b"",
}


def answered(
    data: bytes, size: int, then: Callable[[UpstreamConnection], Awaitable[bytes]], *, head_only: bool = False
) -> bytes:
    """What is made of an answer that comes in pieces of this size, after which the other side hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    async def talk() -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            _, connection = await asyncio.get_running_loop().create_connection(UpstreamConnection, "127.0.0.1", port)
            try:
                connection.ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", head_only=head_only)
                return await then(connection)
            finally:
                connection.abort()

    return asyncio.run(talk())


async def body_of(connection: UpstreamConnection) -> bytes:
    await connection.head()
    body, ended = b"", False
    while not ended:
        part, ended = await connection.part()
        body += part
    return body


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
@pytest.mark.parametrize(("data", "body", "keeps"), WHOLE.values(), ids=WHOLE)
def test_an_answer_is_whole_wherever_it_is_cut(data: bytes, body: bytes, keeps: bool, size: int) -> None:
    if len(data) > 10_000:
        size = max(size, 1000)

    async def read(connection: UpstreamConnection) -> bytes:
        found = await body_of(connection)
        head = await connection.head()
        assert head.keeps_alive is keeps or data.endswith(b"OK\r\n\r\n")
        return found

    assert answered(data, size, read) == body


@pytest.mark.parametrize("size", [3, 1 << 20])
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(BrokenError):
        answered(data, max(size, len(data) // 1000), body_of)


def test_one_without_a_length_ends_with_the_connection() -> None:
    assert answered(b"HTTP/1.1 200 OK\r\n\r\nhello", 2, body_of) == b"hello"


def test_the_answer_to_head_has_no_body() -> None:
    assert answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 100, body_of, head_only=True) == b""


def test_more_than_was_asked_ends_the_connection() -> None:
    async def read(connection: UpstreamConnection) -> bytes:
        body = await body_of(connection)
        assert not connection.is_reusable
        return body

    assert answered(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more", 1 << 20, read) == b"hi"


def test_a_slow_reader_makes_the_other_side_wait() -> None:
    async def read(connection: UpstreamConnection) -> bytes:
        await connection.head()
        for _ in range(50):
            await asyncio.sleep(0.01)
        held = connection._unread
        assert held < 4 << 20, "it is not all taken in"
        return await body_of(connection)

    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 << 20) + b"x" * (32 << 20)
    assert len(answered(data, 1 << 16, read)) == 32 << 20
