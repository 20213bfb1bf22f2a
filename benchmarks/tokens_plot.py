"""Draws recall against bytes a token: an SVG by hand, as levels_plot.py does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log
from typing import Any

WIDTH, PANEL, HEIGHT, LEFT, TOP = 940, 560, 320, 70, 60
FEWEST, MOST = 20.0, 5000.0
LOWEST, HIGHEST = 0.2, 0.8
TICKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def draw(figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One line an encoder: x bytes a token, logarithmic, y turn R@5; dashed what its pooled vector finds."""
    height = TOP + HEIGHT + 90 + 24 * len(figures)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<g transform="translate({LEFT} {TOP})">',
        '<text x="0" y="-24" font-size="15" font-weight="bold" fill="#222222">'
        "Late interaction alone: turn R@5 by bytes a token</text>",
    ]
    for tenth in range(2, 9):
        y = _up(tenth / 10)
        parts.append(f'<path d="M0 {y:.1f}H{PANEL}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="-10" y="{y + 4:.1f}" text-anchor="end" fill="#444444">{tenth / 10:.1f}</text>')
    for tick in TICKS:
        x = _across(tick)
        parts.append(f'<path d="M{x:.1f} 0V{HEIGHT}" stroke="#eeeeee"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT + 20}" text-anchor="middle" fill="#444444">{tick:,}</text>')
    for place, (name, rows) in enumerate(figures.items()):
        colour = COLOURS[place % len(COLOURS)]
        points = sorted((row["bytes a token"], row["R@5"], row["kind"]) for row in rows if row["bytes a token"])
        line = [point for point in points if "no " not in point[2]]
        path = "L".join(f"{_across(each):.1f} {_up(share):.1f}" for each, share, _ in line)
        parts.append(f'<path d="M{path}" stroke="{colour}" stroke-width="2.5" fill="none"/>')
        for each, share, kind in points:
            hollow = "no " in kind
            fill = "#ffffff" if hollow else colour
            parts.append(
                f'<circle cx="{_across(each):.1f}" cy="{_up(share):.1f}" r="5" fill="{fill}" stroke="{colour}" '
                f'stroke-width="2"><title>{escape(kind)}</title></circle>'
            )
        plain = next(row["R@5"] for row in rows if not row["bytes a token"])
        parts.append(
            f'<path d="M0 {_up(plain):.1f}H{PANEL}" stroke="{colour}" stroke-width="1.5" stroke-dasharray="5 4"/>'
        )
        y = HEIGHT + 56 + 24 * place
        parts.append(f'<path d="M0 {y}h34" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(f'<text x="44" y="{y + 4}" fill="#222222">{escape(name)} (dashed: its pooled vector)</text>')
    parts.append(
        f'<text x="{PANEL + 20}" y="20" fill="#444444">filled, left to right:</text>'
        f'<text x="{PANEL + 20}" y="40" fill="#444444">128 axes, 2 digits; 1 digit;</text>'
        f'<text x="{PANEL + 20}" y="60" fill="#444444">2 digits; float32.</text>'
        f'<text x="{PANEL + 20}" y="90" fill="#444444">hollow: 1 digit with fewer tokens</text>'
        f'<text x="{PANEL + 20}" y="110" fill="#444444">(no marks or repetition; no stop</text>'
        f'<text x="{PANEL + 20}" y="130" fill="#444444">words either)</text>'
    )
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _across(size: float) -> float:
    return PANEL * log(size / FEWEST) / log(MOST / FEWEST)


def _up(share: float) -> float:
    return HEIGHT * (1 - (share - LOWEST) / (HIGHEST - LOWEST))
