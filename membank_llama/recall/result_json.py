"""A recalled memory as JSON, the same wherever it is shown: by `recall --json`, by `why`, and by the proxy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .query import RecallResult


def scores_of(results: Iterable[RecallResult]) -> list[dict[str, Any]]:
    """Which memory each is and how it was judged, without anything of its text."""
    return [_scores(result) for result in results]


def _scores(result: RecallResult) -> dict[str, Any]:
    return {
        "memory_id": result.memory_id,
        "final_score": result.final_score,
        "score_l0": result.score_l0,
        "score_l1": result.score_l1,
        "score_l2": result.score_l2,
        "lexical_score": result.lexical_score,
        "fused_score": result.fused_score,
        "signals": dict(result.signals),
        "duplicates": list(result.duplicates),
        "relevant": result.relevant,
        "reason": result.reason,
        "evidence": result.evidence,
        "enough": result.enough,
    }


def result_json(result: RecallResult) -> dict[str, Any]:
    """All of it, with every field of the memory; the pointers by their ids, from the finest level to the coarsest."""
    pointers = (result.ptr_level0, result.ptr_level1, result.ptr_level2)
    return {
        "rank": result.rank,
        **_scores(result),
        "id": result.memory_id,
        "text": result.text,
        "text_hash": result.source_text_hash,
        "source_text_hash": result.source_text_hash,
        "role": result.role,
        "provenance": result.provenance.name.lower(),
        "created_at": result.created_at,
        "first_told_at": result.first_told_at,
        "namespace": result.namespace,
        "conversation": result.conversation,
        "source": result.source,
        "metadata": dict(result.metadata),
        "pinned": result.pinned,
        "expires_at": result.expires_at,
        "passage": result.passage,
        "borders": result.borders,
        "pointers": [pointer.ptr_id for pointer in pointers],
    }
