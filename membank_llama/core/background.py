"""`BackgroundWorker`: one thread for work that nobody should wait for.

A job is a generator: each step does a little and yields, so that jobs take turns and a search that waits for a lock
gets it in between. An exception ends the job and not the thread: it is logged, and the job begins again after a pause
that doubles each time it fails.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger("membank_llama")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0
"""Seconds after which a job that failed begins again: at first, and at most."""

BREATH = 0.001
"""Seconds between two steps."""

JobSteps = Iterator[Any]


@dataclass
class _Job:
    start: Callable[[], JobSteps]
    steps: JobSteps | None = None
    due: float = 0.0
    failures: int = 0
    again: bool = False


@dataclass
class _State:
    """What the thread shares with its owner; the thread must not keep the owner alive."""

    wake: threading.Condition = field(default_factory=threading.Condition)
    jobs: dict[Hashable, _Job] = field(default_factory=dict)
    running: Hashable = None
    stopped: bool = False
    threads: list[threading.Thread] = field(default_factory=list)


class BackgroundWorker:
    """Runs jobs one step at a time, each under a name. The thread starts with the first job."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._state = _State()
        # also at interpreter exit: a thread inside native code must not outlive the interpreter
        self._finalizer = weakref.finalize(self, _stop, self._state)

    def submit(self, name: Hashable, start: Callable[[], JobSteps]) -> None:
        """Run this job soon. One of that name that runs already runs once more; one that failed keeps its pause."""
        state = self._state
        with state.wake:
            if state.stopped:
                return
            job = state.jobs.get(name)
            if job is None:
                state.jobs[name] = _Job(start)
            else:
                job.start, job.again = start, job.steps is not None
            if not state.threads:
                thread = threading.Thread(target=_run, args=(state,), name=self._name, daemon=True)
                state.threads.append(thread)
                thread.start()
            state.wake.notify_all()

    def cancel(self, name: Hashable, *, wait: bool = False) -> None:
        """Forget a job. The step it is in goes on to its end; `wait` for that, holding no lock that it may need."""
        state = self._state
        with state.wake:
            job = state.jobs.pop(name, None)
            if wait and threading.current_thread() not in state.threads:
                state.wake.wait_for(lambda: state.running != name or state.stopped)
        # what it tidies up when it goes may need locks of its own: not under ours
        del job

    def pending(self) -> tuple[Hashable, ...]:
        """Names of the jobs that wait or run."""
        with self._state.wake:
            return tuple(self._state.jobs)

    def close(self) -> None:
        """End the thread after the step it is in; what remains is not done. May be called twice."""
        self._finalizer()


def _stop(state: _State) -> None:
    with state.wake:
        state.stopped = True
        jobs, state.jobs = state.jobs, {}
        state.wake.notify_all()
    for thread in state.threads:
        if thread is not threading.current_thread():
            thread.join()
    del jobs


def _run(state: _State) -> None:
    while True:
        with state.wake:
            name, job = _next_due(state)
            while job is None and not state.stopped:
                due = min((waiting.due for waiting in state.jobs.values()), default=None)
                state.wake.wait(None if due is None else max(BREATH, due - time.monotonic()))
                name, job = _next_due(state)
            if state.stopped or job is None:
                return
            # to the end of the line: jobs take turns
            state.jobs[name] = state.jobs.pop(name)
            state.running = name
        _step(state, name, job)
        with state.wake:
            state.running = None
            state.wake.notify_all()
        # a cancelled one ends here, not under the lock
        job = None
        time.sleep(BREATH)


def _next_due(state: _State) -> tuple[Hashable, _Job | None]:
    now = time.monotonic()
    return next(((name, job) for name, job in state.jobs.items() if job.due <= now), (None, None))


def _step(state: _State, name: Hashable, job: _Job) -> None:
    try:
        if job.steps is None:
            job.again = False
            job.steps = job.start()
        next(job.steps)
    except StopIteration:
        with state.wake:
            job.steps, job.failures = None, 0
            if not job.again and state.jobs.get(name) is job:
                del state.jobs[name]
    except Exception as exc:
        with state.wake:
            job.steps = None
            if state.jobs.get(name) is not job:
                # cancelled meanwhile, and what it worked on is gone
                return
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**job.failures)
            job.failures += 1
            job.due = time.monotonic() + pause
        logger.warning("%s failed: %s; it is tried again in %.0f s", name, exc, pause, exc_info=job.failures == 1)
