"""What comes back from a bank that was told something."""

from __future__ import annotations

from dataclasses import dataclass

from membank_llama.core.types import Fields
from membank_llama.recall.query import RecallResult


@dataclass(frozen=True)
class IngestResult(Fields):
    """What became of one text: pointer names by level, whether it is new, dimensions, milliseconds."""

    memory_id: int
    ptr_ids: tuple[str, ...]
    is_new: bool
    dims: int
    ingest_ms: float


@dataclass(frozen=True)
class Integration(Fields):
    """`integrate()`: what was recalled, the prompt made of it, and how the text itself was stored."""

    query: str
    recalled: list[RecallResult]
    augmented_prompt: str
    ingest_result: IngestResult
