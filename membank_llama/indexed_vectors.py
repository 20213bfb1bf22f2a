"""`IndexedVectors`: what an index holds of each memory, of a bank that may be switched to another file meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .errors import BankError, BankStorageError
from .registry import Registry
from .types import Vector

MOST_TRIES, SWITCH_SECONDS = 100, 0.02
"""How often, and how far apart, vectors are read again while the bank is switched."""

Fetch = Callable[[npt.NDArray[np.int64], int], Vector]


class IndexedVectors:
    """`fetch(slots, width)` gives what to index of level 2, shape ``(len(slots), width)``, from the activation file
    that is open; `is_current()` says whether that is the one which the registry names."""

    def __init__(self, registry: Registry, fetch: Fetch, is_current: Callable[[], bool]) -> None:
        self._registry = registry
        self._fetch = fetch
        self._is_current = is_current

    def read(self, namespace: str, after: int, width: int, limit: int) -> tuple[list[int], Vector]:
        """Ids above one, at most `limit`, and what to index of them, both of one moment: in another file slots have
        another meaning.

        Raises:
            BankStorageError: the bank is being switched for long.
        """
        for _ in range(MOST_TRIES):
            if self._is_current():
                rows = self._registry.live(namespace, after, limit)
                try:
                    vectors = self._fetch(np.array([slot for _, slot in rows], np.int64), width)
                except BankError:
                    if self._is_current():
                        raise
                else:
                    if self._is_current():
                        return [memory_id for memory_id, _ in rows], vectors
            time.sleep(SWITCH_SECONDS)
        raise BankStorageError(f"{self._registry.path.parent} is being switched to another activation file; try again")
