"""What the terminal leaves in a bank's directory: the last recall, for `why`, and the chat's input history.

Both are made mode 0600. The last recall holds scores and ids, never the text of a memory, so that nothing outlives
`forget`, which takes forgotten texts out of the history and drops the last recall (memory/typed_lines.py).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from membank_llama.core.atomic_files import write_whole
from membank_llama.core.errors import BankError, BankStorageError
from membank_llama.recall.query import RecallResult
from membank_llama.recall.result_json import scores_of
from membank_llama.store.bank_files import HISTORY, LAST_RECALL, open_plain, read_limited

_MOST_BYTES = 16 << 20
_NUMBERS = ("memory_id", "score_l0", "score_l1", "score_l2", "lexical_score", "fused_score")


def recall_rows(
    results: Sequence[RecallResult], injected: Iterable[int] = (), skipped: Mapping[int, str] | None = None
) -> list[dict[str, Any]]:
    """Scores and verdict of each result, JSON-able, without its text."""
    taken = set(injected)
    return [
        {
            **scores,
            "injected": scores["memory_id"] in taken,
            "skipped": (skipped or {}).get(scores["memory_id"]),
        }
        for scores in scores_of(results)
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
        write_whole(bank / LAST_RECALL, json.dumps(record, ensure_ascii=False).encode())
    except OSError:
        return


def load_recall(bank: Path) -> dict[str, Any] | None:
    """The last recall, or None where there is none that can be read."""
    try:
        record = json.loads(read_limited(bank / LAST_RECALL, _MOST_BYTES))
    except (OSError, ValueError, RecursionError, BankError):
        return None
    return record if _is_recall(record) else None


def _is_recall(record: Any) -> bool:
    """Whether it is what `save_recall` writes: the file came with the bank, which may be a stranger's."""
    if not isinstance(record, dict) or not isinstance(record.get("results"), list):
        return False
    said = isinstance(record.get("query"), str) and isinstance(record.get("program"), str)
    return (
        said
        and all(map(_is_number, map(record.get, ("when", "tokens", "recall_ms"))))
        and all(
            isinstance(row, dict)
            and all(_is_number(row.get(name, "")) for name in _NUMBERS)
            and isinstance(row.get("reason"), str)
            and isinstance(row.get("skipped"), str | None)
            and all(_is_number(row.get(name)) for name in ("evidence", "enough"))
            and isinstance(row.get("signals"), dict)
            and all(map(_is_number, row["signals"].values()))
            and isinstance(row.get("duplicates"), list)
            and all(map(_is_number, row["duplicates"]))
            for row in record["results"]
        )
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) < 1 << 62)


def history_file(bank: Path) -> Path:
    """The chat's history file, made mode 0600 where it is missing."""
    path = bank / HISTORY
    try:
        os.close(open_plain(path, os.O_CREAT | os.O_WRONLY))
    except OSError as exc:
        raise BankStorageError(f"cannot keep the chat's history in {path}: {exc.strerror or exc}") from exc
    return path
