"""Draws precision against bytes for every codec: an SVG by hand, a plotting library being a large thing to ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log
from typing import Any

WIDTH, PANEL, TOP, GAP, LEFT, HEIGHT, BOTTOM = 940, 380, 70, 60, 70, 300, 190
COLOURS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#888888")
"""Okabe and Ito's, which also the colour-blind tell apart."""

TICKS = (5, 8.5, 15, 25, 33)
FIRST, LAST = 4.0, 40.0


def draw(figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One panel an encoder: x the share of float32, logarithmic, y P@5 of a level alone."""
    codecs = list(dict.fromkeys(row["codec"] for rows in figures.values() for row in rows))
    lines_of_panels = -(-len(figures) // 2)
    height = lines_of_panels * (HEIGHT + TOP + 50) + 40 + 26 * -(-len(codecs) // 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]

    def across(share: float) -> float:
        return PANEL * log(100 * share / FIRST) / log(LAST / FIRST)

    for place, (encoder, rows) in enumerate(figures.items()):
        x, y = LEFT + place % 2 * (PANEL + GAP), TOP + place // 2 * (HEIGHT + TOP + 50)
        parts.append(f'<g transform="translate({x} {y})">')
        parts += _frame(encoder, across)
        for codec in codecs:
            points = sorted(
                (row["share"], row["P@5"]) for row in rows if row["codec"] == codec and "alone" in row["level"]
            )
            parts += _line(points, COLOURS[codecs.index(codec) % len(COLOURS)], codec.startswith("tried"), across)
        parts.append("</g>")
    bottom = lines_of_panels * (HEIGHT + TOP + 50) + 20
    for place, codec in enumerate(codecs):
        x, y = LEFT + place % 2 * (PANEL + GAP), bottom + 26 * (place // 2)
        colour, dash = COLOURS[place % len(COLOURS)], ' stroke-dasharray="5 4"' if codec.startswith("tried") else ""
        parts.append(f'<path d="M{x} {y}h34" stroke="{colour}" stroke-width="2.5"{dash}/>')
        parts.append(f'<circle cx="{x + 17}" cy="{y}" r="4.5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 44}" y="{y + 4}" fill="#222222">{escape(codec)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _frame(title: str, across: Any) -> list[str]:
    """Title, axes and grid of one panel."""
    parts = [f'<text x="0" y="-22" font-size="15" font-weight="bold" fill="#222222">{escape(title)}</text>']
    for tenth in range(0, 11, 2):
        y = HEIGHT * (1 - tenth / 10)
        parts.append(f'<path d="M0 {y:.1f}H{PANEL}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="-10" y="{y + 4:.1f}" text-anchor="end" fill="#444444">{tenth / 10:.1f}</text>')
    for tick in TICKS:
        x = across(tick / 100)
        budget = tick in (8.5, 33)
        dash = ' stroke-dasharray="2 3"' if budget else ""
        parts.append(f'<path d="M{x:.1f} 0V{HEIGHT}" stroke="{"#777777" if budget else "#e4e4e4"}"{dash}/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT + 20}" text-anchor="middle" fill="#444444">{tick:g} %</text>')
    parts.append(f'<path d="M0 0V{HEIGHT}H{PANEL}" stroke="#444444" fill="none"/>')
    parts.append(
        f'<text x="{PANEL / 2}" y="{HEIGHT + 42}" text-anchor="middle" fill="#222222">bytes of a level, of float32 '
        "(dotted: the budgets)</text>"
    )
    parts.append(
        f'<text transform="translate(-46 {HEIGHT / 2}) rotate(-90)" text-anchor="middle" fill="#222222">'
        "P@5 against exact cosine</text>"
    )
    return parts


def _line(points: Sequence[tuple[float, float]], colour: str, tried: bool, across: Any) -> list[str]:
    places = [(across(share), HEIGHT * (1 - value)) for share, value in points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dash = ' stroke-dasharray="5 4"' if tried else ""
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>' for x, y in places]
    return [f'<path d="M{path}" stroke="{colour}" stroke-width="2.5" fill="none"{dash}/>', *dots]
