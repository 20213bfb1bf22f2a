"""What an import would store, did store and left out, as the terminal shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from membank_llama.memory.imports.import_plan import ImportPlan
from membank_llama.memory.imports.import_records import ImportRecord
from membank_llama.memory.imports.import_report import ReasonCount

from . import terminal
from .terminal import FIXED, NUMBER, plain_table

_NAMES: dict[str, Any] = {"overflow": "fold", "ratio": 1}


def _day(seconds: float | None) -> str:
    return "–" if seconds is None else terminal.when(seconds)[:10]


def plan_table(plan: ImportPlan) -> Table:
    """How much there is of each kind, and of which time."""
    table = plain_table(
        ("from", FIXED), ("conversations", NUMBER), ("messages", NUMBER), ("first", FIXED), ("last", FIXED)
    )  # fmt: skip
    for kind in plan.kinds.values():
        conversations = f"{kind.conversations:,}" if kind.conversations else "–"
        table.add_row(kind.title, conversations, f"{kind.messages:,}", _day(kind.first), _day(kind.last))
    return table


def tally_table(heading: str, tallies: Mapping[str, ReasonCount]) -> Table:
    """Reasons with how often, and examples."""
    table = plain_table((heading, {"overflow": "fold"}), ("", NUMBER), ("for example", _NAMES))
    for reason, one in tallies.items():
        table.add_row(terminal.visible(reason), f"{one.count:,}", terminal.plain(_examples(one), "dim"))
    return table


def _examples(tally: ReasonCount) -> str:
    return ", ".join(tally.examples) + (", …" if tally.count > len(tally.examples) > 0 else "")


def tally_notes(heading: str, tallies: Mapping[str, ReasonCount]) -> None:
    """The same in a dim line each."""
    for reason, one in tallies.items():
        named = f": {_examples(one)}" if one.examples else ""
        terminal.note(f"{heading} {one.count:,} × {reason}{named}")


def records_table(records: Sequence[ImportRecord]) -> Table:
    """Imports that can be undone."""
    table = plain_table(
        ("id", NUMBER), ("when", FIXED), ("from", FIXED), ("file", _NAMES), ("new", NUMBER), ("", FIXED)
    )
    for record in records:
        table.add_row(
            str(record.id),
            terminal.when(record.when),
            _titles(record.kinds),
            terminal.plain(record.file),
            f"{record.new:,}",
            Text("" if record.done else "broken off", style="yellow"),
        )
    return table


def _titles(kinds: Iterable[str]) -> str:
    from membank_llama.memory.imports.export_kinds import TITLES

    return ", ".join(TITLES.get(kind, kind) for kind in kinds)
