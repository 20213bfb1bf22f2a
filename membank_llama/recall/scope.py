"""Where a search takes place, and where the question's words stand there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from membank_llama.core.types import Vector
from membank_llama.store.namespace_snapshot import Roster, Rows
from membank_llama.store.store import Store

from . import query_terms
from .query import RecallQuery
from .relevance_gate import NAMES
from .speakers import named_in

COMMON_WORD = 1000
"""Memories from which on a word is left out: reading where it stands takes long, and it tells little."""


@dataclass(frozen=True)
class SharedWords:
    """Where the question's content words stand in a namespace.

    `rows` are the memories that hold any of them, rising; `holds` says which word stands in which of them, bool
    (words, rows); `worth` what each word weighs in the ranking, `evidence` what share of all the gate gives it, and
    `named` which are names of those who speak here: every memory is theirs, whether it holds the name or not.
    """

    content: bool
    rows: Rows
    holds: npt.NDArray[np.bool_]
    worth: Vector
    evidence: Vector
    named: npt.NDArray[np.bool_]
    forms: tuple[tuple[str, ...], ...]
    """Each word in all its forms."""
    roster: Roster

    def held(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which words each of some memories holds, bool (words, n); none for row -1. A passage has its memory's."""
        rows = self.roster.heads(rows)
        if not len(self.rows):
            return np.zeros((len(self.worth), len(rows)), bool)
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        found: npt.NDArray[np.bool_] = self.holds[:, at] & (self.rows[at] == rows)
        return found

    def best(self, limit: int) -> Rows:
        """The memories that share most; of equal ones the newer."""
        return self.rows[np.lexsort((-self.rows, -np.einsum("w,wn->n", self.worth, self.holds)))[:limit]]


@dataclass(frozen=True)
class Scope:
    """Where a search takes place: the namespace, and which of it may be seen: neither outside the times asked for,
    nor excluded, nor expired."""

    roster: Roster
    seen: npt.NDArray[np.bool_] | None

    def visible(self, rows: Rows) -> Rows:
        """Those of some rows that may be seen."""
        return rows if self.seen is None else rows[self.seen[rows]]

    def neighbours(self, rows: Rows, distance: int) -> Rows:
        """The rows so far away in the same session, -1 where there is none or none that may be seen."""
        near = self.roster.neighbours(rows, distance)
        return near if self.seen is None else np.where((near >= 0) & self.seen[near], near, -1)


def scope_of(store: Store, query: RecallQuery) -> Scope:
    """What a question may see."""
    roster = store.rosters.get(query.namespace)
    parts = [roster.within(query.since, query.until), store.expired.living(query.namespace, roster, time.time())]
    if query.exclude:
        kept = np.ones(len(roster), bool)
        kept[roster.all_of(np.array(sorted(query.exclude), np.int64))] = False
        parts.append(kept)
    masks = [mask for mask in parts if mask is not None]
    return Scope(roster, np.logical_and.reduce(masks) if masks else None)


def shared_words(store: Store, query: RecallQuery, scope: Scope) -> SharedWords:
    """Look the question's words up; a word in more than `COMMON_WORD` memories of the namespace is passed over."""
    asked = query_terms.looked_up(query.text)
    wanted = [term.forms for term in asked]
    found = store.registry.words.postings(query.namespace, wanted, COMMON_WORD, store.registry.lifetimes)
    known = [ids is not None for ids in found]
    postings = [
        # what may not be seen must not fill the candidates
        scope.visible(scope.roster.rows(np.sort(np.fromstring(ids, np.int64, sep=","))))
        for ids in found
        if ids
    ]
    rows = np.unique(np.concatenate([np.zeros(0, np.intp), *postings]))
    memories = len(scope.roster) - scope.roster.passages
    here = iter(postings)
    columns = [next(here) if ids else np.zeros(0, np.intp) for ids in compress(found, known)]
    holds = np.zeros((len(columns), len(rows)), bool)
    for word, column in enumerate(columns):
        holds[word, np.searchsorted(rows, column)] = True
    terms = list(compress(asked, known))
    rarity = np.array([query_terms.rarity(len(column), memories) for column in columns], np.float32)
    names = {word.casefold() for name in named_in(query.text, scope.roster) for word in name.split()}
    named = np.array([term.word in names for term in terms], bool)
    emphasis = np.array([term.emphasis for term in terms], np.float32)
    counted: Vector = np.where(named, np.float32(query_terms.rarity(0, memories)), rarity)
    counted *= np.where((emphasis > 1) | named, np.float32(NAMES), np.float32(1))
    if not scope.roster.tells_speakers_apart:
        counted[named] = 0
    return SharedWords(
        bool(asked), rows, holds, (emphasis * rarity**2 / query_terms.UNIT).astype(np.float32),
        counted / np.float32(max(counted.sum(), 1e-9)), named, tuple(term.forms for term in terms), scope.roster,
    )  # fmt: skip
