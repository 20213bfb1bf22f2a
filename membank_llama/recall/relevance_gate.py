"""The relevance gate: a memory that has nothing to do with the question is not injected.

A cosine means something else in every encoder, so it is not compared with a constant. The question is also held
against a few dozen sentences about nothing in particular; their mean and spread say what "unrelated" looks like
for this question in this encoder, and a memory's score is counted in those spreads (cohort normalisation, as
speaker verification does it: Auckenthaler et al. 2000, doi:10.1006/dspr.1999.0360). What speaks for a memory is

    evidence = spreads + FULL_WORDS × share of the question's words that it holds.

So many spreads as `ALONE` are enough without any word. Else the bank says how much evidence is: the same sentences are
asked of it as questions, each judged by the others, and what they reach is what chance reaches in this bank with this
encoder. A memory must go beyond it: FLOOR + RISE × the evidence that `QUANTILE` of the unrelated questions stay below.
A text without content words recalls nothing.

To measure it takes as many searches as there are sentences. Small namespaces are measured at once; a large one in the
background, and until then it goes by what it was measured at before, or else by `PROVISIONAL`. What was measured is
kept with the bank.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from membank_llama.core.bounded import keep_newest
from membank_llama.core.errors import BankStorageError
from membank_llama.core.types import Vector
from membank_llama.store.store import Store

logger = logging.getLogger("membank_llama")

FULL_WORDS = 15.0
"""Spreads that a memory with all of the question's content words is worth, each word by its rarity."""

NAMES = 2.0
"""What a name or a number counts beside other words: a question about an unknown name has no answer here."""

FLOOR, RISE, QUANTILE = 5.0, 0.8, 0.8
"""Chosen with FULL_WORDS and NAMES on LoCoMo's conversations and on everyday banks of 1, 3 and 20 memories with two
encoders (tests/recall/test_recall_quality.py), from the middle of the region where both hold; docs/recall.md."""

ALONE = 7.5
"""Spreads that open the gate whatever the words: a person's own questions seldom share one with what answers them
(benchmarks/everyday.py). Not measured on the bank as the rest is: notes that read like the sentences would raise it,
and what must stay out are questions."""

COHORT = (
    "The museum opens at nine and closes at five on weekdays.",
    "How long does it take to boil an egg?",
    "The river flows north before it turns towards the sea.",
    "Please restart the printer and load some paper.",
    "A triangle with equal sides has equal angles.",
    "The committee postponed its decision until next month.",
    "What is the capital of Mongolia?",
    "Copper conducts heat better than steel.",
    "She parked the van behind the old bakery.",
    "Update the driver, then reboot the computer.",
    "The orchestra tuned up while the audience sat down.",
    "Which planet has the most moons?",
    "Prices rose by two percent in the third quarter.",
    "The goalkeeper saved a penalty in the last minute.",
    "Sort the list and remove every second element.",
    "Bees tell each other where flowers are by dancing.",
    "He painted the fence green and the gate white.",
    "The ferry was late because of thick fog.",
    "Why do leaves change colour in autumn?",
    "Mix the flour with water and let the dough rest.",
    "The court ruled in favour of the tenants.",
    "Thank you, that was very helpful.",
    "A new bridge will connect the two villages.",
    "I would like a table for two by the window.",
)

COHORT_TAG = hashlib.sha256("\n".join(COHORT).encode()).hexdigest()[:8]
"""Names the sentences, so that vectors kept of others are not taken for theirs."""


STEPS, FEW_MEMORIES = 4, 1024
"""How often the gate measures itself while a bank doubles; below so many memories once: a new one soon doubles."""

MEASURED_AT_ONCE = 512
"""Memories and passages up to which two dozen searches take no longer than a person notices."""

PROVISIONAL = 11.0
"""What a large namespace asks for before it was ever measured: between what LoCoMo's conversations and made-up
banks come to."""

MOST_NAMESPACES = 1024
"""Namespaces whose thresholds are kept in mind; others are read from the bank again."""

Reached = Callable[[], Iterator[float]]
"""The evidence that each unrelated sentence reaches, one search at a time."""


@dataclass(frozen=True)
class Verdict:
    """Whether a memory is relevant, the evidence for it and how much would have been enough, and for people what spoke
    for it or against it."""

    relevant: bool
    reason: str
    evidence: float = 0.0
    enough: float = 0.0


class RelevanceGate:
    """Counts cosines in spreads above unrelated text.

    Args:
        cohort: `COHORT` encoded and corrected as the bank's vectors are, shape ``(n, dim)``, unit rows; None where
            there is no encoder.
        raw: the same as the encoder gives it; None where nothing is corrected.
    """

    def __init__(self, cohort: Vector | None, raw: Vector | None = None) -> None:
        self._cohort = cohort
        self._raw = cohort if raw is None else raw
        self._last: tuple[Vector, float, float] | None = None

    def spreads(self, query: Vector | None, scores: Vector) -> Vector:
        """Cosines of memories with the query, counted in spreads of unrelated text; zeros without a query.

        Without a cohort the vectors are taken to point anywhere, where cosines spread by 1/√dim around 0.
        """
        if query is None:
            return np.zeros(len(scores), np.float32)
        if self._cohort is None:
            return (scores * math.sqrt(len(query))).astype(np.float32)
        mean, spread = self._unrelated(self._cohort, query)
        return ((scores - mean) / spread).astype(np.float32)

    def _unrelated(self, cohort: Vector, query: Vector) -> tuple[float, float]:
        """Mean and spread of the cohort's cosines; the levels of one search ask for the same query."""
        last = self._last
        if last is None or last[0] is not query:
            cosines = cohort @ query
            self._last = last = (query, float(cosines.mean()), max(float(cosines.std()), 1e-6))
        return last[1], last[2]

    def without(self, place: int) -> RelevanceGate:
        """The gate that one of the cohort's sentences is judged by when it is asked itself."""
        if self._cohort is None or self._raw is None:
            return self
        return RelevanceGate(np.delete(self._cohort, place, axis=0), np.delete(self._raw, place, axis=0))

    def cohort_spreads(self, score: Callable[[Vector], Vector]) -> Vector | None:
        """The same as `spreads` of each of the cohort's sentences, judged by the others, (sentences, n); None without
        an encoder.

        Args:
            score: cosines of some memories with several questions, (questions, n).
        """
        cohort = self._cohort
        if cohort is None:
            return None
        others = (cohort @ cohort.T)[~np.eye(len(cohort), dtype=np.bool_)].reshape(len(cohort), -1)
        spread = np.maximum(others.std(axis=1, keepdims=True), np.float32(1e-6))
        found: Vector = (score(cohort) - others.mean(axis=1, keepdims=True)) / spread
        return found

    def question(self, place: int) -> Vector | None:
        """One of the cohort's sentences as the encoder gives it."""
        return None if self._raw is None else self._raw[place]


def evidence(spreads: float, share: float) -> float:
    """What speaks for a memory.

    Args:
        spreads: see `RelevanceGate.spreads`.
        share: of the question's content words, 0 to 1, weighed by rarity.
    """
    return max(0.0, spreads) + FULL_WORDS * share


def needed(unrelated: Sequence[float]) -> float:
    """The evidence that opens the gate, from what unrelated questions reach in the bank."""
    return FLOOR + RISE * float(np.quantile(unrelated, QUANTILE)) if len(unrelated) else FLOOR


def judged(spreads: Vector, shares: Vector, enough: float, *, content: bool = True) -> list[Verdict]:
    """Decide on some memories; `content`: whether the question has content words at all."""
    return [_judged(*one, enough, content) for one in zip(spreads.tolist(), shares.tolist(), strict=True)]


def _judged(spreads: float, share: float, enough: float, content: bool) -> Verdict:
    found = evidence(spreads, share)
    relevant = content and (found >= enough or spreads >= ALONE)
    by_meaning = f"; {ALONE:g} spreads are enough" if relevant and found < enough else ""
    return Verdict(
        relevant,
        f"{'relevant' if relevant else 'not relevant'}: {spreads:+.1f} spreads above unrelated text, {share:.0%} of "
        f"the words; evidence {found:.1f} of {enough:.1f}{by_meaning}",
        found,
        enough,
    )


@dataclass(frozen=True)
class _Known:
    """What was measured, of what."""

    of: str
    enough: float


class GateThresholds:
    """Of one store; `encoder` names what encodes the questions."""

    def __init__(self, store: Store, encoder: str) -> None:
        self._store = store
        self._encoder = encoder
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, namespace: str, count: int, reached: Reached) -> float:
        """The evidence that opens the gate in a namespace of `count` memories and passages."""
        known, wanted = self._last(namespace), self._wanted(count)
        if known is not None and known.of == wanted:
            return known.enough
        if count <= MEASURED_AT_ONCE:
            return self._keep(namespace, _Known(wanted, needed(list(reached()))))
        self._store.worker.submit(("gate", namespace), partial(self._measuring, namespace, wanted, reached))
        return PROVISIONAL if known is None else known.enough

    def measure(self, namespace: str, count: int, reached: Reached) -> None:
        """Measure now what would be measured in the background."""
        known, wanted = self._last(namespace), self._wanted(count)
        if known is None or known.of != wanted:
            self._store.worker.cancel(("gate", namespace))
            deque(self._measuring(namespace, wanted, reached), maxlen=0)

    def _wanted(self, count: int) -> str:
        """What a measurement depends on: how questions and memories are encoded, and about how many there are."""
        step = int((STEPS if count >= FEW_MEMORIES else 1) * math.log2(count + 1))
        return f"{COHORT_TAG} {self._encoder} {self._store.hierarchy.tag.hex()} {step}"

    def _measuring(self, namespace: str, wanted: str, reached: Reached) -> Iterator[None]:
        found = []
        encoding = self._store.hierarchy.tag
        for evidence in reached():
            found.append(evidence)
            yield
            if self._store.hierarchy.tag != encoding:
                # the bank has left that encoding: the next question has it measured anew
                return
        enough = self._keep(namespace, _Known(wanted, needed(found)))
        if not self._store.read_only:
            try:
                self._store.registry.set_meta(_key(namespace), {"of": wanted, "enough": enough})
            except BankStorageError as exc:
                logger.warning("the next start measures again what is relevant in a namespace: %s", exc)

    def _keep(self, namespace: str, known: _Known) -> float:
        with self._lock:
            keep_newest(self._known, namespace, known, MOST_NAMESPACES)
        return known.enough

    def _last(self, namespace: str) -> _Known | None:
        with self._lock:
            known = self._known.get(namespace)
        if known is None and (known := _read(self._store.meta(_key(namespace)))) is not None:
            self._keep(namespace, known)
        return known


def _key(namespace: str) -> str:
    # hashed: the name of a namespace must not outlive its memories
    return f"gate {hashlib.sha256(namespace.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _read(saved: Any) -> _Known | None:
    if not isinstance(saved, dict) or not isinstance(saved.get("of"), str):
        return None
    enough = saved.get("enough")
    return _Known(saved["of"], enough) if isinstance(enough, float) and math.isfinite(enough) else None
