"""The background's thread: jobs take turns, and no job that fails ends it."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator

import pytest
from support.banks import wait_for

from membank_llama.core import background
from membank_llama.core.background import BackgroundWorker


@pytest.fixture
def worker() -> Iterator[BackgroundWorker]:
    made = BackgroundWorker("membank-test")
    yield made
    made.close()


def test_jobs_take_turns(worker: BackgroundWorker) -> None:
    seen: list[str] = []
    both = threading.Barrier(2)

    def job(name: str) -> Iterator[None]:
        for _ in range(3):
            seen.append(name)
            yield

    def first() -> Iterator[None]:
        both.wait(10)
        yield from job("a")

    worker.submit("a", first)
    worker.submit("b", lambda: job("b"))
    both.wait(10)
    wait_for(lambda: not worker.pending())
    assert seen.count("a") == seen.count("b") == 3
    assert seen != sorted(seen), "neither waits for the other's end"


def test_one_exception_ends_a_job_and_not_the_thread(
    worker: BackgroundWorker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.05)
    tries: list[int] = []
    done = threading.Event()

    def failing() -> Iterator[None]:
        yield
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("the disk is made of cheese")

    def working() -> Iterator[None]:
        yield
        done.set()

    with caplog.at_level(logging.WARNING, "membank_llama"):
        worker.submit("failing", failing)
        wait_for(lambda: tries)
        worker.submit("working", working)
        assert done.wait(10), "others go on"
        wait_for(lambda: not worker.pending())
    assert len(tries) == 3
    pauses = [record.getMessage() for record in caplog.records if "cheese" in record.getMessage()]
    assert len(pauses) == 2
    assert caplog.records[0].exc_info is not None, "the first failure comes with its traceback"


def test_pauses_grow_and_end(worker: BackgroundWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(background, "LONGEST_PAUSE", 0.01)
    tries: list[int] = []

    def failing() -> Iterator[None]:
        tries.append(1)
        raise OSError("no")
        yield

    worker.submit("failing", failing)
    wait_for(lambda: len(tries) > 6)
    worker.cancel("failing")
    assert worker.pending() == ()


def test_a_job_that_is_asked_for_again_while_it_runs_runs_once_more(worker: BackgroundWorker) -> None:
    runs: list[int] = []
    inside, go = threading.Event(), threading.Event()

    def job() -> Iterator[None]:
        runs.append(1)
        inside.set()
        go.wait(10)
        yield

    worker.submit("job", job)
    assert inside.wait(10)
    for _ in range(5):
        worker.submit("job", job)
    go.set()
    wait_for(lambda: not worker.pending())
    assert len(runs) == 2


def test_what_a_cancelled_job_tidies_up_may_submit_others(worker: BackgroundWorker) -> None:
    inside, go, tidied = threading.Event(), threading.Event(), threading.Event()

    def job() -> Iterator[None]:
        try:
            inside.set()
            go.wait(10)
            yield
            yield
        finally:
            # needs the worker's own lock
            worker.pending()
            tidied.set()

    worker.submit("job", job)
    assert inside.wait(10)
    threading.Timer(0.2, go.set).start()
    worker.cancel("job", wait=True)
    assert go.is_set(), "its step is over"
    assert tidied.wait(10)


def test_closed_it_does_nothing_and_it_goes_with_its_owner() -> None:
    worker = BackgroundWorker("membank-gone")
    worker.submit("job", lambda: iter([1, 2, 3]))
    worker.close()
    worker.close()
    worker.submit("job", lambda: iter([1]))
    assert worker.pending() == ()
    BackgroundWorker("membank-dropped").submit("job", lambda: iter([1]))
    gc.collect()
    wait_for(lambda: not any(thread.name == "membank-dropped" for thread in threading.enumerate()))
