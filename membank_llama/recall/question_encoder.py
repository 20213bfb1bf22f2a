"""`QuestionEncoder`: from a query to the vectors that look for its answer, by the model that made the bank.

The question is encoded without the names of those who speak. The gate's sentences are encoded here too, and kept with
the bank.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from membank_llama.adapters.base import ModelAdapter, check_tokens, check_vectors, stacked
from membank_llama.adapters.token_states import TokenStates
from membank_llama.core.errors import BankCorruptError, BankStorageError
from membank_llama.core.letters import readable
from membank_llama.core.types import Codes, Mask, Numbers, Vector
from membank_llama.core.validation import check_text
from membank_llama.hgns.token_codes import AskedTokens, best_matches, token_bytes, token_codes
from membank_llama.store.memory_writer import ModelCard
from membank_llama.store.namespace_snapshot import NamespaceSnapshot
from membank_llama.store.store import Store

from .query import RecallQuery
from .question_kind import QuestionKind, focus, kind_of
from .question_tokens import QuestionTokens
from .script_cohorts import COHORTS, TAGS, script_of
from .speakers import NOBODY, Mentions, asks_for_replies, mentions_in, without_names

logger = logging.getLogger("membank_llama")

MOST_CHARACTERS = 8192
"""Of a question: of a longer one its beginning and its end are looked at."""


@dataclass(frozen=True)
class Cohort:
    """The gate's sentences, encoded: vectors (n, dim), and the digits of their tokens, one sentence after the other,
    with how many are each one's; no digits in a bank that keeps vectors alone."""

    vectors: Vector
    codes: Codes | None
    counts: Numbers

    def saved(self) -> Any:
        """As JSON."""
        vectors = _text(self.vectors.astype("<f4"))
        return vectors if self.codes is None else [vectors, _text(self.codes), self.counts.tolist()]

    @classmethod
    def read(cls, saved: Any, sentences: int, dim: int, token_dim: int) -> Cohort:
        """From JSON; raises ValueError or TypeError where it is none of this bank."""
        vectors, codes, counts = saved if token_dim else (saved, None, [])
        rows = np.frombuffer(base64.b64decode(vectors), "<f4").reshape(sentences, dim).astype(np.float32)
        if not np.isfinite(rows).all():
            raise ValueError("vectors that are none")
        sizes = np.array(counts, np.int32)
        if codes is None:
            return cls(rows, None, sizes)
        digits = np.frombuffer(base64.b64decode(codes), np.uint8).reshape(-1, token_bytes(token_dim))
        if len(sizes) != sentences or sizes.min() < 1 or sizes.sum() != len(digits):
            raise ValueError("tokens that are none")
        return cls(rows, digits, sizes)


def _text(values: Vector | Codes) -> str:
    return base64.b64encode(values.tobytes()).decode()


@dataclass(frozen=True)
class Question:
    """A query as it is asked of a namespace, read once.

    Args:
        mentions: whom of those who speak there it names, and whose words it is about.
        vector: encoded without those names, shape ``(dim,)``, of unit length; None for a search by words alone.
        whole: encoded with them, for the gate; `vector` itself where that is the same.
        tokens: all of it token by token, in a bank that keeps tokens.
    """

    query: RecallQuery
    mentions: Mentions = NOBODY
    vector: Vector | None = None
    whole: Vector | None = None
    tokens: QuestionTokens | None = None

    @cached_property
    def kind(self) -> QuestionKind:
        """What kind of question it is."""
        return kind_of(self.query.text)

    @cached_property
    def asks_for_replies(self) -> bool:
        """Whether it asks for what the model said: "what did you suggest?"."""
        return asks_for_replies(self.query.text)

    def records_in(self, snapshot: NamespaceSnapshot) -> Mask:
        """Which rows are no evidence of what is so, where this is asked."""
        return snapshot.tells_nothing if self.asks_for_replies else snapshot.records

    @cached_property
    def script(self) -> str:
        """Which of the gate's sentences it is held against."""
        return script_of(self.query.text)

    @property
    def meant_by_tokens(self) -> bool:
        """Whether it is about the person who asks, and tokens tell what is meant: of scripts without spaces few
        encoders know more than letters."""
        return self.tokens is not None and self.kind.about_oneself and not self.script


class QuestionEncoder:
    """Encodes what is asked of one store. `adapter` of None leaves a question to its words."""

    def __init__(self, store: Store, adapter: ModelAdapter | None, max_bytes: int) -> None:
        self._store = store
        self._adapter = adapter
        self._max_bytes = max_bytes
        self._dim, self._name = (0, "") if adapter is None else (adapter.hidden_dim, adapter.name)
        self._cohorts: dict[str, tuple[ModelCard, Cohort]] = {}
        self.model_id = None if adapter is None else adapter.model_id()
        """The model that encodes; None without one."""

    def checked(self, query: RecallQuery) -> RecallQuery:
        """The query, cut to what is looked at.

        Raises:
            EmptyTextError, InvalidTextError, TextTooLongError: there is nothing to look for, or it is no text.
        """
        self._check(query.text)
        asked = _looked_at(query.text)
        return query if asked == query.text else replace(query, text=asked)

    def question(self, query: RecallQuery, snapshot: NamespaceSnapshot) -> Question:
        """The query as it is asked of what a namespace holds."""
        mentions = mentions_in(query.text, snapshot)
        if self._adapter is None:
            return Question(query, mentions)
        text = without_names(query.text, mentions.names) if mentions.names else query.text
        texts = [text] if text == query.text or not snapshot.tells_speakers_apart else [text, query.text]
        texts = [_encodable(text) for text in texts]
        if not self._store.model.token_dim:
            vector, *whole = self._encoded(texts)
            return Question(query, mentions, vector, *(whole or [vector]))
        found = self._encoded_tokens(texts)
        return Question(
            query, mentions, found[0].vector, found[-1].vector, self._tokens(found[-1], script_of(query.text))
        )

    def _tokens(self, found: TokenStates, script: str) -> QuestionTokens | None:
        cohort = self.cohort(script)
        if cohort is None or cohort.codes is None:
            return None
        asked = AskedTokens.of(found.states)
        return QuestionTokens(asked, found.words, best_matches(asked, cohort.codes, cohort.counts).mean(axis=1))

    def encode(self, text: str) -> Vector | None:
        """The vector of a question, shape ``(dim,)``; None without an adapter."""
        self._check(text)
        return None if self._adapter is None else self._encoded([text])[0]

    def cohort(self, script: str = "") -> Cohort | None:
        """The gate's sentences of a script, encoded; kept with the bank. None without an adapter."""
        if self._adapter is None:
            return None
        known = self._cohorts.get(script)
        if known is None or known[0] is not self._store.model:
            kept = self._kept_cohort(self._adapter, script)
            if kept is None:
                kept = self._keep_cohort(self._adapter, script, list(map(self._sentence, COHORTS[script])))
            self._cohorts[script] = known = self._store.model, kept
        return known[1]

    def encoding_cohort(self) -> Iterator[None]:
        """Encode the gate's sentences one at a time, so that others get at the model in between."""
        if self._adapter is None or self._kept_cohort(self._adapter, "") is not None:
            return
        found = []
        for sentence in COHORTS[""]:
            found.append(self._sentence(sentence))
            yield
        self._keep_cohort(self._adapter, "", found)

    def _sentence(self, text: str) -> TokenStates:
        if self._store.model.token_dim:
            return self._encoded_tokens([text])[0].worth_keeping()
        return TokenStates(self._encoded([text])[0], np.zeros((0, 0), np.float32), ())

    def _kept_cohort(self, adapter: ModelAdapter, script: str) -> Cohort | None:
        """What the bank keeps; None where it has none, or what it has is damaged."""
        try:
            saved = self._store.meta(_cohort_key(adapter, script), "")
            return Cohort.read(saved, len(COHORTS[script]), adapter.hidden_dim, self._store.model.token_dim)
        except (BankCorruptError, ValueError, TypeError, KeyError):
            return None

    def _keep_cohort(self, adapter: ModelAdapter, script: str, found: Sequence[TokenStates]) -> Cohort:
        vectors, counts = np.stack([one.vector for one in found]), np.array([len(one.words) for one in found], np.int32)
        codes = token_codes(np.concatenate([one.states for one in found])) if counts.any() else None
        cohort = Cohort(vectors, codes, counts)
        if not self._store.read_only:
            try:
                self._store.registry.set_meta(_cohort_key(adapter, script), cohort.saved())
            except BankStorageError as exc:
                logger.warning("the next start encodes the gate's sentences again: %s", exc)
        return cohort

    def _check(self, text: str) -> None:
        check_text(text[: self._max_bytes // 4] if isinstance(text, str) else text, self._max_bytes)

    def _encoded(self, texts: list[str]) -> Vector:
        adapter = self._adapter
        if adapter is None:
            return np.zeros((len(texts), 0), np.float32)
        rows = stacked([adapter.encode(texts[0])], self._name) if len(texts) == 1 else adapter.encode_batch(texts)
        return check_vectors(rows, len(texts), self._dim, self._name)

    def _encoded_tokens(self, texts: list[str]) -> list[TokenStates]:
        adapter = self._adapter
        if adapter is None:
            return []
        found = adapter.encode_tokens(texts)
        return check_tokens(found, len(texts), self._dim, self._store.model.token_dim, self._name)


def encoded_as(text: str) -> str:
    """What is encoded of a question that names nobody who speaks."""
    return _encodable(_looked_at(text))


def _looked_at(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}\n{text[MOST_CHARACTERS:][-MOST_CHARACTERS:]}"
    return focus(text)


def _encodable(text: str) -> str:
    return text if text.isascii() else readable(text)


def _cohort_key(adapter: ModelAdapter, script: str) -> str:
    return f"cohort {TAGS[script]} {adapter.model_id()}"
