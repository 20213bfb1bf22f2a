"""Calls to one context: one after another, streams finished rather than waited for."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from membank_llama.memory.call_queue import CallQueue, ReplyStream


class Context:
    """Notices when two calls use it at once."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._busy = threading.Lock()

    def run(self, name: str, steps: int) -> Iterator[str]:
        for step in range(steps):
            assert self._busy.acquire(blocking=False), "two calls at once"
            try:
                self.log.append(name)
            finally:
                self._busy.release()
            yield f"{name}{step} "


def opened(queue: CallQueue, context: Context, name: str, steps: int, ends: list[tuple[str, bool]]) -> ReplyStream:
    with queue.turn():
        stream = ReplyStream(context.run(name, steps), str, lambda said, cut: ends.append((said, cut)), queue.guard)
        queue.leave_open(stream)
        return stream


def test_a_stream_yields_everything_and_reports_once() -> None:
    ends: list[tuple[str, bool]] = []
    stream = opened(CallQueue(), Context(), "a", 3, ends)
    assert list(stream) == ["a0 ", "a1 ", "a2 "]
    assert list(stream) == []
    assert ends == [("a0 a1 a2 ", False)]


def test_the_next_call_finishes_an_open_stream_first() -> None:
    queue, context, ends = CallQueue(), Context(), []
    first = opened(queue, context, "a", 3, ends)
    assert next(first) == "a0 "
    second = opened(queue, context, "b", 2, ends)
    assert list(second) == ["b0 ", "b1 "]
    assert list(first) == ["a1 ", "a2 "]
    assert context.log == ["a", "a", "a", "b", "b"]
    assert ends == [("a0 a1 a2 ", False), ("b0 b1 ", False)]


def test_a_closed_stream_is_reported_as_cut_off() -> None:
    queue, context, ends = CallQueue(), Context(), []
    stream = opened(queue, context, "a", 5, ends)
    next(stream)
    next(stream)
    stream.close()
    stream.close()
    assert ends == [("a0 a1 ", True)]
    assert list(stream) == []


@pytest.mark.parametrize("comes_next", ["a call", "settle", "end"])
def test_a_dropped_stream_is_reported_as_cut_off_by_whoever_comes_next(comes_next: str) -> None:
    queue, context, ends = CallQueue(), Context(), []
    next(opened(queue, context, "a", 5, ends))
    gc.collect()
    assert ends == [], "the collector ends nothing itself"
    if comes_next == "a call":
        assert list(opened(queue, context, "b", 1, ends)) == ["b0 "]
    elif comes_next == "settle":
        queue.settle()
    else:
        queue.end()
    assert ends[0] == ("a0 ", True)
    queue.settle()
    assert len(ends) == 1 + (comes_next == "a call")


def test_a_stream_is_dropped_while_its_reader_holds_what_ending_takes() -> None:
    queue, context, lock, ends = CallQueue(), Context(), threading.Lock(), []

    def done(said: str, cut: bool) -> None:
        with lock:
            ends.append((said, cut))

    with queue.turn():
        stream = ReplyStream(context.run("a", 3), str, done, queue.guard)
        queue.leave_open(stream)
    next(stream)
    with lock:
        # the last reference goes here, as the collector may let it go anywhere
        del stream
        gc.collect()
    queue.settle()
    assert ends == [("a0 ", True)]


def test_an_error_in_the_stream_reaches_the_reader_and_keeps_what_was_said() -> None:
    def failing() -> Iterator[str]:
        yield "so far "
        raise RuntimeError("decode failed")

    queue, ends = CallQueue(), []
    stream = ReplyStream(failing(), str, lambda said, cut: ends.append((said, cut)), queue.guard)
    assert next(stream) == "so far "
    with pytest.raises(RuntimeError, match="decode failed"):
        next(stream)
    assert ends == [("so far ", True)]


def test_many_threads_share_one_context() -> None:
    queue, context, ends, texts = CallQueue(), Context(), [], {}

    def work(name: str) -> None:
        for _ in range(20):
            texts[name] = "".join(opened(queue, context, name, 5, ends))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 80
    assert {said for said, cut in ends if not cut} == set(texts.values())
    assert not any(cut for _, cut in ends)


def test_inside_is_true_within_a_call_only() -> None:
    queue = CallQueue()
    assert not queue.inside
    with queue.turn():
        assert queue.inside
    assert not queue.inside
