"""What the benchmarks of the command line share: the report that is written to a file, and its tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from membank_llama.core.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.table import Table


def check_output(output: Path | None) -> None:
    """See that a report can be written there: said before the work, not after.

    Raises:
        InvalidInputError: there is no such directory.
    """
    if output is not None and not output.parent.is_dir():
        raise InvalidInputError(f"there is no directory {output.parent} to write the report to")


def write_report(output: Path | None, found: Mapping[str, Any]) -> None:
    """Write a report as JSON, where a file is named for it."""
    if output is not None:
        output.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def figures_table(heads: Sequence[str], rows: Sequence[Sequence[str]], strong: str | None = None) -> Table:
    """Figures to the right of their names; the row of the name `strong` in bold."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == strong else "")
    return table
