"""`Thresholds`: the evidence that opens the gate in each namespace.

To measure it, two dozen unrelated sentences are asked of the namespace (gate.py), which takes as many searches. Small
namespaces are measured at once. A large one is measured in the background, and until then goes by what it was
measured at before, or else by `PROVISIONAL`. What was measured is kept with the bank.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from membank_llama.core.bounded import keep_newest
from membank_llama.core.errors import BankStorageError
from membank_llama.store.store import Store

from .relevance_gate import COHORT_TAG, needed

logger = logging.getLogger("membank_llama")

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
class _Known:
    """What was measured, of what."""

    of: str
    enough: float


class Thresholds:
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
