"""Why a recall went as it did: what was put into the prompt, what was held back and by how much; all scores on demand.

The short view is at most a screen: the block a line a memory, then a line for each memory that stayed out. The rows are
those of last_recall.py, which `membank why` reads again from the bank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .terminal import LONGEST, NUMBER, cosine, counted, plain, plain_table, visible

MOST_LINES = 8
"""Of the block, and of what was held back."""
WIDE = 100
"""Columns from which on all scores stand in a table."""
NARROW = 60
"""Columns below which what became of a memory stands below it."""

LEGEND = (
    "L2, L1, L0: cosine from coarse to full · words: rarity of shared words · spreads: cosine above unrelated texts · "
    "score: what all signals add up to"
)
"""What the columns of `why_table` mean."""

Row = Mapping[str, Any]


def short_why(
    rows: Sequence[Row], text_of: Callable[[int], str], block: str, tokens: int | None, width: int
) -> RenderableType:
    """What was injected, the block itself, and a line for each memory that was not.

    Args:
        rows: best first.
        block: as it stood in the prompt; empty where nothing was put into one.
        tokens: of the block; None where no prompt was made.
        width: of the terminal.
    """
    parts: list[RenderableType] = []
    taken = [row for row in rows if row.get("injected")]
    relevant = [row for row in rows if row["relevant"] and not row.get("injected")]
    if block:
        size = f", {counted(tokens, 'token')}" if tokens else ""
        count = f"{counted(len(taken), 'memory')}{size}" if taken else f"what the turn began with{size}"
        parts += [Text(f"put into the prompt: {count}", "green"), *_block_lines(block)]
    elif tokens is None and relevant:
        parts.append(Text(f"relevant: {counted(len(relevant), 'memory')}; no prompt was made", "green"))
        parts.append(_lines_of(relevant, text_of, "", width))
    else:
        parts.append(Text("nothing was relevant" if tokens is None else "nothing was put into the prompt", "yellow"))
    back = [row for row in rows if not row.get("injected") and (tokens is not None or not row["relevant"])]
    if back:
        parts += [Text("held back:", "dim"), _lines_of(back, text_of, "dim", width)]
    return Group(*parts)


def _block_lines(block: str) -> list[Text]:
    """Each line of the block on one of the terminal's, without what marks its ends."""
    lines = [line for line in visible(block).splitlines() if line.strip()]
    inner = lines[2:-1] if len(lines) > 3 else lines
    shown = [Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in inner[:MOST_LINES]]
    if len(inner) > MOST_LINES:
        shown.append(Text(f"  … {counted(len(inner) - MOST_LINES, 'line')} more", "dim"))
    return shown


def _lines_of(rows: Sequence[Row], text_of: Callable[[int], str], style: str, width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    if width >= NARROW:
        table.add_column(no_wrap=True)
    for row in rows[:MOST_LINES]:
        number, text = f"  {row['memory_id']}", plain(text_of(row["memory_id"]), limit=LONGEST)
        if width >= NARROW:
            table.add_row(number, text, by_how_much(row), style=style)
        else:
            table.add_row(number, text, style=style)
            table.add_row("", Text(by_how_much(row), "dim"))
    if len(rows) <= MOST_LINES:
        return table
    return Group(table, Text(f"  … {counted(len(rows) - MOST_LINES, 'memory')} more", "dim"))


def by_how_much(row: Row) -> str:
    """Why a memory stayed out, in a few words: how far it was from enough, or what else kept it out."""
    found, enough = row.get("evidence") or 0.0, row.get("enough") or 0.0
    if row["relevant"]:
        skipped: str | None = row.get("skipped")
        return visible(skipped) if skipped else f"{found:.1f} of {enough:.1f}"
    if found < enough:
        return f"{enough - found:.1f} short of {enough:.1f}"
    return visible(row["reason"].partition(": ")[2].partition(" (")[0].partition(";")[0] or row["reason"])


def whole_why(rows: Sequence[Row], text_of: Callable[[int], str], width: int) -> RenderableType:
    """Every score; a table where the terminal is wide enough for one."""
    if width >= WIDE:
        return why_table(rows, text_of)
    parts: list[RenderableType] = []
    for row in rows:
        levels = " ".join(f"L{level} {cosine(row[f'score_l{level}'])}" for level in (2, 1, 0))
        style = "" if row["relevant"] else "dim"
        parts.append(Text(f"{row['memory_id']}  ", style) + plain(text_of(row["memory_id"]), style, LONGEST // 2))
        scores = f"   {levels} · words {row['lexical_score']:.1f} · score {row['fused_score']:+.2f}"
        parts += [Text(scores, "dim"), Padding(outcome(row), (0, 0, 0, 3))]
    return Group(*parts)


def why_table(rows: Sequence[Row], text_of: Callable[[int], str]) -> Table:
    """Every score of a saved recall, and what became of each memory."""
    table = plain_table(
        ("id", NUMBER), ("memory", {"ratio": 3, "min_width": 12, "overflow": "fold"}),
        ("L2", NUMBER), ("L1", NUMBER), ("L0", NUMBER), ("words", NUMBER), ("score", NUMBER),
        ("what became of it", {"ratio": 2, "min_width": 16}),
    )  # fmt: skip
    for row in rows:
        table.add_row(
            str(row["memory_id"]),
            plain(text_of(row["memory_id"]), limit=LONGEST // 2),
            cosine(row["score_l2"]),
            cosine(row["score_l1"]),
            cosine(row["score_l0"]),
            f"{row['lexical_score']:.1f}",
            f"{row['fused_score']:+.2f}",
            outcome(row),
            style="" if row["relevant"] else "dim",
        )
    return table


def signals_of(row: Row) -> str:
    """What each signal added to a score, the strongest first."""
    parts = sorted((row.get("signals") or {}).items(), key=lambda part: -abs(part[1]))
    return ", ".join(f"{name.replace('_', ' ')} {value:+.1f}" for name, value in parts if abs(value) >= 0.05)


def outcome(row: Row) -> Text:
    """Injected, or why not; then what the gate saw."""
    if row.get("injected"):
        head = Text("injected", style="green")
    elif row.get("skipped"):
        head = Text(visible(row["skipped"]), style="yellow")
    else:
        head = Text("relevant" if row["relevant"] else "not relevant", style="green" if row["relevant"] else "")
    # the legend says what spreads are
    reason = (row["reason"].partition(": ")[2] or row["reason"]).replace(" above unrelated text", "")
    if row.get("skipped") == row["reason"]:
        head = Text("not relevant")
    if reason:
        head.append(f" · {reason}", style="dim")
    parts, twins = signals_of(row), row.get("duplicates")
    if parts:
        head.append(f" · score: {parts}", style="dim")
    if twins:
        head.append(f" · says the same as {', '.join(map(str, twins))}", style="dim")
    return head
