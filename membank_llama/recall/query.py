"""What is asked of a bank, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from membank_llama.core.errors import InvalidQueryError
from membank_llama.core.provenance import Provenance, provenance_of
from membank_llama.core.types import DEFAULT_NAMESPACE, LEVELS, Fields
from membank_llama.store.pointers import PointerRecord

from .signals import Weights


@dataclass(frozen=True)
class RecallQuery:
    """What is asked of a bank; checked when made.

    `now` is when it is asked, which "last May" counts from (None for the clock's time), and `zone` whose days are meant
    (None for this machine's); `only` are the ids that are searched (None for all); `diversity` from 0 (the best,
    however alike) to 1 (each as unlike those before it as can be); `weights` of None takes those tuned for the bank, or
    else the default ones.

    Raises:
        InvalidQueryError: a parameter that cannot be meant.
    """

    text: str
    top_k: int = 5
    levels: tuple[int, ...] = (2, 1, 0)
    namespace: str = DEFAULT_NAMESPACE
    since: float | None = None
    until: float | None = None
    exclude: frozenset[int] = frozenset()
    only: frozenset[int] | None = None
    min_score: float | None = None
    candidate_multiplier: int = 5
    now: float | None = None
    diversity: float = 0.0
    weights: Weights | None = None
    zone: tzinfo | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.top_k, int):
            raise InvalidQueryError(f"top_k is {self.top_k!r}; give a whole number")
        for name, when in (("since", self.since), ("until", self.until), ("now", self.now)):
            if when is not None and not (isinstance(when, (int, float)) and when == when):
                raise InvalidQueryError(f"{name} is {when!r}; give seconds since 1970")
        if self.top_k < 1:
            raise InvalidQueryError(f"top_k is {self.top_k}; ask for at least 1 memory")
        if not self.levels or not set(self.levels) <= set(LEVELS):
            raise InvalidQueryError(f"levels is {self.levels}; name one or more of 0 (full), 1 and 2 (coarse)")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InvalidQueryError("since is not before until; swap them")
        if not (isinstance(self.diversity, (int, float)) and 0 <= self.diversity <= 1):
            raise InvalidQueryError(f"diversity is {self.diversity!r}; give a number from 0 (none) to 1")


@dataclass(frozen=True)
class RecallResult(Fields):
    """One recalled memory.

    `final_score` is the cosine at the finest level asked for; `lexical_score` is the weight of the words shared with
    the question (0 where there is none); results are ranked by `fused_score`, the sum of `signals`, each the part of
    the score that one signal gave (signals.py). `duplicates` are memories that say the same and were left out for it.
    Without an encoder the level scores are None. Of a long memory `text` is the whole, `borders` says where each of its
    passages begins, and `passage` is the span of the best one, whose scores and pointers these are; None for others.
    What was told more than once is of the last time, `created_at`, and came first at `first_told_at`. It is `relevant`
    where its `evidence` is `enough`; `reason` names the exceptions.
    """

    rank: int
    final_score: float
    score_l0: float | None
    score_l1: float | None
    score_l2: float | None
    ptr_level0: PointerRecord
    ptr_level1: PointerRecord
    ptr_level2: PointerRecord
    source_text_hash: str
    memory_id: int
    text: str
    role: str
    created_at: float
    namespace: str
    conversation: str | None
    source: str | None
    lexical_score: float
    fused_score: float
    relevant: bool
    reason: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    signals: Mapping[str, float] = field(default_factory=dict)
    duplicates: tuple[int, ...] = ()
    passage: tuple[int, int] | None = None
    borders: tuple[int, ...] = ()
    first_told_at: float = 0.0
    pinned: bool = False
    expires_at: float | None = None
    evidence: float = 0.0
    enough: float = 0.0

    @property
    def provenance(self) -> Provenance:
        """Where it is from, and so what it is worth."""
        return provenance_of(self.role, self.source, self.metadata)

    @property
    def passage_text(self) -> str:
        """The best passage; the whole text where it is not cut."""
        return self.text if self.passage is None else self.text[slice(*self.passage)]

    @property
    def best_ptr(self) -> PointerRecord:
        """The pointer at the finest level that was scored."""
        if self.score_l0 is not None or (self.score_l1 is None and self.score_l2 is None):
            return self.ptr_level0
        return self.ptr_level1 if self.score_l1 is not None else self.ptr_level2
