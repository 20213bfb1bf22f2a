"""Notes in Markdown: each of the day that its front matter says, or its name, or else of its last change."""

from __future__ import annotations

import re
from collections.abc import Iterator

from membank_llama.core.days import FIRST_SECOND
from membank_llama.core.types import NewMemory
from membank_llama.memory.text_splitting import clean_passages

from .import_report import ImportReport
from .told_times import told_at

MARKDOWN = (".md", ".markdown", ".mdx")
_FENCE = "---"
_MOST_LINES = 200
_FIELD = re.compile(r"(date|created|created_at|created-at|day):[ \t]{0,20}['\"\[]{0,4}([^'\"#\]]{1,60})", re.IGNORECASE)
_NAMED = re.compile(r"(?<!\d)(\d{4})([-_./]?)(\d\d)\2(\d\d)(?!\d)")
UNDATED = "notes that say no day: that of their last change is taken"


def read_dated_note(text: str, name: str, changed: float | None, report: ImportReport) -> Iterator[NewMemory]:
    """The passages of a note. `name`: its path below the directory."""
    dates, body = _front_matter(text)
    dates += [f"{year}-{month}-{day}" for year, _, month, day in _NAMED.findall(name)]
    told = (told_at(date, report, name, zone=None, first=FIRST_SECOND) for date in dates)
    when = next((one for one in told if one is not None), None)
    if when is None and body.strip():
        report.remark(UNDATED, name)
    for part, passage in enumerate(clean_passages(body)):
        created = changed if when is None else when
        yield NewMemory(passage, {"part": part}, role="note", created_at=created, source=name)


def has_date(name: str) -> bool:
    """Whether the name of a file has a day in it."""
    return bool(_NAMED.search(name))


def _front_matter(text: str) -> tuple[list[str], str]:
    """The days that a note's front matter says, and what follows it."""
    lines = text.lstrip("\ufeff").split("\n", _MOST_LINES)
    if lines[0].rstrip() != _FENCE:
        return [], text
    for place, line in enumerate(lines[1:], start=1):
        if line.rstrip() in (_FENCE, "..."):
            found = (_FIELD.match(one) for one in lines[1:place])
            return [one[2].strip() for one in found if one], "\n".join(lines[place + 1 :])
    return [], text
