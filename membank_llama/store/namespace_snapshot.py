"""`NamespaceSnapshots`: what each namespace holds, kept in memory, so that a search need not ask SQLite about every
candidate.

A snapshot lists a namespace's memories with what ranking needs of them: slot, time, who speaks, whether it only asks,
which are pinned and which have not expired, and its session, a run of memories of one conversation (or one source)
without a pause of `PAUSE`. The passages of a long memory are rows of their own right after it, neighbours of each
other, `owner` being its id. Ids only rise, and a memory keeps its slot while the bank keeps its activation file, so a
snapshot is brought up to date by reading what lies above its last id. What another process removed stays listed until
a search finds it gone and calls `drop`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import BankCorruptError
from membank_llama.core.letters import folded
from membank_llama.core.text_features import GENERIC_ROLES
from membank_llama.core.types import Ids, Mask, Numbers, Rows, Times

from .registry import Arrival, BankState, Registry

PAUSE = 6 * 3600.0
"""Seconds of silence after which the same conversation begins a new session."""

PAGE = 2000
MOST_SNAPSHOTS = 256
"""Namespaces whose snapshots are kept in memory; one more is read anew when it is asked for again."""

ALONE = -1
"""The session of what belongs to no conversation and no source."""


def places_in(rising: Ids | Rows, wanted: Ids | Rows) -> Rows:
    """Where each of some numbers stands among rising ones, in the shape of `wanted`; -1 for those that do not."""
    if not len(rising):
        return np.full(wanted.shape, -1, np.intp)
    at = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    found: Rows = np.where(rising[at] == wanted, at, -1)
    return found


@dataclass(frozen=True)
class NamespaceSnapshot:
    """Memories of one namespace and their passages, by rising id.

    `session` numbers runs of memories; `before` and `after` are the rows of the neighbours in the same session, -1
    where there is none; `speaker` numbers whoever says it, `speakers` gives each number's name; its `tokens` tokens lie
    from row `token` of their file on; `pinned` are ids, and `living` says of each row whether it has not expired (None
    where all live).
    """

    ids: Ids
    owner: Ids
    slots: Numbers
    created: Times
    session: Numbers
    before: Numbers
    after: Numbers
    speaker: Numbers
    asks: Mask
    token: Ids
    tokens: Numbers
    speakers: Mapping[str, int]
    passages: int = 0
    """How many rows are no memories."""
    pinned: Sequence[int] = ()
    living: Mask | None = None
    generation: int = -1
    """The bank's, when this was read."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def names(self) -> list[str]:
        """The speakers that are called by a name."""
        return [name for name in self.speakers if folded(name) not in GENERIC_ROLES]

    @property
    def tells_speakers_apart(self) -> bool:
        """Whether several are called by a name: where all is said by one, the name says nothing."""
        return len(self.names) > 1

    def places(self, ids: Ids) -> Rows:
        """Where these ids stand, in their order; -1 for those that are not listed."""
        return places_in(self.ids, ids)

    def rows(self, ids: Ids) -> Rows:
        """Where these ids stand; those that are not listed are left out."""
        found = self.places(ids)
        return found[found >= 0]

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
        found: Rows = self.around(rows, max(0, -distance), max(0, distance))[0 if distance < 0 else -1]
        return found

    def around(self, rows: Rows, back: int, ahead: int) -> Rows:
        """For each of some rows those from `back` places before it to `ahead` after it in the same session, shape
        ``(back + 1 + ahead, n)``, itself in between; -1 where there is none."""
        table = np.empty((back + 1 + ahead, len(rows)), np.intp)
        table[back] = rows
        for step, places in ((self.before, range(back - 1, -1, -1)), (self.after, range(back + 1, back + 1 + ahead))):
            at: Rows = rows
            for place in places:
                at = np.where(at >= 0, step[at], -1)
                # a snapshot in hand may be older than the links
                at[at >= len(self.ids)] = -1
                table[place] = at
        return table

    def seen(self, since: float | None, until: float | None, exclude: Iterable[int] = ()) -> Mask | None:
        """Which have not expired, were created in ``[since, until)`` and are not excluded; None where all are."""
        parts = [] if self.living is None else [self.living]
        if since is not None:
            parts.append(self.created >= since)
        if until is not None:
            parts.append(self.created < until)
        if excluded := sorted(exclude):
            kept = np.ones(len(self), np.bool_)
            kept[self.all_of(np.array(excluded, np.int64))] = False
            parts.append(kept)
        return np.logical_and.reduce(parts) if parts else None


_KINDS: dict[str, Any] = {
    "ids": np.int64, "owner": np.int64, "slots": np.int32, "created": np.float64, "session": np.int32,
    "before": np.int32,
    "after": np.int32, "speaker": np.int32, "asks": np.bool_, "token": np.int64, "tokens": np.int32,
}  # fmt: skip


class _Kept:
    """One snapshot being kept: arrays with room to grow, so that adding one memory copies nothing."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last = 0
        self.generation = -1
        self.count = 0
        self._lifetimes = -1
        self._looked = self._next_expiry = -math.inf
        self._expired: Ids = np.zeros(0, np.int64)
        self._pinned: Sequence[int] = ()
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
            # snapshots handed out before keep the old arrays
            room = max(256, count, 2 * start)
            self._arrays = {
                name: np.concatenate([values[:start], np.zeros(room - start, _KINDS[name])])
                for name, values in self._arrays.items()
                if self._passages or name != "owner"
            }
            self._arrays.setdefault("owner", self._arrays["ids"])
        arrays = self._arrays
        ids, slots, created, keys, speakers, asks, owner, token, tokens = zip(*arrived, strict=True)
        if owner != ids and arrays["owner"] is arrays["ids"]:
            # without passages every row owns itself: one array does for both
            arrays["owner"] = arrays["ids"].copy()
        _check(self.last, ids, slots, created, speakers)
        given = (
            ("ids", ids), ("owner", owner), ("slots", slots), ("created", created), ("asks", asks), ("token", token),
            ("tokens", tokens),
        )  # fmt: skip
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

    def must_look(self, state: BankState, now: float) -> bool:
        """Whether memories may have expired, or been pinned, since the last look."""
        if (state.generation, state.lifetimes) != (self.generation, self._lifetimes):
            return True
        return not self._looked <= now < self._next_expiry

    def look(self, registry: Registry, namespace: str, state: BankState, now: float) -> None:
        """Read what has expired since the last look: time only goes on. Whatever else changes a lifetime (pinning, a
        text told again, removal) moves `state.lifetimes`, and then all is read anew."""
        if state.lifetimes != self._lifetimes or now < self._looked:
            self._looked, self._expired = -math.inf, self._expired[:0]
        expired, self._pinned, self._next_expiry = registry.lifetimes_of(namespace, self._looked, now)
        if expired:
            self._expired = np.union1d(self._expired, np.array(expired, np.int64))
        self._lifetimes, self._looked = state.lifetimes, now

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

    def _still_open(self, keep: Mask) -> Iterator[tuple[str, int]]:
        """The last row that each conversation keeps of its last session."""
        for key, row in self._open.items():
            while row >= 0 and not keep[row]:
                row = int(self._arrays["before"][row])
            if row >= 0:
                yield key, row

    def publish(self) -> None:
        views = {name: values[: self.count] for name, values in self._arrays.items()}
        speakers = dict(self._speakers)
        found = NamespaceSnapshot(
            **views, speakers=speakers, passages=self._passages, pinned=self._pinned, generation=self.generation
        )
        hidden = found.all_of(self._expired)
        if len(hidden):
            living = np.ones(self.count, np.bool_)
            living[hidden] = False
            found = replace(found, living=living)
        self.snapshot = found


def _check(last: int, ids: Sequence[int], slots: Sequence[int], created: Sequence[float], names: Sequence[str]) -> None:
    """Raises ValueError or TypeError where rows are none that were ever written."""
    if min(slots) < 0 or max(slots) >= 1 << 31 or not np.isfinite(created).all():
        raise ValueError("slots or times that are none")
    if not all(isinstance(name, str) for name in names):
        raise TypeError("speakers that are no text")
    if ids[0] <= last or (np.diff(ids) <= 0).any():
        raise ValueError("ids out of order")


class NamespaceSnapshots:
    """The snapshots of one bank, each read when first asked for, under a lock of its own; the `MOST_SNAPSHOTS` asked
    last are kept."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, namespace: str, state: BankState | None = None) -> NamespaceSnapshot:
        """What a namespace holds now, up to date with the registry but for what other processes removed.

        Args:
            state: the bank's, where it was just read.
        """
        state = self._registry.state() if state is None else state
        now = time.time()
        with self._guard:
            kept = self._kept.setdefault(namespace, _Kept())
            if kept.last:
                self._kept.move_to_end(namespace)
        with kept.lock:
            if kept.must_look(state, now):
                self._update(namespace, kept, state, now)
            snapshot = kept.snapshot
        if not kept.last or len(self._kept) > MOST_SNAPSHOTS:
            self._let_go(namespace, kept)
        return snapshot

    def _update(self, namespace: str, kept: _Kept, state: BankState, now: float) -> None:
        if kept.generation != state.generation:
            more = True
            while more:
                arrived = self._registry.arrivals(namespace, kept.last, PAGE)
                more = len(arrived) == PAGE
                try:
                    kept.append(arrived)
                except (TypeError, ValueError, OverflowError) as exc:
                    with self._guard:
                        self._kept.pop(namespace, None)
                    raise BankCorruptError(
                        f"memories of {namespace!r} hold what is no slot or no time: the bank is damaged. membank "
                        "verify names them; restore the bank from a copy, or forget them"
                    ) from exc
        if kept.last:
            kept.look(self._registry, namespace, state, now)
        kept.generation = state.generation
        kept.publish()

    def _let_go(self, namespace: str, kept: _Kept) -> None:
        """Names that nobody stored anything under take no room: anybody can ask for them."""
        with self._guard:
            if not kept.last and self._kept.get(namespace) is kept:
                del self._kept[namespace]
            while len(self._kept) > MOST_SNAPSHOTS:
                self._kept.popitem(last=False)

    def drop(self, namespace: str, ids: Iterable[int]) -> None:
        """These memories of a namespace are gone."""
        with self._guard:
            kept = self._kept.get(namespace)
        if kept is not None:
            with kept.lock:
                kept.drop(np.fromiter(ids, np.int64))

    def clear(self) -> None:
        """Slots have moved: read everything anew."""
        with self._guard:
            self._kept.clear()
