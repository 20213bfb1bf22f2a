"""Ways to write the block, to be compared: what models make of them, `membank bench answers` measures.

A `Rendering` takes what `build_block` takes. Those that say how long ago something was need to know when it is asked:
each is made for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, TypeAlias

from membank_llama.core.days import wall_clock
from membank_llama.memory.block_lines import how_long_ago, on_one_line, shown_role
from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN, EARLIER_HEADERS, HEADER, Block


@dataclass(frozen=True)
class SessionMemory:
    """A memory as it is shown: what a block is made of, and the conversation it was told in."""

    memory_id: int
    text: str
    role: str
    created_at: float
    conversation: str | None = None
    source: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


Rendering: TypeAlias = Callable[
    [Sequence[SessionMemory], int, Callable[[str], int], Callable[[str], str], "tzinfo | None"], Block
]
"""Memories, best first, a budget in tokens, what counts them, what neutralises a line, whose days: the block."""

RenderingMaker: TypeAlias = Callable[[float], Rendering]
"""The rendering for when it is asked, in seconds since 1970."""


@dataclass(frozen=True)
class Moment:
    """When it is asked, and whose days are shown."""

    now: float
    zone: tzinfo | None

    def told(self, memory: SessionMemory) -> datetime:
        return wall_clock(memory.created_at, self.zone)

    def day(self, memory: SessionMemory) -> str:
        """``2023-05-08``"""
        return f"{self.told(memory):%Y-%m-%d}"

    def ago(self, memory: SessionMemory) -> str:
        """``today``, ``3 weeks ago``"""
        return how_long_ago(self.day(memory), f"{wall_clock(self.now, self.zone):%Y-%m-%d}")


def in_words(day: datetime) -> str:
    """``Monday, 8 May 2023``"""
    return f"{day:%A}, {day.day} {day:%B %Y}"


Wording: TypeAlias = Callable[[SessionMemory, Moment], str]


@dataclass(frozen=True)
class Layout:
    """One way to write a block.

    `line` writes a memory; `heading` stands over those of one day, or with `by_session` of one conversation; a header
    may hold ``{today}``. None of them marks what was replaced.
    """

    line: Wording
    header: str = HEADER
    heading: Wording | None = None
    by_session: bool = False

    def at(self, now: float) -> Rendering:
        """The rendering for a question that is asked now."""

        def render(
            memories: Sequence[SessionMemory],
            budget: int,
            count: Callable[[str], int],
            neutralise: Callable[[str], str],
            zone: tzinfo | None,
        ) -> Block:
            moment = Moment(now, zone)
            chosen: list[SessionMemory] = []
            skipped: dict[int, str] = {}
            for memory in memories:
                if count(self._text([*chosen, memory], moment, neutralise)) <= budget:
                    chosen.append(memory)
                else:
                    skipped[memory.memory_id] = "over the token budget"
            if not chosen:
                return Block(skipped=skipped)
            text = self._text(chosen, moment, neutralise)
            return Block(text, count(text), tuple(memory.memory_id for memory in chosen), skipped)

        return render

    def _text(self, chosen: Sequence[SessionMemory], moment: Moment, neutralise: Callable[[str], str]) -> str:
        ordered = sorted(chosen, key=lambda memory: (memory.created_at, memory.memory_id))
        lines: list[str] = []
        above: object = None
        for memory in ordered:
            if self.heading is not None:
                group = memory.conversation if self.by_session else moment.day(memory)
                if not lines or group != above:
                    lines.append(neutralise(self.heading(memory, moment)))
                above = group
            lines.append(neutralise(self.line(memory, moment)))
        today = in_words(wall_clock(moment.now, moment.zone))
        return "\n".join([BLOCK_OPEN, self.header.format(today=today), *lines, BLOCK_CLOSE]) + "\n\n"


def _said(memory: SessionMemory) -> str:
    return f"{shown_role(memory.role)}: {on_one_line(memory.text)}"


def _spoken(user: str, assistant: str) -> Wording:
    """Who said it in words; a name stays a name."""
    verbs = {"user": user, "assistant": assistant}

    def line(memory: SessionMemory, moment: Moment) -> str:
        who = verbs.get(memory.role, f"{shown_role(memory.role)} said")
        return f"- On {moment.day(memory)} {who}: {on_one_line(memory.text)}"

    return line


def _plain(memory: SessionMemory, moment: Moment) -> str:
    return f"- {moment.day(memory)}, {_said(memory)}"


_LAYOUTS = {
    "before": Layout(_plain, EARLIER_HEADERS[0]),
    "today": Layout(_plain, f"Today is {{today}}. {HEADER}"),
    "dated": Layout(lambda memory, moment: f"- {in_words(moment.told(memory))}, {_said(memory)}"),
    "days": Layout(
        lambda memory, _: f"- {_said(memory)}",
        heading=lambda memory, moment: f"{moment.day(memory)} ({moment.ago(memory)})",
    ),
    "cards": Layout(
        lambda memory, _: _said(memory),
        heading=lambda memory, moment: f"Conversation of {in_words(moment.told(memory))}, {moment.ago(memory)}:",
        by_session=True,
    ),
    "you-said": Layout(_spoken("you said", "I answered")),
}
VARIANTS: Mapping[str, RenderingMaker] = {name: layout.at for name, layout in _LAYOUTS.items()}
"""The renderings that stand here, by name; `before` is that of the version before."""
