"""`Asker`: from a question in words to ranked memories, with the model that made the bank.

Encodes the question, without the names of those who speak, and keeps what searches share: the gate, made for the
bank's present encoding, and the evidence it asks for.
"""

from __future__ import annotations

import base64
import logging
import threading
from dataclasses import replace
from typing import Any

import numpy as np

from .adapters.base import ModelAdapter, check_vectors
from .errors import BankStorageError
from .gate import COHORT, COHORT_TAG, RelevanceGate
from .hgns.hierarchy import HGNSHierarchy
from .items import check_text
from .query import RecallQuery, RecallResult
from .recall import Measured, QueryEngine
from .speakers import without_names
from .store import Store
from .types import Vector

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
        self._enough: dict[Any, float] = {}

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

    def cohort(self) -> Vector | None:
        """The gate's sentences, encoded; kept with the bank. None without an adapter."""
        if self._adapter is None:
            return None
        key = f"cohort {COHORT_TAG} {self._adapter.model_id()}"
        saved = self._store.meta(key)
        if saved is not None:
            return np.frombuffer(base64.b64decode(saved), "<f4").reshape(len(COHORT), -1).astype(np.float32)
        vectors = self._adapter.encode_batch(COHORT)
        if not self._store.read_only:
            try:
                self._store.registry.set_meta(key, base64.b64encode(vectors.astype("<f4").tobytes()).decode())
            except BankStorageError as exc:
                logger.warning("the next start encodes the gate's sentences again: %s", exc)
        return vectors

    def _check(self, text: str) -> None:
        check_text(text[: self._max_bytes // 4] if isinstance(text, str) else text, self._max_bytes)

    def _encoded(self, texts: list[str]) -> Vector:
        adapter = self._adapter
        if adapter is None:
            return np.zeros((len(texts), 0), np.float32)
        rows = np.stack([adapter.encode(texts[0])]) if len(texts) == 1 else adapter.encode_batch(texts)
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
            return QueryEngine(self._store, self._gate, self._enough)


def _shortened(query: RecallQuery) -> RecallQuery:
    if not isinstance(query.text, str) or len(query.text) <= MOST_CHARACTERS:
        return query
    return replace(query, text=query.text[:MOST_CHARACTERS])
