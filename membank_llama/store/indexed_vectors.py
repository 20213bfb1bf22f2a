"""`IndexedVectors`: what an index holds of each memory, of a bank that may be switched to another file meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import BankError, BankStorageError
from membank_llama.core.types import Vector

from .registry import Registry

MOST_TRIES, SWITCH_SECONDS = 100, 0.02
"""How often, and how far apart, vectors are read again while the bank is switched."""

Fetch = Callable[[npt.NDArray[np.int64], int], Vector]


class IndexedVectors:
    """What `fetch(slots, width)` gives of level 2 is of shape ``(len(slots), width)``; `file()` names the activation
    file it reads, None where the registry names another one already."""

    def __init__(self, registry: Registry, fetch: Fetch, file: Callable[[], str | None]) -> None:
        self._registry = registry
        self._fetch = fetch
        self._file = file

    def read(self, namespace: str, after: int, width: int, limit: int) -> tuple[list[int], Vector]:
        """Ids above one, at most `limit`, and what to index of them, both of one moment: in another file slots have
        another meaning.

        Raises:
            BankStorageError: the bank is being switched for long.
        """
        for _ in range(MOST_TRIES):
            file = self._file()
            if file is None:
                time.sleep(SWITCH_SECONDS)
                continue
            rows = self._registry.live(namespace, after, limit)
            try:
                vectors = self._fetch(np.array([slot for _, slot in rows], np.int64), width)
            except BankError:
                if self._file() == file:
                    raise
                continue
            if self._file() == file:
                return [memory_id for memory_id, _ in rows], vectors
        raise BankStorageError(f"{self._registry.path.parent} is being switched to another activation file; try again")
