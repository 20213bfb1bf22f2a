"""Bodies of requests: how long, how slow, how many at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from membank_llama.server import body_budget
from membank_llama.server.asgi import ClientGoneError, Receive, WireError
from membank_llama.server.body_budget import MOST_KEYS, MOST_PARTS, BodyBudget

MEGABYTE = 1 << 20


def given(*parts: bytes, every: float = 0.0) -> Receive:
    """A client that sends these parts, and then nothing."""
    waiting = list(parts)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(every)
        if not waiting:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    return receive


def scope(length: int | str | None = None) -> dict[str, Any]:
    return {"headers": [] if length is None else [(b"content-length", str(length).encode())]}


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(work(), 60)

    return asyncio.run(bounded())


async def taken(intake: BodyBudget, receive: Receive, announced: int | str | None = None) -> bytes:
    async with intake.body(scope(announced), receive) as body:
        return body


def test_a_body_comes_whole() -> None:
    assert run(lambda: taken(BodyBudget(), given(b'{"a', b'": 1}'))) == b'{"a": 1}'
    assert run(lambda: taken(BodyBudget(), given(b""), 0)) == b""


@pytest.mark.parametrize("announced", [None, 3 * MEGABYTE])
def test_a_long_one_is_refused_when_it_has_come(announced: int | None) -> None:
    parts = [bytes(MEGABYTE)] * 3
    with pytest.raises(WireError, match="--max-body") as told:
        run(lambda: taken(BodyBudget(2 * MEGABYTE), given(*parts), announced))
    assert told.value.status == 413


@pytest.mark.parametrize("announced", [10**11, "9" * 5000])
def test_one_without_end_is_not_waited_for(announced: int | str) -> None:
    with pytest.raises(WireError, match="larger") as told:
        run(lambda: taken(BodyBudget(), given(), announced))
    assert told.value.status == 413


def test_drops_keep_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_budget, "BODY_SECONDS", 1.0)
    with pytest.raises(WireError) as told:
        run(lambda: taken(BodyBudget(), given(*[b" "] * 10_000, every=0.15)))
    assert told.value.status == 408
    # as slow, but of a size that takes its time
    assert len(run(lambda: taken(BodyBudget(), given(*[bytes(10_000)] * 10, every=0.15)))) == 100_000


def test_many_at_once_are_told_to_come_again() -> None:
    async def work() -> None:
        intake, text = BodyBudget(MEGABYTE, 10 * MEGABYTE), bytes(MEGABYTE)
        async with AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(intake.body(scope(), given(text)))
            with pytest.raises(WireError) as told:
                await taken(intake, given(text))
            assert (told.value.status, told.value.headers["retry-after"]) == (503, "1")
            # a small one has its place
            assert await taken(intake, given(b"{}")) == b"{}"
        assert await taken(intake, given(text)) == text

    run(work)


def test_what_is_held_is_given_back_whatever_happens() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def work() -> None:
        intake, text = BodyBudget(MEGABYTE, 0), bytes(MEGABYTE)
        for _ in range(20):
            with pytest.raises(ClientGoneError):
                await taken(intake, gone)
            with pytest.raises(WireError):
                await taken(intake, given(text, text))
            with pytest.raises(LookupError):
                async with intake.body(scope(), given(text)):
                    raise LookupError
        assert await taken(intake, given(text)) == text

    run(work)


@pytest.mark.parametrize(("shape", "most"), [([], MOST_PARTS), ({}, MOST_PARTS), ({"a": 0}, MOST_KEYS)])
def test_a_body_that_becomes_much_more_than_it_is(shape: Any, most: int) -> None:
    body = json.dumps([shape] * (most + 1)).encode()
    with pytest.raises(WireError, match="objects and lists"):
        run(lambda: taken(BodyBudget(), given(body)))


def test_json_within_a_text_counts_as_text() -> None:
    inner = json.dumps([{"key": "value"}] * 50_000)
    body = json.dumps({"content": inner}).encode()
    assert run(lambda: taken(BodyBudget(), given(body))) == body
