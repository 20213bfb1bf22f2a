"""`WordWeights`: where a question's words stand in a namespace, and what each of them weighs.

A shared word is worth the more the fewer memories hold it: the square of BM25's inverse document frequency, over
`UNIT`. Names and numbers weigh more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from membank_llama.core.letters import RUN
from membank_llama.core.types import Mask, Rows, Vector
from membank_llama.store.namespace_snapshot import NamespaceSnapshot, places_in
from membank_llama.store.word_index import WordIndex

from .common_words import per_thousand
from .query_terms import UNIT, Term, looked_up, rarities
from .question_encoder import Question
from .relevance_gate import NAMES

COMMON_WORD = 1000
"""Memories from which on a word is left out: reading where it stands takes long, and it tells little."""

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class WordWeights:
    """Where the question's content words stand in a namespace.

    `rows` are the memories that hold any of them, rising; `holds` says which word stands in which of them, bool
    (words, rows); `worth` what each word weighs in the ranking, `evidence` what share of all the gate gives it, and
    `named` which are names of those who speak here: every memory is theirs, whether it holds the name or not. `seen`
    says of each row of the namespace whether it may be seen; None where all may.
    """

    content: bool
    rows: Rows
    holds: Mask
    worth: Vector
    evidence: Vector
    named: Mask
    forms: tuple[tuple[str, ...], ...]
    """Each word in all its forms."""
    rarity: Mapping[str, float]
    """Of every content word of the question, those that are passed over among them, in nats."""
    rarest: float
    """That of a word which stands nowhere."""
    called: Mask
    """Which words are names, in the question, of whom or what does not speak here."""
    strangers: bool
    """Whether no memory holds one of those."""
    unspaced: bool
    """Whether the question is, in part, of a script without spaces, looked up by pairs of letters."""
    snapshot: NamespaceSnapshot
    seen: Mask | None

    def held(self, rows: Rows) -> Mask:
        """Which words some memories hold, shape ``(words, *rows.shape)``; none for row -1. A passage has its
        memory's."""
        heads = self.snapshot.heads(rows) if self.snapshot.passages else rows
        if not len(self.rows):
            return np.zeros((len(self.worth), *heads.shape), np.bool_)
        at = places_in(self.rows, heads)
        found: Mask = self.holds[:, at] & (at >= 0)
        return found

    def best(self) -> Rows:
        """The memories that share any, those that share most first; of equal ones the newer."""
        return self.rows[np.lexsort((-self.rows, -np.einsum("w,wn->n", self.worth, self.holds)))]


@dataclass(frozen=True)
class TermsFound:
    """Which of some words are not passed over, by their places among them, and where those stand: `rows` and `holds` as
    in `WordWeights`, with the rarity of each, and of a word that stands `nowhere` and of one that is passed over."""

    terms: tuple[Term, ...]
    kept: Rows
    rows: Rows
    holds: Mask
    rarity: Vector
    nowhere: float
    common: float


def find_terms(
    index: WordIndex,
    namespace: str,
    asked: Sequence[Term],
    snapshot: NamespaceSnapshot,
    seen: Mask | None,
    lifetimes: int,
) -> TermsFound:
    """Look some words up; a word in more than `COMMON_WORD` memories of the namespace is passed over.

    Args:
        seen: the rows that may be seen; None for all.
        lifetimes: as for `weigh_words`.
    """
    found = index.postings(namespace, [term.forms for term in asked], COMMON_WORD, lifetimes)
    terms = tuple(compress(asked, (ids is not None for ids in found)))
    columns = [np.fromstring(ids, np.int64, sep=",") if ids else _NONE for ids in found if ids is not None]
    # one look for all words; what may not be seen must not fill the candidates
    every = np.concatenate([_NONE, *columns])
    places = snapshot.places(every)
    kept = (places >= 0) if seen is None else (places >= 0) & seen[places]
    word = np.repeat(np.arange(len(columns)), [len(column) for column in columns])[kept]
    rows, at = np.unique(places[kept], return_inverse=True)
    holds = np.zeros((len(columns), len(rows)), np.bool_)
    holds[word, at] = True
    memories = len(snapshot) - snapshot.passages
    background = [*per_thousand([term.word for term in terms]), 0, 0]
    *found_in, nowhere, common = rarities(np.append(holds.sum(axis=1), [0, COMMON_WORD]), memories, background)
    there = np.flatnonzero(np.array([ids is not None for ids in found], np.bool_))
    return TermsFound(terms, there, rows, holds, np.array(found_in, np.float32), float(nowhere), float(common))


def weigh_words(index: WordIndex, question: Question, snapshot: NamespaceSnapshot, lifetimes: int) -> WordWeights:
    """Look the question's words up; a word in more than `COMMON_WORD` memories of the namespace is passed over.

    Args:
        lifetimes: the bank's counter of removals, until which such a word is remembered.
    """
    query = question.query
    seen = snapshot.seen(query.since, query.until, query.exclude, query.only)
    asked = looked_up(query.text)
    found = find_terms(index, query.namespace, asked, snapshot, seen, lifetimes)
    terms, rows, holds, rarity = found.terms, found.rows, found.holds, found.rarity
    names = question.mentions.words
    named = np.array([term.word in names for term in terms], np.bool_)
    emphasis = np.array([term.emphasis for term in terms], np.float32)
    called = np.array([term.emphasis > 1 and term.word.isalpha() for term in terms], np.bool_) & ~named
    counted: Vector = np.where(named, found.nowhere, rarity)
    counted *= np.where((emphasis > 1) | named, np.float32(NAMES), np.float32(1))
    if named.any() and not snapshot.tells_speakers_apart:
        counted[named] = 0
    return WordWeights(
        content=bool(asked),
        rows=rows,
        holds=holds,
        worth=(emphasis * rarity**2 / UNIT).astype(np.float32),
        evidence=counted / np.float32(max(counted.sum(), 1e-9)),
        named=named,
        forms=tuple(term.forms for term in terms),
        rarity=dict.fromkeys((term.word for term in asked), float(found.common))
        | {term.word: rare for term, rare in zip(terms, rarity.tolist(), strict=True)},
        rarest=float(found.nowhere),
        called=called,
        strangers=bool((called & ~holds.any(axis=1)).any()),
        unspaced=RUN.search(query.text) is not None,
        snapshot=snapshot,
        seen=seen,
    )
