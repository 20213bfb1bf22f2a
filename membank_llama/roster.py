"""`Rosters`: who is in each namespace, held in memory, so that a search need not ask SQLite about every candidate.

A roster lists id, slot and time of a namespace's memories. Ids only rise, and a memory keeps its slot while the bank
keeps its activation file, so a roster is brought up to date by reading what lies above its last id. What another
process removed stays listed until a search finds it gone and calls `drop`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .registry import Registry

PAGE = 1 << 15

Ids = npt.NDArray[np.int64]
Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Roster:
    """Memories of one namespace, by rising id. `alone`: the bank has no other namespace."""

    ids: Ids
    slots: Ids
    created: Times
    alone: bool

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Ids) -> npt.NDArray[np.intp]:
        """Where these ids stand; those that are not listed are left out."""
        if not len(self.ids):
            return np.zeros(0, np.intp)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        found: npt.NDArray[np.intp] = at[self.ids[at] == ids]
        return found

    def within(self, since: float | None, until: float | None) -> npt.NDArray[np.bool_] | None:
        """Which were created in ``[since, until)``; None where there is no bound."""
        if since is None and until is None:
            return None
        low, high = -np.inf if since is None else since, np.inf if until is None else until
        inside: npt.NDArray[np.bool_] = (self.created >= low) & (self.created < high)
        return inside


class _Roll:
    """One roster being kept: arrays with room to grow, so that adding one memory copies nothing."""

    def __init__(self) -> None:
        self.last = 0
        self.generation = -1
        self.count = 0
        self.ids: Ids = np.zeros(0, np.int64)
        self.slots: Ids = np.zeros(0, np.int64)
        self.created: Times = np.zeros(0, np.float64)
        self.roster = Roster(self.ids, self.slots, self.created, alone=True)

    def append(self, rows: list[tuple[int, int, float]]) -> None:
        count = self.count + len(rows)
        if count > len(self.ids):
            # rosters handed out before keep the old arrays
            room = max(256, count, 2 * self.count)
            self.ids, self.slots = self._grown(self.ids, room), self._grown(self.slots, room)
            self.created = np.concatenate([self.created[: self.count], np.zeros(room - self.count)])
        if rows:
            ids, slots, created = zip(*rows, strict=True)
            self.ids[self.count : count] = ids
            self.slots[self.count : count] = slots
            self.created[self.count : count] = created
            self.last = ids[-1]
        self.count = count

    def _grown(self, values: Ids, room: int) -> Ids:
        return np.concatenate([values[: self.count], np.zeros(room - self.count, np.int64)])

    def drop(self, gone: Ids) -> None:
        keep = ~np.isin(self.ids[: self.count], gone)
        self.ids, self.slots = self.ids[: self.count][keep], self.slots[: self.count][keep]
        self.created = self.created[: self.count][keep]
        self.count = len(self.ids)
        self.publish(self.roster.alone)

    def publish(self, alone: bool) -> None:
        n = self.count
        self.roster = Roster(self.ids[:n], self.slots[:n], self.created[:n], alone)


class Rosters:
    """The rosters of one bank, each read when first asked for."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._rolls: dict[str, _Roll] = {}
        self._lock = threading.Lock()

    def get(self, namespace: str) -> Roster:
        """The roster of a namespace, up to date with the registry but for what other processes removed."""
        generation = self._registry.generation
        with self._lock:
            roll = self._rolls.setdefault(namespace, _Roll())
            if roll.generation != generation:
                # page by page: a million rows as Python objects take as much room as the index
                while rows := self._registry.arrivals(namespace, roll.last, PAGE):
                    roll.append(rows)
                roll.publish(self._registry.is_alone(namespace))
                roll.generation = generation
            return roll.roster

    def drop(self, ids: Iterable[int]) -> None:
        """These memories are gone."""
        gone = np.fromiter(ids, np.int64)
        with self._lock:
            for roll in self._rolls.values():
                roll.drop(gone)

    def clear(self) -> None:
        """Slots have moved: read everything anew."""
        with self._lock:
            self._rolls.clear()
