"""`QuestionEncoder`: from a query to the vectors that look for its answer, by the model that made the bank.

The question is encoded without the names of those who speak. The gate's sentences are encoded here too, and kept with
the bank.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from membank_llama.adapters.base import ModelAdapter, check_vectors, stacked
from membank_llama.core.errors import BankCorruptError, BankStorageError
from membank_llama.core.types import Vector
from membank_llama.core.validation import check_text
from membank_llama.store.namespace_snapshot import NamespaceSnapshot
from membank_llama.store.store import Store

from .query import RecallQuery
from .relevance_gate import COHORT, COHORT_TAG
from .speakers import NOBODY, Mentions, mentions_in, without_names

logger = logging.getLogger("membank_llama")

MOST_CHARACTERS = 8192
"""Of a question: a longer one is judged by its beginning."""


@dataclass(frozen=True)
class Question:
    """A query as it is asked of a namespace, read once.

    Args:
        mentions: whom of those who speak there it names, and whose words it is about.
        vector: encoded without those names, shape ``(dim,)``, of unit length; None for a search by words alone.
        whole: encoded with them, for the gate; `vector` itself where that is the same.
    """

    query: RecallQuery
    mentions: Mentions = NOBODY
    vector: Vector | None = None
    whole: Vector | None = None


class QuestionEncoder:
    """Encodes what is asked of one store. `adapter` of None leaves a question to its words."""

    def __init__(self, store: Store, adapter: ModelAdapter | None, max_bytes: int) -> None:
        self._store = store
        self._adapter = adapter
        self._max_bytes = max_bytes
        self._dim, self._name = (0, "") if adapter is None else (adapter.hidden_dim, adapter.name)
        self.model_id = None if adapter is None else adapter.model_id()
        """The model that encodes; None without one."""

    def checked(self, query: RecallQuery) -> RecallQuery:
        """The query, cut to what is looked at.

        Raises:
            EmptyTextError, InvalidTextError, TextTooLongError: there is nothing to look for, or it is no text.
        """
        self._check(query.text)
        return query if len(query.text) <= MOST_CHARACTERS else replace(query, text=query.text[:MOST_CHARACTERS])

    def question(self, query: RecallQuery, snapshot: NamespaceSnapshot) -> Question:
        """The query as it is asked of what a namespace holds."""
        mentions = mentions_in(query.text, snapshot)
        if self._adapter is None:
            return Question(query, mentions)
        text = without_names(query.text, mentions.names) if mentions.names else query.text
        if text == query.text or not snapshot.tells_speakers_apart:
            vector = self._encoded([text])[0]
            return Question(query, mentions, vector, vector)
        vector, whole = self._encoded([text, query.text])
        return Question(query, mentions, vector, whole)

    def encode(self, text: str) -> Vector | None:
        """The vector of a question, shape ``(dim,)``; None without an adapter."""
        self._check(text)
        return None if self._adapter is None else self._encoded([text])[0]

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
        rows = stacked([adapter.encode(texts[0])], self._name) if len(texts) == 1 else adapter.encode_batch(texts)
        return check_vectors(rows, len(texts), self._dim, self._name)


def _cohort_key(adapter: ModelAdapter) -> str:
    return f"cohort {COHORT_TAG} {adapter.model_id()}"
