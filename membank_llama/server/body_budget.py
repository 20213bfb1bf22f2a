"""`BodyBudget`: the bodies of requests that are being answered, and the memory that all of them together may take.

A body is held for as long as its request is, and JSON takes many times its length once it is read. So what may be in
flight is bounded by what it will come to in memory, and one request too many is told to come again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .asgi import MAX_BODY_BYTES, ClientGoneError, Receive, Scope, WireError, header

BODY_SECONDS = 30.0
"""The longest silence in the middle of a body; also what a body may take in all, beyond its time at the rate below."""
BODY_BYTES_A_SECOND = 32 * 1024

MOST_MEMORY = 256 * 1024 * 1024
MOST_PARTS = 400_000
MOST_KEYS = 100_000
_COPIES = 4
_DRAINED = 8
_CONTAINER, _STRING = 200, 60
"""Bytes of memory that an object or list, and a string, take beside their text."""


class BodyBudget:
    """Takes bodies in; one for each app, in its event loop.

    Args:
        most_body: bytes of one body.
        most_memory: bytes of memory that all bodies in flight may come to.
    """

    def __init__(self, most_body: int = MAX_BODY_BYTES, most_memory: int = MOST_MEMORY) -> None:
        self._most_body = most_body
        self._left = max(most_memory, 2 * _COPIES * most_body)

    @asynccontextmanager
    async def body(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
        """A request's whole body, which counts as held until the block is left.

        Raises:
            WireError: it is too long, too slow, or has too many parts; or too much is in flight already.
            ClientGoneError: the client hung up.
        """
        await self._refuse_announced(scope, receive)
        taken = 0

        def take(memory: int) -> None:
            nonlocal taken
            if memory > self._left:
                raise WireError(
                    503, "too many large requests at once; ask again", {"retry-after": "1", "connection": "close"}
                )
            self._left -= memory
            taken += memory

        try:
            parts: list[bytes] = []
            async for part in _parts_of_body(receive, self._most_body):
                take(_COPIES * len(part))
                parts.append(part)
            body = b"".join(parts)
            parts.clear()
            take(_weight(body))
            yield body
        finally:
            self._left += taken

    def parts(self, receive: Receive, most: int) -> AsyncIterator[bytes]:
        """A body as it comes, for whoever writes it away and holds nothing of it.

        Raises:
            WireError, ClientGoneError: as `body`.
        """
        return _parts_of_body(receive, most)

    async def _refuse_announced(self, scope: Scope, receive: Receive) -> None:
        announced = header(scope, "content-length") or ""
        if not announced.isdecimal() or (len(announced) < 15 and int(announced) <= self._most_body):
            return
        if len(announced) < 15 and int(announced) <= _DRAINED * self._most_body:
            # many clients read no answer before they have sent all
            async for _ in _parts_of_body(receive, _DRAINED * self._most_body):
                pass
        raise _too_large(self._most_body)


def _weight(body: bytes) -> int:
    """What a body's JSON takes in memory beside its text, about, and rather too much.

    Raises:
        WireError: it has more parts than any conversation.
    """
    containers = body.count(b"{") + body.count(b"[")
    keys = body.count(b'":') - body.count(b'\\":')
    if containers > MOST_PARTS or keys > MOST_KEYS:
        raise WireError(
            400, f"the request has more than {MOST_PARTS:,} objects and lists, or {MOST_KEYS:,} keys; send less at once"
        )
    strings = (body.count(b'"') - body.count(b'\\"')) // 2
    return _CONTAINER * containers + _STRING * max(0, strings)


async def _parts_of_body(receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """The body of a request as it comes.

    Raises:
        WireError: it is longer than `limit` bytes, stopped coming, or comes by drops.
        ClientGoneError: the client hung up.
    """
    size, started = 0, time.monotonic()
    while True:
        # a slow line has time for what it sends; a byte now and then keeps nothing open
        left = started + BODY_SECONDS + size / BODY_BYTES_A_SECOND - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, min(left, BODY_SECONDS)))
        except asyncio.TimeoutError as exc:
            raise WireError(
                408, f"the rest of the request did not come within {BODY_SECONDS:g} s", {"connection": "close"}
            ) from exc
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        yield part
        if not message.get("more_body"):
            return


def _too_large(limit: int) -> WireError:
    """The answer to a body of more than so many bytes."""
    return WireError(
        413,
        f"the request is larger than {limit:,} bytes; send less at once, or start with a larger --max-body",
        {"connection": "close"},
    )
