"""A set of everyday questions: what one person told an assistant over some weeks, and what is asked of it later.

``{now, conversations: [{days_ago, at, turns: [{user | assistant, id?}]}], questions: [{kind, question, answers?,
outdated?, evidence?}]}``. A question is of one of three kinds: a fact; an update, told and later told otherwise, where
the last value counts; or unknown, never told. Evidence names the turns that hold the answer by their ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from membank_llama.core.types import NewMemory

from .locomo import LabelledConversation, LabelledQuestion, parse_stamp, parsed_file, read_conversations, texts_of

UNKNOWN = "unknown"
KINDS = ("fact", "update", UNKNOWN)
NAME = "everyday"
_DAY = 86400.0
_TURN = 20.0
"""Seconds between the turns of a conversation."""


def read_talks(path: Path, most: int | None = None) -> list[LabelledConversation]:
    """Conversations with questions, of either shape: an object is an everyday set, a list is in the shape of LoCoMo.

    Raises:
        InvalidInputError: the file cannot be read, or is of another shape.
    """
    try:
        is_everyday = path.read_text(encoding="utf-8").lstrip()[:1] == "{"
    except (OSError, ValueError):
        is_everyday = False
    return [read_everyday(path)] if is_everyday else read_conversations(path, most)


def read_everyday(path: Path) -> LabelledConversation:
    """An everyday set; all of it is one namespace.

    Raises:
        InvalidInputError: the file cannot be read, or is of another shape.
    """
    return parsed_file(path, _everyday, "set of everyday questions", "benchmarks/everyday/answers.json is one")


def _everyday(data: Mapping[str, Any]) -> LabelledConversation:
    now = parse_stamp(data["now"], -1.0)
    if now < 0:
        raise ValueError(f"now is {data['now']!r}, which is no date")
    turns: list[NewMemory] = []
    sessions: list[str] = []
    rows: dict[str, int] = {}
    for number, talk in enumerate(data["conversations"], 1):
        session = f"{NAME}/{number}"
        began = _moment(now, talk["days_ago"], talk["at"])
        for place, turn in enumerate(talk["turns"]):
            role = "user" if "user" in turn else "assistant"
            when = began + place * _TURN
            turns.append(NewMemory(turn[role], role=role, namespace=NAME, conversation=session, created_at=when))
            sessions.append(session)
            if "id" in turn:
                rows[turn["id"]] = len(turns) - 1
    asked = tuple(_question(one, rows, now) for one in data["questions"])
    if not asked:
        raise ValueError("it holds no question")
    return LabelledConversation(NAME, tuple(turns), tuple(sessions), asked, 0)


def _moment(now: float, days_ago: int, clock: str) -> float:
    """The time of day, UTC, some days before the day that it is."""
    hours, minutes = clock.split(":")
    return now - now % _DAY - days_ago * _DAY + 3600 * int(hours) + 60 * int(minutes)


def _question(one: Mapping[str, Any], rows: Mapping[str, int], now: float) -> LabelledQuestion:
    kind = one["kind"]
    if kind not in KINDS:
        raise ValueError(f"a question is of the kind {kind!r}, which is none of {', '.join(KINDS)}")
    if (kind == UNKNOWN) == bool(one.get("answers")):
        raise ValueError(f"what is unknown has no answers, and all else has: {one['question']!r}")
    evidence = frozenset(rows[name] for name in one.get("evidence", ()))
    answers, outdated = (texts_of(one.get(name, [])) for name in ("answers", "outdated"))
    return LabelledQuestion(one["question"], evidence, kind, now, answers, outdated)
