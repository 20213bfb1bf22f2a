"""Bytes as people read them, the same way in the terminal, on the page and in messages: by thousands."""

from __future__ import annotations

MEGABYTE = 10**6


def size(count: float) -> str:
    """1,500 as "1.5 KB"; whole numbers from 100 of a unit on."""
    for unit in ("B", "KB", "MB"):
        # what would be rounded to 1,000 is one of the next
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
