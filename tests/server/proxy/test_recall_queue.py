"""Recalls stand in line, and none is waited for in vain."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from membank_llama.server.proxy import recall_queue
from membank_llama.server.proxy.recall_queue import WORKERS, LateError, RecallQueue

Work = Callable[[threading.Event], str]


@pytest.fixture
def together() -> list[list[str]]:
    return []


@pytest.fixture
def queue(together: list[list[str]]) -> Iterator[RecallQueue]:
    def ahead(texts: Sequence[str]) -> None:
        together.append(list(texts))

    made = RecallQueue(ahead)
    yield made
    made.close()


def held(go: threading.Event, begun: threading.Event | None = None) -> Work:
    def work(late: threading.Event) -> str:
        if begun is not None:
            begun.set()
        assert go.wait(60)
        return "late" if late.is_set() else "in time"

    return work


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_what_stands_before_it_is_no_part_of_its_deadline(queue: RecallQueue) -> None:
    def work(late: threading.Event) -> str:
        time.sleep(0.5)
        return threading.current_thread().name

    async def ask() -> list[str]:
        return await asyncio.gather(*(queue.run(work, 3.0) for _ in range(8)))

    names = asyncio.run(ask())
    assert len(set(names)) == 1, "one after the other"
    assert queue.overdue == 0
    eventually(lambda: not queue.is_busy)


def test_one_that_is_stuck_is_left_behind_and_holds_nobody_up(queue: RecallQueue) -> None:
    go = threading.Event()

    async def ask() -> str:
        with pytest.raises(LateError, match="takes longer than 50 ms"):
            await queue.run(held(go), 0.05)
        assert queue.overdue == 1
        return await queue.run(lambda late: "in time", 20.0)

    assert asyncio.run(ask()) == "in time"
    go.set()
    eventually(lambda: not queue.overdue and not queue.is_busy)
    assert asyncio.run(queue.run(lambda late: "again", 20.0)) == "again"


def test_where_all_are_stuck_nothing_is_begun(queue: RecallQueue) -> None:
    go, begun = threading.Event(), threading.Event()

    async def ask() -> None:
        for _ in range(WORKERS):
            with pytest.raises(LateError):
                await queue.run(held(go), 0.05)
        with pytest.raises(LateError, match="4 recalls are stuck"):
            await queue.run(held(go, begun), 20.0)

    asyncio.run(ask())
    go.set()
    eventually(lambda: not queue.overdue)
    assert not begun.is_set()


def test_one_whose_turn_does_not_come_is_not_begun(queue: RecallQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall_queue, "PATIENCE", 0.01)
    go, first, second = threading.Event(), threading.Event(), threading.Event()

    async def ask() -> str:
        running = asyncio.ensure_future(queue.run(held(go, first), 20.0))
        await asyncio.to_thread(first.wait, 30)
        with pytest.raises(LateError, match="many ask at once"):
            await queue.run(held(go, second), 20.0)
        go.set()
        return await running

    assert asyncio.run(ask()) == "in time"
    eventually(lambda: not queue.is_busy)
    assert not second.is_set()


def test_what_fails_says_so_to_whoever_asked(queue: RecallQueue) -> None:
    def work(late: threading.Event) -> str:
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(queue.run(work, 20.0))
    assert asyncio.run(queue.run(lambda late: "fine", 20.0)) == "fine"


def test_what_waits_together_is_encoded_together(queue: RecallQueue, together: list[list[str]]) -> None:
    go, begun = threading.Event(), threading.Event()

    async def ask() -> None:
        first = asyncio.ensure_future(queue.run(held(go, begun), 20.0, "first"))
        await asyncio.to_thread(begun.wait, 30)
        others = [asyncio.ensure_future(queue.run(lambda late: "x", 20.0, text)) for text in ("a", "", "b", "c")]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *others)

    asyncio.run(ask())
    assert together == [["a", "b", "c"]]
