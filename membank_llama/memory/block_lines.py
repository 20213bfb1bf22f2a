"""The lines of a block: each memory with its day, how long ago that was or its date in words, who said it, and what.

Of what a later statement replaced the line says so, and the later one that it is so now. A memory is one line; code in
it keeps its lines, in a fence of its own that no text within it can close, indented so that no line of it can pass for
a line of the block.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, tzinfo
from typing import Any, Protocol

from membank_llama.core.days import days_of
from membank_llama.core.letters import folded
from membank_llama.core.provenance import PERSON_ROLES, Provenance, provenance_of
from membank_llama.recall.evidence import OWN_ROLES
from membank_llama.recall.replacements import Statement, replaced, says_change

NO_LONGER, NOW = "no longer so", "so now"
"""What is said of a statement that was replaced, and of the one that did."""

_LINE = re.compile(r"[-–—•*]\s(?=\d{4}-\d\d-\d\d(?:,| \())")
_NAME = re.compile(r"[^\W\d_][\w.'’-]{0,31}(?: [^\W\d_][\w.'’-]{0,31}){0,2}")
_FENCED = re.compile(r"^(`{3,}|~{3,})([^\n`]*)\n(.*?)(?:^\1[`~]*[^\S\n]*$|\Z)", re.MULTILINE | re.DOTALL)
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
"""Not the machine's language: a model reads the rest of the line in English too."""
_FENCE = re.compile(r"`{3,}")
_NEW_LINE, _INDENT = "\n", "  "
_LANGUAGE = re.compile(r"[\w+#.-]{1,20}")
_AUTHORITY = frozenset(
    {
        "admin", "administrator", "authority", "developer", "instruction", "instructions", "moderator", "official",
        "operator", "policy", "root", "security", "superuser", "system", "trusted", "verified",
    }
)  # fmt: skip


class Remembered(Protocol):
    """What a line of the block is made of; `RecallResult` is one."""

    @property
    def memory_id(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def created_at(self) -> float: ...
    @property
    def source(self) -> str | None: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


def on_one_line(text: str) -> str:
    """The text on one line, without what a line of the block begins with."""
    return _LINE.sub("", " ".join(text.split()))


def shown_text(text: str) -> str:
    """The text as a line of the block shows it: on one line, but for code in fences, which begins on a line of its own
    and keeps its lines."""
    if "```" not in text and "~~~" not in text:
        return on_one_line(text)
    parts, at = [], 0
    for code in _FENCED.finditer(text):
        parts += [on_one_line(text[at : code.start()]), _fenced(code[2], code[3])]
        at = code.end()
    parts.append(on_one_line(text[at:]))
    shown = f"\n{_INDENT}".join(part for part in parts if part)
    return f"\n{_INDENT}{shown}" if not parts[0] and at else shown


def _fenced(language: str, code: str) -> str:
    lines = [_LINE.sub("", line.rstrip()) for line in code.expandtabs(4).splitlines()]
    longest = max((len(found) for line in lines for found in _FENCE.findall(line)), default=2)
    fence = "`" * max(3, longest + 1)
    named = language.strip()
    opening = fence + (named if _LANGUAGE.fullmatch(named) else "")
    return f"\n{_INDENT}".join([opening, *lines, fence])


def shown_role(role: str) -> str:
    """Who said it: a name or a plain word, and nothing that claims authority."""
    shown = " ".join(role.split())
    words = folded(shown).split()
    claims = any(word.strip(".'’-") in _AUTHORITY for word in words)
    return shown if _NAME.fullmatch(shown) and not claims else "note"


def _provenance(memory: Remembered) -> Provenance:
    return provenance_of(memory.role, memory.source, memory.metadata)


def who_said(memory: Remembered) -> str:
    """Where a memory is from, in words; the block stands in the person's own message."""
    provenance = _provenance(memory)
    if provenance == Provenance.MODEL:
        return "you answered"
    if provenance == Provenance.TOOL:
        return "a tool said"
    if provenance == Provenance.IMPORT:
        return f"imported, {shown_role(memory.role)}"
    if provenance == Provenance.DOCUMENT:
        return f"from {shown_role(_file_name(memory.source))}"
    return "I said" if folded(memory.role) in PERSON_ROLES else shown_role(memory.role)


def _file_name(source: str | None) -> str:
    # a name with a dot and digits in it is no person's
    return re.sub(r"[^\w.' -]|\d", " ", (source or "").replace("\\", "/").rpartition("/")[2]) or "a document"


def how_long_ago(day: str, today: str) -> str:
    """How long ago a day was, ``2025-01-31``; empty where one of them is none."""
    try:
        days = (date.fromisoformat(today) - date.fromisoformat(day)).days
    except ValueError:
        return ""
    if days < 0:
        return ""
    if days < 2:
        return ("today", "yesterday")[days]
    for most, length, name in ((14, 1, "days"), (61, 7, "weeks"), (730, 30.4, "months"), (1 << 30, 365, "years")):
        if days < most:
            return f"{int(days / length)} {name} ago"
    return ""


def day_in_words(day: str, today: str) -> str:
    """A day as people speak of it: how long ago it was, of the last two months, or else its date in words; empty where
    one of them is none."""
    since = how_long_ago(day, today)
    if since.endswith(("months ago", "years ago")):
        when = date.fromisoformat(day)
        return f"{when.day} {MONTHS[when.month - 1]} {when.year}"
    return since


def replaced_among(memories: Sequence[Remembered]) -> dict[int, int]:
    """Places of those that a later one among them replaces, with the place of that one; only what people said."""
    places, statements = [], []
    for place, memory in enumerate(memories):
        provenance = _provenance(memory)
        if provenance > Provenance.TOOL:
            places.append(place)
            first: float | None = getattr(memory, "first_told_at", None)
            statements.append(Statement(memory.text, memory.created_at, provenance == Provenance.PERSON, first))
    return {places[older]: places[newer] for older, newer in replaced(statements).items()}


def is_change(memory: Remembered) -> bool:
    """Whether a person says in it that something has changed."""
    person = _provenance(memory) == Provenance.PERSON
    return person and memory.role in OWN_ROLES and says_change(memory.text)


def lines_of(
    memories: Sequence[Remembered],
    neutralise: Callable[[str], str],
    zone: tzinfo | None = None,
    now: float | None = None,
    outdated: Mapping[int, int] | None = None,
) -> list[str]:
    """Each memory as it stands in the block.

    Args:
        zone: whose days are shown; None for this machine's.
        now: when it is shown; None for the clock's time.
        outdated: as `replaced_among` finds it, where that is known already.
    """
    gone = replaced_among(memories) if outdated is None else outdated
    today, *days = days_of([time.time() if now is None else now, *(memory.created_at for memory in memories)], zone)
    current = set(gone.values())
    lines = []
    for place, (day, memory) in enumerate(zip(days, memories, strict=True)):
        since = day_in_words(day, today)
        when = f"{day or 'undated'}{f' ({since})' if since else ''}"
        state = NO_LONGER if place in gone else NOW if place in current else ""
        head = ", ".join(part for part in (when, state, who_said(memory)) if part)
        text = shown_text(memory.text)
        lines.append(neutralise(f"- {head}:{'' if text.startswith(_NEW_LINE) else ' '}{text}"))
    return lines
