"""`Asker`: from a question in words to ranked memories, with the model that made the bank.

Encodes the question, without the names of those who speak, and keeps what searches share: the gate, made for the
bank's present encoding, and the evidence it asks for.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from membank_llama.adapters.base import ModelAdapter, check_vectors, stacked
from membank_llama.core.errors import BankCorruptError, BankStorageError
from membank_llama.core.types import Progress, Vector
from membank_llama.core.validation import check_text
from membank_llama.hgns.hierarchy import HGNSHierarchy
from membank_llama.store.store import Store

from .engine import Measured, QueryEngine
from .gate_thresholds import Thresholds
from .query import RecallQuery, RecallResult
from .relevance_gate import COHORT, COHORT_TAG, RelevanceGate
from .speakers import without_names

logger = logging.getLogger("membank_llama")

MOST_CHARACTERS = 8192
"""Of a question: a longer one is judged by its beginning."""


class Asker:
    """Asks one store. `adapter` of None searches by words alone."""

    def __init__(self, store: Store, adapter: ModelAdapter | None, max_bytes: int) -> None:
        self._store = store
        self._adapter = adapter
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._gate: RelevanceGate | None = None
        self._gate_of: HGNSHierarchy | None = None
        self._thresholds = Thresholds(store, "words" if adapter is None else adapter.model_id())

    def search(self, query: RecallQuery) -> list[RecallResult]:
        """The best memories, best first; raises as `QueryEngine.search` does."""
        query = _shortened(query)
        vector, whole = self._vectors(query)
        model_id = None if self._adapter is None else self._adapter.model_id()
        return self._engine().search(query, vector, whole=whole, model_id=model_id)

    def measured(self, query: RecallQuery) -> Measured:
        """The candidates of a question with every signal before it is weighed."""
        query = _shortened(query)
        return self._engine().measured(query, self._vectors(query)[0])

    def encode(self, text: str) -> Vector | None:
        """The vector of a question, shape ``(dim,)``; None without an adapter."""
        self._check(text)
        return None if self._adapter is None else self._encoded([text])[0]

    def settle(self, progress: Progress | None = None) -> None:
        """Measure now what the gate asks for in every namespace."""
        engine = self._engine()
        namespaces = self._store.registry.namespaces()
        for done, namespace in enumerate(namespaces):
            engine.measure(namespace)
            if progress is not None:
                progress("measuring relevance", done + 1, len(namespaces))

    def cohort(self) -> Vector | None:
        """The gate's sentences, encoded; kept with the bank. None without an adapter."""
        if self._adapter is None:
            return None
        kept = self._kept_cohort(self._adapter)
        return self._keep_cohort(self._adapter, self._encoded(list(COHORT))) if kept is None else kept

    def encoding_cohort(self) -> Iterator[None]:
        """Encode the gate's sentences one at a time, so that others get at the model in between."""
        if self._adapter is None or self._kept_cohort(self._adapter) is not None:
            return
        rows = []
        for sentence in COHORT:
            rows.append(self._encoded([sentence])[0])
            yield
        self._keep_cohort(self._adapter, np.stack(rows))

    def _kept_cohort(self, adapter: ModelAdapter) -> Vector | None:
        """The vectors that the bank keeps; None where it has none, or what it has is damaged."""
        try:
            saved = base64.b64decode(self._store.meta(_cohort_key(adapter), ""))
            kept: Vector = np.frombuffer(saved, "<f4").reshape(len(COHORT), adapter.hidden_dim).astype(np.float32)
        except (BankCorruptError, ValueError, TypeError):
            return None
        return kept if np.isfinite(kept).all() else None

    def _keep_cohort(self, adapter: ModelAdapter, vectors: Vector) -> Vector:
        if not self._store.read_only:
            try:
                saved = base64.b64encode(vectors.astype("<f4").tobytes()).decode()
                self._store.registry.set_meta(_cohort_key(adapter), saved)
            except BankStorageError as exc:
                logger.warning("the next start encodes the gate's sentences again: %s", exc)
        return vectors

    def _check(self, text: str) -> None:
        check_text(text[: self._max_bytes // 4] if isinstance(text, str) else text, self._max_bytes)

    def _encoded(self, texts: list[str]) -> Vector:
        adapter = self._adapter
        if adapter is None:
            return np.zeros((len(texts), 0), np.float32)
        rows = stacked([adapter.encode(texts[0])], adapter.name) if len(texts) == 1 else adapter.encode_batch(texts)
        return check_vectors(rows, len(texts), adapter.hidden_dim, adapter.name)

    def _vectors(self, query: RecallQuery) -> tuple[Vector | None, Vector | None]:
        """The vector that looks for the answer, and that of the whole question where it is another."""
        self._check(query.text)
        if self._adapter is None:
            return None, None
        self._store.follow()
        roster = self._store.rosters.get(query.namespace)
        text = without_names(query.text, roster)
        if text == query.text or not roster.tells_speakers_apart:
            return self._encoded([text])[0], None
        vector, whole = self._encoded([text, query.text])
        return vector, whole

    def _engine(self) -> QueryEngine:
        self._store.follow()
        if self._adapter is not None:
            self._store.check_model(self._adapter.model_id())
        hierarchy = self._store.hierarchy
        with self._lock:
            if self._gate is None or self._gate_of is not hierarchy:
                cohort = self.cohort()
                self._gate = RelevanceGate(None if cohort is None else hierarchy.corrected(cohort), cohort)
                self._gate_of = hierarchy
            return QueryEngine(self._store, self._gate, self._thresholds)


def _cohort_key(adapter: ModelAdapter) -> str:
    return f"cohort {COHORT_TAG} {adapter.model_id()}"


def _shortened(query: RecallQuery) -> RecallQuery:
    if not isinstance(query.text, str) or len(query.text) <= MOST_CHARACTERS:
        return query
    return replace(query, text=query.text[:MOST_CHARACTERS])
