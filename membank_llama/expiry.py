"""`ExpiredIds`: what of each namespace has expired, without asking for all of it at every search.

Time only goes on, so what has expired since the last look is read and added. What else changes a lifetime (pinning, a
text told again, removal) moves the registry's counter `lifetimes`, and the namespace is then read anew.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .registry import Registry

Ids = npt.NDArray[np.int64]

MOST_NAMESPACES = 256
"""Namespaces whose expired memories are kept in mind."""


@dataclass(frozen=True)
class _Known:
    lifetimes: int
    until: float
    ids: Ids


_NOTHING = _Known(-1, -math.inf, np.zeros(0, np.int64))


class ExpiredIds:
    """The expired memories of one bank, by namespace."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, namespace: str, now: float) -> Ids:
        """Ids of what has expired by `now` and is not pinned, rising."""
        lifetimes = self._registry.lifetimes
        with self._lock:
            known = self._known.get(namespace, _NOTHING)
            if known.lifetimes != lifetimes or now < known.until:
                known = _NOTHING
        since = known.until
        more = self._registry.expired(namespace, since, now)
        ids = np.union1d(known.ids, np.array(more, np.int64)) if more else known.ids
        with self._lock:
            self._known[namespace] = _Known(lifetimes, now, ids)
            self._known.move_to_end(namespace)
            while len(self._known) > MOST_NAMESPACES:
                self._known.popitem(last=False)
        return ids
