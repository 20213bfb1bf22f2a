"""Child processes: what they answer, and that nothing they do reaches the parent."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from membank_llama.core.child_process import ChildError, ChildProcess

MEGABYTE = 1 << 20


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    made = ChildProcess("support.child_tasks:answer", 64 * MEGABYTE)
    yield made
    made.close()


def test_requests_are_answered_in_one_process(child: ChildProcess) -> None:
    assert not child.is_running
    assert child.ask(b"pid", 20) == child.ask(b"pid", 20) != str(os.getpid()).encode()
    assert child.starts == 1
    large = b"echo" + b"x" * (5 * MEGABYTE)
    assert child.ask(large, 20) == large


def test_what_it_prints_is_no_answer(child: ChildProcess) -> None:
    assert child.ask(b"print", 20) == b"printed"
    assert child.ask(b"echo", 20) == b"echo"


@pytest.mark.parametrize("request_", [b"abort", b"fault", b"exit", b"raise"])
def test_its_end_is_told_and_the_next_one_starts(child: ChildProcess, request_: bytes) -> None:
    with pytest.raises(ChildError, match="ended"):
        child.ask(request_, 20)
    assert child.ask(b"echo", 20) == b"echo"
    assert child.starts == 2


def test_its_memory_is_limited(child: ChildProcess) -> None:
    assert child.ask(b"memory 8", 20) == b"enough"
    assert child.ask(b"memory 200", 20) == b"too much"


@pytest.mark.parametrize("request_", [b"loop", b"power", b"unread" + b"x" * (5 * MEGABYTE)])
def test_what_takes_too_long_is_killed(child: ChildProcess, request_: bytes) -> None:
    child.ask(b"echo", 20)
    with pytest.raises(ChildError, match=r"slow|ended"):
        child.ask(request_, 0.5)
    assert child.ask(b"echo", 20) == b"echo"


def test_nobody_waits_any_more(child: ChildProcess) -> None:
    child.ask(b"echo", 20)
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(ChildError, match="cancelled"):
        child.ask(b"loop", 60, cancelled)


def test_closed_while_it_works(child: ChildProcess) -> None:
    child.ask(b"echo", 20)
    threading.Timer(0.3, child.close).start()
    with pytest.raises(ChildError, match="ended"):
        child.ask(b"loop", 60)
    child.close()
    assert not child.is_running


def test_it_ends_by_itself_where_nobody_kills_it(child: ChildProcess) -> None:
    child.ask(b"echo", 20)
    process = child._process
    assert process is not None
    # the parent is gone: it reads the end of its requests
    process.stdin.close()  # type: ignore[union-attr]
    assert process.wait(20) == 0
