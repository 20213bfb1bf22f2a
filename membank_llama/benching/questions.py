"""Conversations with questions whose evidence is known, in the shape of LoCoMo.

A list of conversations ``{sample_id, conversation {session_N: [{speaker, dia_id, text, blip_caption?}]},
qa [{question, evidence [dia_id]}]}``. Evidence that names no turn is left out, and questions without any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidInputError
from ..types import Vector


@dataclass(frozen=True)
class Conversation:
    """Turns in order, and questions with the rows of the turns that answer them."""

    name: str
    turns: tuple[str, ...]
    questions: tuple[str, ...]
    evidence: tuple[frozenset[int], ...]


def read_conversations(path: Path, most: int) -> list[Conversation]:
    """The first conversations of a file.

    Raises:
        InvalidInputError: the file cannot be read, or is of another shape.
    """
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))
        found = [one for one in map(_conversation, samples[:most]) if one.questions]
    except OSError as exc:
        raise InvalidInputError(f"cannot read {path}: {exc.strerror or exc}") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidInputError(
            f"{path} is no list of conversations in the shape of LoCoMo ({type(exc).__name__}: {exc}); see "
            "https://github.com/snap-research/locomo"
        ) from exc
    if not found:
        raise InvalidInputError(f"{path} holds no question with evidence; give another file")
    return found


def _conversation(sample: Mapping[str, Any]) -> Conversation:
    talk = sample["conversation"]
    sessions = sorted((key for key in talk if re.fullmatch(r"session_\d+", key)), key=lambda key: int(key[8:]))
    spoken = {turn["dia_id"]: _said(turn) for session in sessions for turn in talk[session]}
    rows = {name: row for row, name in enumerate(spoken)}
    asked: list[tuple[str, frozenset[int]]] = []
    for qa in sample["qa"]:
        named = {part for entry in qa["evidence"] for part in re.split(r"[;,\s]+", entry)}
        if named & rows.keys():
            asked.append((qa["question"], frozenset(rows[name] for name in named & rows.keys())))
    return Conversation(
        str(sample["sample_id"]), tuple(spoken.values()), tuple(a[0] for a in asked), tuple(a[1] for a in asked)
    )


def _said(turn: Mapping[str, Any]) -> str:
    caption = turn.get("blip_caption")
    return f"{turn['speaker']}: {turn['text']}" + (f" [shares a picture: {caption}]" if caption else "")


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
