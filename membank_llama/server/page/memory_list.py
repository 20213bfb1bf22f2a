"""What the list of memories shows: which were asked for, grouped by day and conversation, or found by a search.

As one types, memories come by their meaning and by their letters. A search by letters reads every text; in a large bank
it is a second request, so that what is found by meaning need not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import urlencode

from membank_llama.core.days import wall_clock
from membank_llama.core.errors import InvalidInputError, InvalidQueryError
from membank_llama.core.provenance import NAMES, PERSON_ROLES
from membank_llama.memory.bank_editing import HISTORY
from membank_llama.memory.namespace_memories import NamespaceMemories
from membank_llama.store.memory_pages import MOST_LETTERS

PAGE = 30
FOUND, NEAREST = 20, 5
"""Memories that a search shows: those that belong to it, and where none does, those that come nearest."""
LETTERS_AT_ONCE = 20_000
"""Memories whose letters are looked through at once; with more of them that is a request of its own."""
SHOWN_CHARACTERS = 700
MOST_QUERY = 2000
LABELS = {"person": "You", "model": "Model", "document": "Document", "import": "Import", "tool": "Tool"}


@dataclass(frozen=True)
class ListFilter:
    """What of a namespace is looked at, as the page's address says it.

    Args:
        q: words to look for.
        conversation: of this one alone; None for all.
        who: a provenance, or an empty text.
        topic: a topic's id, or an empty text.
    """

    q: str = ""
    conversation: str | None = None
    who: str = ""
    pinned: bool = False
    topic: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> ListFilter:
        """From a query string.

        Raises:
            InvalidInputError: it names what there cannot be.
        """
        q = " ".join(query.get("q", "").replace("\0", " ").split())
        if len(q) > MOST_QUERY:
            raise InvalidInputError(f"look for at most {MOST_QUERY:,} letters at a time")
        who = query.get("who", "")
        if who and who not in NAMES:
            raise InvalidInputError(f"memories are from {', '.join(NAMES)}")
        named = query.get("conversation", "").replace("\0", "")
        conversation = {"": None, "-": ""}.get(named, named)
        return cls(q, conversation, who, query.get("pinned") == "1", query.get("topic", "")[:200])

    def conditions(self, ids: frozenset[int] | None) -> dict[str, Any]:
        """As `MemoryFilter` has them; `ids`: of the topic."""
        return {
            "conversation": self.conversation,
            "provenance": self.who or None,
            "pinned": True if self.pinned else None,
            "ids": ids,
        }

    @property
    def narrows(self) -> bool:
        """Whether anything but words is asked for."""
        return self != ListFilter(self.q)

    def address(self, **more: str) -> str:
        """As a query string."""
        named = {None: "", "": "-"}.get(self.conversation, self.conversation)
        values = {
            "q": self.q,
            "conversation": named,
            "who": self.who,
            "pinned": "1" if self.pinned else "",
            "topic": self.topic,
            **more,
        }
        return urlencode({name: value for name, value in values.items() if value})


class MemoryLister:
    """Lists memories of one namespace for the page.

    Args:
        ids: of the topic that is asked for; None for all.
    """

    def __init__(self, mine: NamespaceMemories, chosen: ListFilter, ids: frozenset[int] | None) -> None:
        self._mine = mine
        self._chosen = chosen
        self._ids = ids
        self._days = day_names(mine.zone)

    def page(self, cursor: str | None, after: str = "") -> dict[str, Any]:
        """Memories by day and conversation, the newest first; `after`: the day and conversation that were shown last.

        Raises:
            InvalidQueryError: the cursor is none.
        """
        found = self._mine.page(PAGE, cursor, **self._chosen.conditions(self._ids))
        rows = list(self._grouped(found["memories"], after))
        last = f"{rows[-1]['day']} {rows[-1]['conversation'] or ''}" if rows else ""
        more = self._chosen.address(cursor=found["cursor"], after=last) if found["cursor"] else ""
        return {"rows": rows, "more": more}

    def _grouped(self, memories: Iterable[Mapping[str, Any]], after: str) -> Iterator[dict[str, Any]]:
        shown_day, _, shown_talk = after.partition(" ")
        talk: str | None = shown_talk if after else None
        for memory in memories:
            row = self.shown(memory)
            new_day = row["day"] != shown_day
            row["heading"] = self._days.name(memory["first_told_at"]) if new_day else ""
            row["talk"] = new_day or (memory["conversation"] or "") != talk
            shown_day, talk = row["day"], memory["conversation"] or ""
            yield row

    def search(self) -> dict[str, Any]:
        """What belongs to the words, what holds their letters, and where neither is, what comes nearest."""
        known = self._by_meaning()
        belongs = [self.shown(one) for one in known if one["relevant"]]
        late = len(self._mine.bank.snapshot(self._mine.namespace)) > LETTERS_AT_ONCE
        letters = [] if late else self.letters({one["id"] for one in belongs})
        nearest = [] if belongs or letters else [self.shown(one) for one in known[:NEAREST]]
        return {
            "belongs": belongs,
            "letters": letters,
            "nearest": nearest,
            "later": self._chosen.address(without=",".join(str(one["id"]) for one in belongs)) if late else "",
        }

    def _by_meaning(self) -> list[dict[str, Any]]:
        among = self._chosen.conditions(self._ids)
        try:
            return list(self._mine.search(self._chosen.q, FOUND, among=among)["memories"])
        except InvalidQueryError:
            # nothing in it that has a meaning
            return []

    def letters(self, without: set[int]) -> list[dict[str, Any]]:
        """The newest memories that hold the very letters."""
        conditions = self._chosen.conditions(self._ids) | {"text": self._chosen.q[:MOST_LETTERS]}
        found = self._mine.page(FOUND + min(len(without), FOUND), None, **conditions)["memories"]
        return [self.shown(one) for one in found if one["id"] not in without][:FOUND]

    def shown(self, memory: Mapping[str, Any]) -> dict[str, Any]:
        """A memory as the template wants it."""
        return shown_memory(memory, self._days)


class DayNames:
    """Days and times as people say them.

    Args:
        today: the day it is.
        zone: whose days; None for this machine's.
    """

    def __init__(self, today: date, zone: tzinfo | None) -> None:
        self._today = today
        self._zone = zone

    def day(self, instant: float) -> str:
        """2026-11-27; an empty text for a time that no calendar has."""
        with suppress(ValueError, OverflowError, OSError):
            return wall_clock(instant, self._zone).date().isoformat()
        return ""

    def name(self, instant: float) -> str:
        """Today, Yesterday, or Friday, 27 November 2026."""
        try:
            day = wall_clock(instant, self._zone).date()
        except (ValueError, OverflowError, OSError):
            return "At no known time"
        ago = self._today - day
        if timedelta(0) <= ago <= timedelta(1):
            return ("Today", "Yesterday")[ago.days]
        return f"{day:%A}, {day.day} {day:%B} {day.year}"

    def date(self, instant: float) -> str:
        """27 November 2026."""
        return self.whole(instant).partition(",")[0]

    def time(self, instant: float) -> str:
        """14:05."""
        with suppress(ValueError, OverflowError, OSError):
            return f"{wall_clock(instant, self._zone):%H:%M}"
        return ""

    def clock(self, instant: float) -> str:
        """14:05:09."""
        with suppress(ValueError, OverflowError, OSError):
            return f"{wall_clock(instant, self._zone):%H:%M:%S}"
        return ""

    def whole(self, instant: float) -> str:
        """27 November 2026, 14:05."""
        try:
            at = wall_clock(instant, self._zone)
        except (ValueError, OverflowError, OSError):
            return "at no known time"
        return f"{at.day} {at:%B} {at.year}, {at:%H:%M}"


def day_names(zone: tzinfo | None) -> DayNames:
    """The days of a zone as of now."""
    return DayNames(datetime.now(zone).date(), zone)


def shown_memory(memory: Mapping[str, Any], days: DayNames) -> dict[str, Any]:
    """A memory as the templates want it: its fields, and how they are said."""
    first, text = memory["first_told_at"] or memory["created_at"], memory["text"]
    history = memory["metadata"].get(HISTORY)
    return {
        **memory,
        "shown": text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS].rstrip()} …",
        "is_cut": len(text) > SHOWN_CHARACTERS,
        "day": days.day(first),
        "date": days.date(first),
        "time": days.time(first),
        "at": days.whole(first),
        "told_again": memory["created_at"] > first,
        "again_at": days.whole(memory["created_at"]),
        "corrected": isinstance(history, list) and bool(history),
        "who": who_of(memory),
        "heading": "",
        "talk": False,
    }


def who_of(memory: Mapping[str, Any]) -> str:
    """Who or what a memory is from, in a word."""
    if memory["provenance"] == "person" and memory["role"].lower() not in PERSON_ROLES:
        return str(memory["role"])[:40]
    return LABELS[memory["provenance"]]
