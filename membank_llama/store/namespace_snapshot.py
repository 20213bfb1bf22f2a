"""`NamespaceSnapshot`: what a namespace holds at one moment, as arrays, so that a search need not ask SQLite about
every candidate.

It lists a namespace's memories with what ranking needs of them: slot, times, who speaks, what they do, which are pinned
and which have not expired, and their session, a run of memories of one conversation (or one source) without a pause.
The passages of a long memory are rows of their own right after it, neighbours of each other, `owner` being its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from membank_llama.core.letters import folded
from membank_llama.core.provenance import MODEL_ROLES
from membank_llama.core.text_features import ASKS, GENERIC_ROLES, TELLS_NOTHING
from membank_llama.core.types import Ids, Mask, Numbers, Rows, Times

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
    where there is none; `told` is when it was told last, `speaker` numbers whoever said it then, `speakers` gives each
    number's name, and `acts` what it does (text_features.acts_of); its `tokens` tokens lie from row `token` of their
    file on; `pinned` are ids, and `living` says of each row whether it has not expired (None where all live).
    """

    ids: Ids
    owner: Ids
    slots: Numbers
    created: Times
    told: Times
    session: Numbers
    before: Numbers
    after: Numbers
    speaker: Numbers
    acts: Numbers
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
    def asks(self) -> Mask:
        """Which end with a question."""
        return (self.acts & ASKS) > 0

    @cached_property
    def by_model(self) -> Mask:
        """Which the model said."""
        numbers = [number for name, number in self.speakers.items() if folded(name) in MODEL_ROLES]
        return np.isin(self.speaker, numbers)

    @cached_property
    def tells_nothing(self) -> Mask:
        """In which a person says nothing that could be so."""
        return (self.acts & TELLS_NOTHING) > 0

    @cached_property
    def records(self) -> Mask:
        """Which are no evidence of what is so: those, and what the model said."""
        return self.tells_nothing | self.by_model

    @cached_property
    def mute(self) -> Mask:
        """In which a person tells a model nothing, and so nothing of what stands beside it; people answer each other's
        questions."""
        return self.tells_nothing & self.by_model.any()

    @cached_property
    def statements_by_model(self) -> Mask:
        """In which the model says something, and so nothing of what comes after it."""
        return self.by_model & ~self.asks

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

    def seen(
        self,
        since: float | None,
        until: float | None,
        exclude: Iterable[int] = (),
        only: Iterable[int] | None = None,
    ) -> Mask | None:
        """Which have not expired, were told in ``[since, until)`` or both before and after, and are not excluded, of
        those that are named by `only`; None where all are."""
        parts = [] if self.living is None else [self.living]
        if since is not None:
            parts.append(self.told >= since)
        if until is not None:
            parts.append(self.created < until)
        if excluded := sorted(exclude):
            kept = np.ones(len(self), np.bool_)
            kept[self.all_of(np.array(excluded, np.int64))] = False
            parts.append(kept)
        if only is not None:
            named = np.zeros(len(self), np.bool_)
            named[self.all_of(np.array(sorted(only), np.int64))] = True
            parts.append(named)
        return np.logical_and.reduce(parts) if parts else None
