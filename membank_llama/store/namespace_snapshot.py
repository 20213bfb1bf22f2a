"""`Rosters`: who is in each namespace, held in memory, so that a search need not ask SQLite about every candidate.

A roster lists a namespace's memories with what ranking needs of them: slot, time, who speaks, whether it only asks,
and its session, a run of memories of one conversation (or one source) without a pause of `PAUSE`. The passages of a
long memory are rows of their own right after it, neighbours of each other, `owner` being its id. Ids only rise, and a
memory keeps its slot while the bank keeps its activation file, so a roster is brought up to date by reading what lies
above its last id. What another process removed stays listed until a search finds it gone and calls `drop`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import BankCorruptError
from membank_llama.core.text_features import GENERIC_ROLES

from .registry import Arrival, Registry

Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]
Times = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int32]

PAUSE = 6 * 3600.0
"""Seconds of silence after which the same conversation begins a new session."""

PAGE = 2000
MOST_ROSTERS = 256
"""Namespaces whose rosters are kept in memory; one more is read anew when it is asked for again."""

ALONE = -1
"""The session of what belongs to no conversation and no source."""


@dataclass(frozen=True)
class Roster:
    """Memories of one namespace and their passages, by rising id.

    `session` numbers runs of memories; `before` and `after` are the rows of the neighbours in the same session, -1
    where there is none; `speaker` numbers whoever says it, `speakers` gives each number's name.
    """

    ids: Ids
    owner: Ids
    slots: Numbers
    created: Times
    session: Numbers
    before: Numbers
    after: Numbers
    speaker: Numbers
    asks: npt.NDArray[np.bool_]
    speakers: Mapping[str, int]
    passages: int = 0
    """How many rows are no memories."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def names(self) -> list[str]:
        """The speakers that are called by a name."""
        return [name for name in self.speakers if name.casefold() not in GENERIC_ROLES]

    @property
    def tells_speakers_apart(self) -> bool:
        """Whether several are called by a name: where all is said by one, the name says nothing."""
        return len(self.names) > 1

    def rows(self, ids: Ids) -> Rows:
        """Where these ids stand; those that are not listed are left out."""
        if not len(self.ids):
            return np.zeros(0, np.intp)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        found: Rows = at[self.ids[at] == ids]
        return found

    def all_of(self, ids: Ids) -> Rows:
        """The rows of these memories and of all their passages."""
        if not self.passages:
            return self.rows(ids)
        # the rows of a memory stand together: owners only rise too
        first, end = np.searchsorted(self.owner, ids, "left"), np.searchsorted(self.owner, ids, "right")
        counts = end - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found: Rows = np.repeat(first, counts) + within
        return found

    def heads(self, rows: Rows) -> Rows:
        """The row of the memory that each of some rows belongs to; -1 stays."""
        if not self.passages:
            return rows
        return np.where(rows >= 0, np.searchsorted(self.owner, self.owner[rows]), -1)

    def neighbours(self, rows: Rows, distance: int) -> Rows:
        """The rows that stand so many places later in the same session (earlier where negative), -1 where none."""
        step = self.after if distance > 0 else self.before
        at = rows.copy()
        for _ in range(abs(distance)):
            at = np.where(at >= 0, step[at], -1)
            # a roster in hand may be older than the links
            at[at >= len(self.ids)] = -1
        return at

    def within(self, since: float | None, until: float | None) -> npt.NDArray[np.bool_] | None:
        """Which were created in ``[since, until)``; None where there is no bound."""
        if since is None and until is None:
            return None
        low, high = -np.inf if since is None else since, np.inf if until is None else until
        inside: npt.NDArray[np.bool_] = (self.created >= low) & (self.created < high)
        return inside


_KINDS: dict[str, Any] = {
    "ids": np.int64, "owner": np.int64, "slots": np.int32, "created": np.float64, "session": np.int32,
    "before": np.int32,
    "after": np.int32, "speaker": np.int32, "asks": np.bool_,
}  # fmt: skip


class _Roll:
    """One roster being kept: arrays with room to grow, so that adding one memory copies nothing."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last = 0
        self.generation = -1
        self.count = 0
        self._arrays: dict[str, npt.NDArray[Any]] = {name: np.zeros(0, kind) for name, kind in _KINDS.items()}
        self._arrays["owner"] = self._arrays["ids"]
        self._speakers: dict[str, int] = {}
        self._sessions = 0
        self._passages = 0
        self._open: dict[str, int] = {}
        """The last row of each conversation."""
        self.publish()

    def append(self, arrived: list[Arrival]) -> None:
        if not arrived:
            return
        start, count = self.count, self.count + len(arrived)
        if count > len(self._arrays["ids"]):
            # rosters handed out before keep the old arrays
            room = max(256, count, 2 * start)
            self._arrays = {
                name: np.concatenate([values[:start], np.zeros(room - start, _KINDS[name])])
                for name, values in self._arrays.items()
                if self._passages or name != "owner"
            }
            self._arrays.setdefault("owner", self._arrays["ids"])
        arrays = self._arrays
        ids, slots, created, keys, speakers, asks, owner = zip(*arrived, strict=True)
        if owner != ids and arrays["owner"] is arrays["ids"]:
            # without passages every row owns itself: one array does for both
            arrays["owner"] = arrays["ids"].copy()
        _check(self.last, ids, slots, created, speakers)
        given = (("ids", ids), ("owner", owner), ("slots", slots), ("created", created), ("asks", asks))
        for name, values in given:
            arrays[name][start:count] = values
        arrays["speaker"][start:count] = [self._speakers.setdefault(name, len(self._speakers)) for name in speakers]
        arrays["before"][start:count] = arrays["after"][start:count] = -1
        arrays["session"][start:count] = ALONE
        for row, (key, own, memory) in enumerate(zip(keys, ids, owner, strict=True), start):
            if own != memory:
                self._passages += 1
                self._continue(row, key)
            elif key is not None:
                self._join(row, key)
        self.last = ids[-1]
        self.count = count

    def _join(self, row: int, key: str) -> None:
        arrays, last = self._arrays, self._open.get(key)
        self._open[key] = row
        if last is not None and abs(arrays["created"][row] - arrays["created"][last]) < PAUSE:
            arrays["before"][row], arrays["after"][last] = last, row
            arrays["session"][row] = arrays["session"][last]
        else:
            arrays["session"][row] = self._sessions
            self._sessions += 1

    def _continue(self, row: int, key: str | None) -> None:
        """A passage stands beside the one before it, also where the memory belongs to no session."""
        arrays, last = self._arrays, row - 1
        arrays["session"][row] = arrays["session"][last]
        arrays["before"][row], arrays["after"][last] = last, row
        if key is not None:
            self._open[key] = row

    def drop(self, gone: Ids) -> None:
        keep = ~np.isin(self._arrays["owner"][: self.count], gone)
        if keep.all():
            return
        arrays = {name: values[: self.count][keep] for name, values in self._arrays.items()}
        places = np.flatnonzero(keep)
        self._open = {key: int(np.searchsorted(places, row)) for key, row in self._still_open(keep)}
        self._arrays, self.count = arrays, len(places)
        self._passages = int((arrays["owner"] != arrays["ids"]).sum())
        if not self._passages:
            arrays["owner"] = arrays["ids"]
        # neighbours close ranks: rows of one session or one memory, in order
        arrays["before"], arrays["after"] = np.full(self.count, -1, np.int32), np.full(self.count, -1, np.int32)
        order = np.argsort(arrays["session"], kind="stable")
        session, owner = arrays["session"][order], arrays["owner"][order]
        linked = (session[1:] == session[:-1]) & ((session[1:] != ALONE) | (owner[1:] == owner[:-1]))
        arrays["before"][order[1:][linked]] = order[:-1][linked]
        arrays["after"][order[:-1][linked]] = order[1:][linked]
        self.publish()

    def _still_open(self, keep: npt.NDArray[np.bool_]) -> Iterator[tuple[str, int]]:
        """The last row that each conversation keeps of its last session."""
        for key, row in self._open.items():
            while row >= 0 and not keep[row]:
                row = int(self._arrays["before"][row])
            if row >= 0:
                yield key, row

    def publish(self) -> None:
        views = {name: values[: self.count] for name, values in self._arrays.items()}
        self.roster = Roster(**views, speakers=dict(self._speakers), passages=self._passages)


def _check(last: int, ids: Sequence[int], slots: Sequence[int], created: Sequence[float], names: Sequence[str]) -> None:
    """Raises ValueError or TypeError where rows are none that were ever written."""
    if min(slots) < 0 or max(slots) >= 1 << 31 or not np.isfinite(created).all():
        raise ValueError("slots or times that are none")
    if not all(isinstance(name, str) for name in names):
        raise TypeError("speakers that are no text")
    if ids[0] <= last or (np.diff(ids) <= 0).any():
        raise ValueError("ids out of order")


class Rosters:
    """The rosters of one bank, each read when first asked for, under a lock of its own; the `MOST_ROSTERS` asked last
    are kept."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._rolls: OrderedDict[str, _Roll] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, namespace: str) -> Roster:
        """The roster of a namespace, up to date with the registry but for what other processes removed."""
        generation = self._registry.generation
        with self._guard:
            roll = self._rolls.setdefault(namespace, _Roll())
        with roll.lock:
            if roll.generation != generation:
                while arrived := self._registry.arrivals(namespace, roll.last, PAGE):
                    try:
                        roll.append(arrived)
                    except (TypeError, ValueError, OverflowError) as exc:
                        with self._guard:
                            self._rolls.pop(namespace, None)
                        raise BankCorruptError(
                            f"memories of {namespace!r} hold what is no slot or no time: the bank is damaged. membank "
                            "verify names them; restore the bank from a copy, or forget them"
                        ) from exc
                roll.publish()
                roll.generation = generation
            roster = roll.roster
        self._keep(namespace, roll)
        return roster

    def _keep(self, namespace: str, roll: _Roll) -> None:
        """Names that nobody stored anything under take no room: anybody can ask for them."""
        with self._guard:
            if self._rolls.get(namespace) is not roll:
                return
            if not roll.last:
                del self._rolls[namespace]
                return
            self._rolls.move_to_end(namespace)
            if len(self._rolls) > MOST_ROSTERS:
                self._rolls.popitem(last=False)

    def drop(self, namespace: str, ids: Iterable[int]) -> None:
        """These memories of a namespace are gone."""
        with self._guard:
            roll = self._rolls.get(namespace)
        if roll is not None:
            with roll.lock:
                roll.drop(np.fromiter(ids, np.int64))

    def clear(self) -> None:
        """Slots have moved: read everything anew."""
        with self._guard:
            self._rolls.clear()
