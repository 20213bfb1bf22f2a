"""`Calibrator`: has a bank find its axes as it grows, behind whoever fills it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from membank_llama.core.errors import BankStorageError
from membank_llama.core.types import Progress
from membank_llama.hgns.axes import ANISOTROPIC, anisotropy
from membank_llama.recall.question_encoder import QuestionEncoder
from membank_llama.store.maintenance import calibrate
from membank_llama.store.maintenance.rewrite import CALIBRATING
from membank_llama.store.store import Store

logger = logging.getLogger("membank_llama")


class Calibrator:
    """Of one bank; `encoder` encodes the sentences by which a model's vectors are judged."""

    def __init__(self, store: Store, encoder: QuestionEncoder) -> None:
        self._store = store
        self._encoder = encoder
        self._until_due = 0

    def soon(self, told: int = 0) -> None:
        """In the background, where the bank has grown so far by `told` vectors more."""
        self._until_due -= told
        if self._until_due > 0:
            return
        if calibrate.is_due(self._store):
            self._store.worker.submit(CALIBRATING, self._steps)
        self._until_due = calibrate.until_due(self._store)

    def now(self, progress: Progress | None) -> None:
        """What the background was to do. A disk that refuses leaves the bank along the axes it had."""
        self._store.worker.cancel(CALIBRATING, wait=True)
        try:
            for done, total in self._steps():
                if progress is not None and total:
                    progress(CALIBRATING, done, total)
        except BankStorageError as exc:
            logger.warning("what was told is stored, along the axes the bank had; it tries again: %s", exc)

    def _steps(self) -> Iterator[tuple[int, int]]:
        """Yields how many vectors are written along the new axes, of how many."""
        if not calibrate.is_due(self._store):
            return
        for _ in self._encoder.encoding_cohort():
            yield 0, 0
        cohort = self._encoder.cohort()
        correct = None if cohort is None else anisotropy(cohort.vectors) >= ANISOTROPIC
        yield from calibrate.recalibrating(self._store, correct=correct)
