"""`PageJobs`: long work on a bank that a page began, in a thread of its own: how far it is, and how it ended.

Of each kind one runs at a time; how the last one ended stays to be looked at.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from membank_llama.core.errors import InvalidInputError, MembankError
from membank_llama.core.types import Progress

from ..asgi import outward

logger = logging.getLogger("membank_llama")

MOST_KEPT = 256


@dataclass
class PageJob:
    """One piece of work.

    Args:
        result: what it gave; None until it ended, or where it failed.
        error: why it failed.
    """

    kind: str
    began: float = field(default_factory=time.time)
    label: str = ""
    done: int = 0
    total: int = 0
    ended: float | None = None
    result: Any = None
    error: str | None = None

    @property
    def runs(self) -> bool:
        """Whether it goes on."""
        return self.ended is None

    def progress(self, label: str, done: int, total: int) -> None:
        """Note how far it is."""
        self.label, self.done, self.total = label, done, total


class PageJobs:
    """The work of one page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, PageJob] = {}

    def get(self, kind: str) -> PageJob | None:
        """The work of this kind that runs, or that ran last."""
        return self._jobs.get(kind)

    def begin(self, kind: str, work: Callable[[Progress], Any]) -> PageJob:
        """Begin some work.

        Raises:
            InvalidInputError: the same runs already.
        """
        with self._lock:
            known = self._jobs.get(kind)
            if known is not None and known.runs:
                raise InvalidInputError("this is going on already; wait until it is done")
            if known is None and len(self._jobs) >= MOST_KEPT:
                self._drop_oldest()
            job = self._jobs[kind] = PageJob(kind)
        threading.Thread(target=_work, args=(job, work), name="membank-page", daemon=True).start()
        return job

    def drop(self, kind: str) -> None:
        """Forget how work of this kind ended."""
        with self._lock:
            known = self._jobs.get(kind)
            if known is not None and not known.runs:
                del self._jobs[kind]

    def _drop_oldest(self) -> None:
        ended = [job for job in self._jobs.values() if not job.runs]
        if not ended:
            raise InvalidInputError("too much is going on at once; wait until some of it is done")
        del self._jobs[min(ended, key=lambda job: job.began).kind]


def _work(job: PageJob, work: Callable[[Progress], Any]) -> None:
    try:
        job.result = work(job.progress)
    except MembankError as exc:
        job.error = outward(exc)
    except Exception:
        logger.exception("the page's work failed")
        job.error = "it failed; the log of membank says why"
    job.ended = time.time()
