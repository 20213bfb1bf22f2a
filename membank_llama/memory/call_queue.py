"""Calls to one native context, one after another.

llama.cpp crashes when two threads use a context, and a stream leaves the context in use between two tokens. So every
call first makes the stream before it run to its end; the chunks that produces wait for whoever reads that stream.
Nobody waits for a slow reader, nothing is lost, and nothing can deadlock.

A stream that its reader drops is ended by whoever comes next, never by the garbage collector: that runs at any moment
in any thread, also in one that holds a lock which ending takes.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

Done = Callable[[str, bool], None]


class ReplyStream:
    """A stream of chunks: reads like the iterator it wraps, and reports the text when it ends.

    Args:
        inner: chunks in llama_cpp's format.
        text_of: the text of a chunk.
        done: called once with all text and whether the stream was cut off.
        guard: entered around every step of `inner`.
    """

    def __init__(
        self,
        inner: Iterator[Any],
        text_of: Callable[[Any], str],
        done: Done,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._inner = inner
        self._text_of = text_of
        self._done = done
        self._guard = guard
        self._mutex = threading.Lock()
        self._ready: deque[Any] = deque()
        self._said: list[str] = []
        self._ended = False
        self._cut = False
        self._dropped: SimpleQueue[Callable[[], None]] | None = None

    def __iter__(self) -> ReplyStream:
        return self

    def __next__(self) -> Any:
        with self._mutex:
            if not self._ready and not self._pull():
                raise StopIteration
            return self._ready.popleft()

    def _pull(self) -> bool:
        """One more chunk; False at the end."""
        if self._ended:
            return False
        if self._cut:
            self._end(partial=True)
            return False
        try:
            with self._guard():
                chunk = next(self._inner)
        except StopIteration:
            self._end(partial=False)
            return False
        except BaseException:
            self._end(partial=True)
            raise
        self._said.append(self._text_of(chunk))
        self._ready.append(chunk)
        return True

    def _end(self, *, partial: bool) -> None:
        self._ended = True
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()
        self._done("".join(self._said), partial)

    def finish(self) -> None:
        """Compute what is left; it waits to be read."""
        with self._mutex:
            while self._pull():
                pass

    def close(self) -> None:
        """Stop here: what was said is kept as cut off."""
        self._cut = True
        with self._mutex:
            self._ready.clear()
            if not self._ended:
                self._end(partial=True)

    def left_to(self, dropped: SimpleQueue[Callable[[], None]]) -> None:
        """Where to leave what is to be done once the reader has dropped this."""
        self._dropped = dropped

    def __del__(self) -> None:
        dropped = getattr(self, "_dropped", None)
        if dropped is not None and not self._ended:
            # a simple queue may be put to from anywhere, the collector included
            dropped.put(partial(_end_dropped, self._inner, self._done, self._said))


def _end_dropped(inner: Iterator[Any], done: Done, said: list[str]) -> None:
    close = getattr(inner, "close", None)
    if close is not None:
        close()
    done("".join(said), True)


class CallQueue:
    """Lets one call at a time use the context."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.ref[ReplyStream] | None = None
        self._dropped: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._local = threading.local()

    @property
    def inside(self) -> bool:
        """Whether this thread is within a call already: chat handlers call the completion methods in turn."""
        return getattr(self._local, "depth", 0) > 0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Marks this thread as within a call."""
        self._local.depth = getattr(self._local, "depth", 0) + 1
        try:
            yield
        finally:
            self._local.depth -= 1

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the context, and have it alone."""
        with self._lock:
            self.settle()
            stream = self._left_open()
            if stream is not None:
                stream.finish()
            self._open = None
            with self.guard():
                yield

    def end(self) -> None:
        """Stop the stream that is open, if one is, and end those that were dropped."""
        self.settle()
        stream = self._left_open()
        if stream is not None:
            stream.close()

    def settle(self) -> None:
        """End the streams that their readers have dropped: what was said is kept as cut off."""
        while True:
            try:
                end = self._dropped.get_nowait()
            except Empty:
                return
            end()

    def _left_open(self) -> ReplyStream | None:
        return self._open() if self._open is not None else None

    def leave_open(self, stream: ReplyStream) -> None:
        """Called within `turn()`: this stream goes on using the context afterwards."""
        stream.left_to(self._dropped)
        self._open = weakref.ref(stream)
