"""What the gate's sentences reach in a small namespace, all of them asked in one pass.

There every memory is scored anyway, so that what speaks most for any of them is a maximum over a table of sentences and
memories, and the searches one by one, which a person would wait for and 64 people at once for long, need not be made.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from membank_llama.core.types import Rows, Vector
from membank_llama.store.namespace_snapshot import NamespaceSnapshot
from membank_llama.store.registry import BankState
from membank_llama.store.store import Store

from .query_terms import Term, looked_up
from .relevance_gate import COHORT, FULL_WORDS, NAMES, RelevanceGate
from .word_weights import TermsFound, find_terms


@cache
def _terms() -> tuple[tuple[Term, ...], Rows]:
    """The content words of all sentences, and of each the number of its sentence."""
    by_sentence = [looked_up(text) for text in COHORT]
    numbers = np.repeat(np.arange(len(COHORT)), [len(terms) for terms in by_sentence])
    return tuple(term for terms in by_sentence for term in terms), numbers


def reached_at_once(
    store: Store, gate: RelevanceGate, namespace: str, snapshot: NamespaceSnapshot, state: BankState
) -> list[float]:
    """The evidence that each sentence reaches: what speaks most for any memory that may be seen (`evidence`)."""
    seen = snapshot.seen(None, None)
    rows = np.arange(len(snapshot)) if seen is None else np.flatnonzero(seen)
    if not len(rows):
        return [0.0] * len(COHORT)
    spoken = np.float32(FULL_WORDS) * _shares(store, namespace, snapshot, rows, state)
    codes = store.codes(snapshot.slots[rows], 0)
    spreads = gate.cohort_spreads(lambda sentences: store.hierarchy.full_scores(sentences, codes))
    if spreads is not None:
        spoken += np.maximum(spreads, np.float32(0))
    found: list[float] = spoken.max(axis=1).tolist()
    return found


def _shares(store: Store, namespace: str, snapshot: NamespaceSnapshot, rows: Rows, state: BankState) -> Vector:
    """Which share of each sentence's words each memory holds, float32 (sentences, rows), as `WordWeights.evidence`."""
    asked, numbers = _terms()
    found: TermsFound = find_terms(
        store.registry.words, namespace, asked, snapshot, snapshot.seen(None, None), state.lifetimes
    )
    counted = found.rarity * np.array([NAMES if term.emphasis > 1 else 1 for term in found.terms], np.float32)
    sentence = numbers[found.kept]
    total = np.maximum(np.bincount(sentence, counted, len(COHORT)), 1e-9)
    weights = np.zeros((len(COHORT), len(counted)), np.float32)
    weights[sentence, np.arange(len(counted))] = counted / total[sentence]
    shares = np.zeros((len(COHORT), len(snapshot)), np.float32)
    if len(found.rows) and len(counted):
        shares[:, found.rows] = weights @ found.holds.astype(np.float32)
    heads: Rows = snapshot.heads(rows)
    return shares[:, heads]
