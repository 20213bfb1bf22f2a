"""`HealthCheck`: one line of what `membank doctor` found, and all of them as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from .terminal import ACCENT, visible

GOOD, NOTE, WRONG = "good", "note", "wrong"

_MARKS = {GOOD: ("●", "green"), NOTE: ("○", "dim"), WRONG: ("✗", "red")}


@dataclass(frozen=True)
class HealthCheck:
    """One line of the report: `state` is ``"good"``, ``"note"`` or ``"wrong"``, `mend` the line that betters it."""

    area: str
    name: str
    value: str
    state: str = GOOD
    mend: str = ""


def health_table(checks: Sequence[HealthCheck]) -> Table:
    """What `membank doctor` found, by area; below what could be better, the line that betters it. What mends what is
    wrong is not here: it is to be copied, and a table would break it."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    area = ""
    for check in checks:
        if check.area != area:
            area = check.area
            table.add_row("", Text(area, style=f"bold not dim {ACCENT}"), "")
        mark, color = _MARKS[check.state]
        table.add_row(Text(mark, style=color), check.name, Text(visible(check.value)))
        if check.mend and check.state != WRONG:
            table.add_row("", "", Text.assemble(("→ ", "dim"), (visible(check.mend), "bold")))
    return table
