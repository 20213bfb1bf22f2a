"""`ImportReport`: what an import leaves out and what it had to guess, by reason, with names of some examples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_EXAMPLES, LONGEST_EXAMPLE = 3, 80


@dataclass
class ReasonCount:
    """How often, and the first few names."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str, count: int = 1) -> None:
        self.count += count
        shown = " ".join(example.split())[:LONGEST_EXAMPLE]
        if shown and len(self.examples) < MOST_EXAMPLES and shown not in self.examples:
            self.examples.append(shown)


class ImportReport:
    """Filled by readers as they go.

    Args:
        now: what is later by more than a day is no time of a message.
    """

    def __init__(self, now: float | None = None) -> None:
        self.now = time.time() if now is None else now
        self.left_out: dict[str, ReasonCount] = {}
        self.remarks: dict[str, ReasonCount] = {}

    def leave_out(self, reason: str, example: str = "", count: int = 1) -> None:
        """Something of the file is not taken in."""
        if count:
            self.left_out.setdefault(reason, ReasonCount()).add(example, count)

    def remark(self, what: str, example: str = "", count: int = 1) -> None:
        """Something was taken in, and is not quite what the file says."""
        self.remarks.setdefault(what, ReasonCount()).add(example, count)

    def add(self, other: ImportReport) -> None:
        """What another report says too."""
        for mine, theirs in ((self.left_out, other.left_out), (self.remarks, other.remarks)):
            for reason, tally in theirs.items():
                own = mine.setdefault(reason, ReasonCount())
                own.add("", tally.count)
                for example in tally.examples:
                    own.add(example, 0)

    def fields(self) -> dict[str, Any]:
        """As JSON."""
        return {"left_out": _rows(self.left_out), "remarks": _rows(self.remarks)}


def _rows(tallies: Mapping[str, ReasonCount]) -> list[dict[str, Any]]:
    return [{"reason": reason, "count": one.count, "examples": one.examples} for reason, one in tallies.items()]


SYSTEM = "instructions of the program"
TOOLS = "calls of tools and what they gave back"
THINKING = "what the model thought aloud"
HIDDEN = "messages that were never shown"
ATTACHED = "images, files and sound"
BRANCHES = "messages of branches that were not shown last"
UNREADABLE = "entries that are no conversation or message"
EVASIONS = "replies that say nothing, or only greet"
ORDERS = "orders to forget something, and what was answered"
"""Reasons that several readers share."""
