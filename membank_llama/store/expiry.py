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

from membank_llama.core.bounded import keep_newest

from .namespace_snapshot import Roster
from .registry import Registry

Ids = npt.NDArray[np.int64]

MOST_NAMESPACES, MOST_MASKS = 256, 16
"""Namespaces whose expired memories are kept in mind, and where they stand in a roster."""


@dataclass(frozen=True)
class _Known:
    lifetimes: int
    until: float
    ids: Ids


@dataclass(frozen=True)
class _Mask:
    roster: Roster
    ids: Ids
    living: npt.NDArray[np.bool_] | None


_NOTHING = _Known(-1, -math.inf, np.zeros(0, np.int64))


class ExpiredIds:
    """The expired memories of one bank, by namespace."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._masks: OrderedDict[str, _Mask] = OrderedDict()
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
            keep_newest(self._known, namespace, _Known(lifetimes, now, ids), MOST_NAMESPACES)
        return ids

    def living(self, namespace: str, roster: Roster, now: float) -> npt.NDArray[np.bool_] | None:
        """Which rows of a roster have not expired, not to be written to; None where all live."""
        ids = self.get(namespace, now)
        with self._lock:
            mask = self._masks.get(namespace)
        if mask is None or mask.roster is not roster or mask.ids is not ids:
            hidden = roster.all_of(ids)
            living = np.ones(len(roster), bool) if len(hidden) else None
            if living is not None:
                living[hidden] = False
            mask = _Mask(roster, ids, living)
            with self._lock:
                keep_newest(self._masks, namespace, mask, MOST_MASKS)
        return mask.living
