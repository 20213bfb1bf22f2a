"""What the terminal leaves in a bank's directory: the last recall, for `why`, and the chat's input history.

Both are made mode 0600. The last recall holds scores and ids, never the text of a memory, so that nothing outlives
`forget`; and `scrub` takes forgotten texts out of the history and drops the last recall with them.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .query import RecallResult

LAST_RECALL = "last-recall.json"
HISTORY = "chat-history"


def recall_rows(
    results: Sequence[RecallResult], injected: Iterable[int] = (), skipped: Mapping[int, str] | None = None
) -> list[dict[str, Any]]:
    """Scores and verdict of each result, JSON-able, without its text."""
    taken = set(injected)
    return [
        {
            "memory_id": result.memory_id,
            "score_l0": result.score_l0,
            "score_l1": result.score_l1,
            "score_l2": result.score_l2,
            "lexical_score": result.lexical_score,
            "fused_score": result.fused_score,
            "signals": {name: round(value, 3) for name, value in result.signals.items()},
            "duplicates": list(result.duplicates),
            "relevant": result.relevant,
            "reason": result.reason,
            "injected": result.memory_id in taken,
            "skipped": (skipped or {}).get(result.memory_id),
        }
        for result in results
    ]


def save_recall(
    bank: Path, query: str, rows: list[dict[str, Any]], *, tokens: int | None, recall_ms: float, program: str
) -> None:
    """Keep a recall for `why`; a directory that cannot be written to is let be."""
    record = {
        "query": query,
        "when": time.time(),
        "program": program,
        "tokens": tokens,
        "recall_ms": recall_ms,
        "results": rows,
    }
    try:
        _write(bank / LAST_RECALL, json.dumps(record, ensure_ascii=False))
    except OSError:
        return


def load_recall(bank: Path) -> dict[str, Any] | None:
    """The last recall, or None where there is none that can be read."""
    try:
        record = json.loads((bank / LAST_RECALL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("results"), list) else None


def history_file(bank: Path) -> Path:
    """The chat's history file, made mode 0600 where it is missing."""
    path = bank / HISTORY
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    return path


def scrub(bank: Path, texts: Iterable[str]) -> None:
    """Take these texts out of the history, and drop the last recall, whose question may be one of them."""
    (bank / LAST_RECALL).unlink(missing_ok=True)
    path = bank / HISTORY
    gone = {text.strip() for text in texts}
    if not gone or not path.exists():
        return
    # prompt_toolkit's format: "# when", then the lines of the entry, each behind a "+", then a blank line
    kept: list[str] = []
    for block in path.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        lines = block.split("\n")
        if "\n".join(line[1:] for line in lines if line.startswith("+")).strip() not in gone:
            kept.append(block)
    _write(path, "\n\n".join(kept).rstrip("\n") + "\n")


def _write(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
