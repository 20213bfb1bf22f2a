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
    "a field without a value": (OK + b"X-A:\r\nX-B: \t\r\nContent-Length: 2 \r\n\r\nhi", b"hi", True),
    "chunks": (CHUNKED + b"5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\n\r\n", b"hello world", True),
    "chunks and a trailer": (CHUNKED + b"A\r\nhello worl\r\n1\r\nd\r\n0\r\nX-B: c\r\n\r\n", b"hello world", True),
    "a large chunk": (CHUNKED + b"20000\r\n" + b"x" * 0x20000 + b"\r\n0\r\n\r\n", b"x" * 0x20000, True),
    "early hints": (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", b"hi", True),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "close": (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nhi", b"hi", False),
    "an older version": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", False),
    "chunks of an older version": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"hi",
        False,
    ),
    "no body, whatever is said of its length": (b"HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n", b"", True),
    "any case": (OK + b"TRANSFER-encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", b"hi", True),
    "more than was asked": (OK + b"Content-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n", b"hi", False),
}  # fmt: skip
BROKEN = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a relative of HTTP": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "an empty line first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 000 OK\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "a length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunks and a length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "the same length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a length beyond all bounds": OK + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "no coding but its name": OK + b"Transfer-Encoding: \r\n\r\nhello",
    "a coding with a comma": OK + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "the coding of none": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "a folded line of the first": OK + b" X-A: b\r\nContent-Length: 0\r\n\r\n",
    "a folded length": OK + b"Content-Length:\r\n 0\r\n\r\n",
    "a folded coding": OK + b"Transfer-Encoding: chunked\r\n , x\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "a return in a line": b"HTTP/1.1 200 OK\r\nX-A: b\rX-C: d\r\nContent-Length: 0\r\n\r\n",
    "a return after the status": b"HTTP/1.1 200 OK\rX-A: b\r\nContent-Length: 0\r\n\r\n",
    "a return for an empty line": OK + b"Content-Length: 0\r\n\rX",
    "a feed after the status": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "a feed in a line": OK + b"X-A: b\nX-C: d\r\nContent-Length: 0\r\n\r\n",
    "a feed in a name": OK + b"X-\nA: b\r\nContent-Length: 0\r\n\r\n",
    "a feed for an empty line": OK + b"Content-Length: 0\r\n\n",
    "a zero byte": OK + b"X-A: b\0c\r\nContent-Length: 0\r\n\r\n",
    "no name": OK + b": b\r\nContent-Length: 0\r\n\r\n",
    "a size before a space": CHUNKED + b"2 \r\nhi\r\n0\r\n\r\n",
    "a size before a feed": CHUNKED + b"2\nhi\r\n0\r\n\r\n",
    "a feed in what is said of a chunk": CHUNKED + b"2;x\nhi\r\n0\r\n\r\n",
    "a chunk before a feed": CHUNKED + b"2\r\nhi\n0\r\n\r\n",
    "a size beyond all bounds": CHUNKED + b"10000000000000002\r\nhi\r\n0\r\n\r\n",
    "a feed at the end": CHUNKED + b"2\r\nhi\r\n0\r\n\n",
    "a folded trailer": CHUNKED + b"2\r\nhi\r\n0\r\nX-B: c\r\n d\r\n\r\n",
    "a length after the end": CHUNKED + b"2\r\nhi\r\n0\r\nContent-Length: 9\r\n\r\n",
    "a size with a sign": CHUNKED + b"+2\r\nhi\r\n0\r\n\r\n",
    "a size with a prefix": CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\nhi\r\n0\r\n\r\n",
    "a chunk that goes on": CHUNKED + b"2\r\nhippo\r\n0\r\n\r\n",
    "an end in the middle": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
    "an end within a chunk": CHUNKED + b"5\r\nhel",
    "nothing": b"",
}
TOO_LONG = {
    "a head without end": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000,
    "a head of many lines": OK + b"X-A: bcd\r\n" * 10_000 + b"Content-Length: 0\r\n\r\n",
    "early hints without end": b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * 3000,
    "a chunk of which much is said": CHUNKED + b"2;x=" + b"y" * 200_000,
    "a trailer without end": CHUNKED + b"2\r\nhi\r\n0\r\nX-B: " + b"c" * 200_000,
}
OTHER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"
OTHER_OF_THE_CONNECTION = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"


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


@pytest.mark.parametrize("size", [3, 1 << 20])
@pytest.mark.parametrize("data", TOO_LONG.values(), ids=TOO_LONG)
def test_what_does_not_end_is_not_waited_for(data: bytes, size: int) -> None:
    with pytest.raises(BrokenError, match="too long"):
        answered(data, max(size, len(data) // 1000), body_of)


@pytest.mark.parametrize("data", [OTHER, OTHER_OF_THE_CONNECTION])
def test_another_protocol_is_not_spoken(data: bytes) -> None:
    with pytest.raises(BrokenError, match=r"\Ait wants to speak something else"):
        answered(data + OK + b"Content-Length: 0\r\n\r\n", 1 << 20, body_of)


def test_one_without_a_length_ends_with_the_connection() -> None:
    assert answered(b"HTTP/1.1 200 OK\r\n\r\nhello", 2, body_of) == b"hello"


def test_the_answer_to_head_has_no_body() -> None:
    assert answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 100, body_of, head_only=True) == b""


FOLLOWED = {
    "text": (OK + b"Content-Length: 2\r\n\r\nhi and more", False),
    "another answer": ((OK + b"Content-Length: 2\r\n\r\nhi") * 2, False),
    "another answer after chunks": (CHUNKED + b"2\r\nhi\r\n0\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nyo", False),
    "one letter": (CHUNKED + b"2\r\nhi\r\n0\r\n\r\nH", False),
    "an answer after its end": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi" + OK, False),
    "a body of a head": (OK + b"Content-Length: 2\r\n\r\nhi", True),
    "an answer to head and another": (OK + b"Content-Length: 0\r\n\r\n" + OK + b"\r\n", True),
    "a length of a head in chunks": (CHUNKED + b"5", True),
}


@pytest.mark.parametrize(("data", "head_only"), FOLLOWED.values(), ids=FOLLOWED)
def test_more_than_was_asked_ends_the_connection(data: bytes, head_only: bool) -> None:
    async def read(connection: UpstreamConnection) -> bytes:
        body = await body_of(connection)
        assert not connection.is_reusable
        return body

    assert answered(data, 1 << 20, read, head_only=head_only) == (b"" if head_only else b"hi")


@pytest.mark.parametrize("head_only", [False, True])
def test_a_whole_answer_leaves_the_connection_for_another(head_only: bool) -> None:
    async def read(connection: UpstreamConnection) -> bytes:
        body = await body_of(connection)
        assert connection.is_reusable
        return body

    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % ((2, b"") if head_only else (2, b"hi"))
    assert answered(data, 1 << 20, read, head_only=head_only) == (b"" if head_only else b"hi")


def test_a_head_is_given_line_by_line() -> None:
    lines: list[tuple[bytes, bytes]] = []

    async def read(connection: UpstreamConnection) -> bytes:
        lines.extend((await connection.head()).headers)
        return await body_of(connection)

    early = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
    head = OK + b"X-A:\r\nX-B:  b \t\r\nx-b: \xe9\r\nTransfer-Encoding: chunked\r\n\r\n"
    answered(early + head + b"2\r\nhi\r\n0\r\nX-C: late\r\n\r\n", 1, read)
    assert lines == [(b"x-a", b""), (b"x-b", b"b"), (b"x-b", b"\xe9"), (b"transfer-encoding", b"chunked")]


def test_what_came_of_a_body_before_it_broke_is_given() -> None:
    got: list[bytes] = []

    async def read(connection: UpstreamConnection) -> bytes:
        await connection.head()
        got.append((await connection.part())[0])
        return (await connection.part())[0]

    with pytest.raises(BrokenError):
        answered(CHUNKED + b"2\r\nhi\r\nno size\r\n", 1 << 20, read)
    assert got == [b"hi"]


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
