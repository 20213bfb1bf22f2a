"""`recall_fields`: a recall as JSON-able fields: what was asked, how each was judged, what went into the prompt."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from membank_llama.memory.prompt_injection import LastRecall
from membank_llama.recall.result_json import scores_of

from ..asgi import outward


def recall_fields(last: LastRecall, conversation: str, when: float, there: Container[int]) -> dict[str, Any]:
    """A recall, told to people and programs.

    Args:
        there: ids of the memories that there still are. A block that holds any other is not told: it was forgotten.
    """
    known = last.error is None and all(memory_id in there for memory_id in last.injected)
    return {
        "query": last.query,
        "when": when,
        "conversation": conversation,
        "injected": list(last.injected),
        "skipped": {str(memory_id): reason for memory_id, reason in last.skipped.items()},
        "tokens": last.tokens,
        "block": last.block if known else None,
        "recall_ms": round(last.recall_ms, 2),
        "error": None if last.error is None else outward(last.error),
        "memories": _rows(last),
    }


def _rows(last: LastRecall) -> Sequence[dict[str, Any]]:
    return [
        {
            "id": scores["memory_id"],
            "cosine": round(scores["final_score"], 4),
            "fused": round(scores["fused_score"], 4),
            **scores,
        }
        for scores in scores_of(last.results)
    ]
