"""When something was said, as another program writes it: in seconds or smaller, ISO 8601, or not at all."""

from __future__ import annotations

from datetime import timezone, tzinfo
from typing import Any

from membank_llama.core.days import FIRST_SECOND, read_instant

from .import_report import ImportReport

FIRST_CHAT = 631_152_000.0
"""The year 1990: no chat with a model is older, and a smaller number is no time."""
DAY = 86_400.0
BAD_TIME = "times that are none, or out of range: those of the conversation or file are taken"


def told_at(
    value: Any, report: ImportReport, example: str, *, zone: tzinfo | None = timezone.utc, first: float = FIRST_CHAT
) -> float | None:
    """Seconds since 1970; None where nothing is said, or nothing that a time could be.

    Args:
        zone: of a time that names none.
        first: what is before is no time.
    """
    if value is None or value in ("", 0):
        return None
    try:
        found = read_instant(value, zone)
    except (ValueError, OverflowError, OSError):
        found = FIRST_SECOND - 1
    if first <= found <= report.now + DAY:
        return found
    report.remark(BAD_TIME, f"{example}: {value!r:.40}")
    return None
