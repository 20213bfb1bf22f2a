"""Conversations with questions whose evidence is known, in the shape of LoCoMo.

A list of ``{sample_id, conversation {session_N: [{speaker, dia_id, text, blip_caption?}], session_N_date_time?},
qa [{question, answer? | adversarial_answer?, evidence [dia_id], category?, question_date?}]}``. Evidence that names no
turn is left out; questions without any are left out and counted. A turn becomes a memory as a chat would store it: its
speaker is the role, its session the conversation, the sample the namespace.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import NewMemory, Vector

Parsed = TypeVar("Parsed")

_STAMPS = (
    "%I:%M %p on %d %B, %Y", "%Y/%m/%d (%a) %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M", "%Y-%m-%d", "%Y/%m/%d", "%d %B, %Y", "%d %B %Y", "%B %d, %Y",
)  # fmt: skip
_FIRST_DAY = datetime(2023, 1, 1, tzinfo=timezone.utc).timestamp()
_DAY = 86400.0


@dataclass(frozen=True)
class LabelledQuestion:
    """A question, the rows of the turns that answer it, its category, and when it is asked.

    `answers` are those accepted: none where the conversation holds no answer, None where the file does not say. `wrong`
    is what must not be answered.
    """

    text: str
    evidence: frozenset[int]
    category: str
    now: float
    answers: tuple[str, ...] | None = None
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelledConversation:
    """Turns in order, each with its session, and the questions that have evidence; `left_out` have none."""

    name: str
    turns: tuple[NewMemory, ...]
    sessions: tuple[str, ...]
    asked: tuple[LabelledQuestion, ...]
    left_out: int

    @property
    def texts(self) -> list[str]:
        return [turn.text for turn in self.turns]

    @property
    def questions(self) -> list[str]:
        return [question.text for question in self.asked]

    @property
    def evidence(self) -> list[frozenset[int]]:
        return [question.evidence for question in self.asked]


def parsed_file(path: Path, parse: Callable[[Any], Parsed], kind: str, hint: str) -> Parsed:
    """What a JSON file holds.

    Raises:
        InvalidInputError: the file cannot be read, or is none of this kind; with the hint.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise InvalidInputError(f"cannot read {path}: {exc.strerror or exc}") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidInputError(f"{path} is no {kind} ({type(exc).__name__}: {exc}); {hint}") from exc


def read_conversations(path: Path, most: int | None = None) -> list[LabelledConversation]:
    """The first `most` conversations of a file; those without a question that has evidence are left out.

    Raises:
        InvalidInputError: the file cannot be read, or is of another shape.
    """
    found = parsed_file(
        path,
        lambda samples: [one for one in map(_conversation, samples[:most]) if one.asked],
        "list of conversations in the shape of LoCoMo",
        "see https://github.com/snap-research/locomo",
    )
    if not found:
        raise InvalidInputError(f"{path} holds no question with evidence; give another file")
    return found


def _conversation(sample: Mapping[str, Any]) -> LabelledConversation:
    name, talk = str(sample["sample_id"]), sample["conversation"]
    turns: dict[str, NewMemory] = {}
    sessions: list[str] = []
    last = _FIRST_DAY
    for session in sorted((key for key in talk if re.fullmatch(r"session_\d+", key)), key=lambda key: int(key[8:])):
        last = start = parse_stamp(talk.get(f"{session}_date_time"), last + _DAY)
        for place, turn in enumerate(talk[session]):
            if turn["dia_id"] not in turns and str(turn["text"]).strip():
                turns[turn["dia_id"]] = _memory(turn, name, session, start + place)
                sessions.append(session)
    rows = {turn: row for row, turn in enumerate(turns)}
    asked = [
        LabelledQuestion(
            qa["question"], frozenset(rows[turn] for turn in named), str(qa.get("category", "–")),
            parse_stamp(qa.get("question_date"), last + _DAY), *_answers(qa),
        )
        for qa in sample["qa"]
        if (named := frozenset(_named(qa.get("evidence") or (), rows)))
    ]  # fmt: skip
    return LabelledConversation(
        name, tuple(turns.values()), tuple(sessions), tuple(asked), len(sample["qa"]) - len(asked)
    )


def _answers(qa: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """What is accepted, and what is wrong: a question with an adversarial answer has no other one."""
    if qa.get("adversarial_answer") is not None:
        return (), texts_of(qa["adversarial_answer"])
    return None if qa.get("answer") is None else texts_of(qa["answer"]), ()


def texts_of(value: Any) -> tuple[str, ...]:
    """One answer, or a list of them, as texts; such files write a year as a number."""
    return tuple(str(one) for one in value) if isinstance(value, list) else (str(value),)


def _memory(turn: Mapping[str, Any], name: str, session: str, when: float) -> NewMemory:
    caption, speaker = turn.get("blip_caption"), str(turn["speaker"])
    text = f"{speaker}: {turn['text']}" + (f" [shares a picture: {caption}]" if caption else "")
    return NewMemory(text, role=speaker, namespace=name, conversation=f"{name}/{session}", created_at=when)


def _named(evidence: str | Sequence[str], known: Mapping[str, int]) -> Iterator[str]:
    """The turns that evidence names: entries, or ids within an entry ("D1:3; D2:5")."""
    for entry in [evidence] if isinstance(evidence, str) else evidence:
        for part in (entry, *re.split(r"[;,\s]+", entry)):
            if part in known:
                yield part


def parse_stamp(stamp: object, otherwise: float) -> float:
    """A date as such files write it, in seconds since 1970, UTC; `otherwise` where it is none."""
    if isinstance(stamp, int | float) and not isinstance(stamp, bool):
        return float(stamp)
    for form in _STAMPS if isinstance(stamp, str) else ():
        try:
            return (
                datetime.strptime(str(stamp).strip().removesuffix("Z"), form).replace(tzinfo=timezone.utc).timestamp()
            )
        except ValueError:
            continue
    return otherwise


def shares_found(
    questions: Vector, turns: Vector, evidence: Sequence[frozenset[int]], cuts: Sequence[int]
) -> dict[int, list[float]]:
    """For each cut k, question by question, the share of the evidence among the k nearest turns by cosine.

    `questions` and `turns` are ``(n, dim)`` of unit length.
    """
    order = np.argsort(-(questions @ turns.T), axis=1, kind="stable")
    return {
        cut: [len(wanted & set(row[:cut].tolist())) / len(wanted) for wanted, row in zip(evidence, order, strict=True)]
        for cut in cuts
    }
