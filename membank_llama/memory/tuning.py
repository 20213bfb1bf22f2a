"""Fitting the weights of the signals to labelled questions, by coordinate ascent.

One pass through the bank measures every signal for every candidate of every question; from then on a trial is a
weighted sum. Each weight in turn is moved by factors and the best move is kept, until a whole round brings nothing.
What is maximised is the mean of recall@5 and recall@10, of memories and of their sessions: smooth enough to climb, and
what an injected block is made of. Labels are few, so a gain below `LEAST` is taken for noise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import DEFAULT_NAMESPACE, LEVELS, Progress, Vector
from membank_llama.recall.engine import Measured
from membank_llama.recall.query import RecallQuery
from membank_llama.recall.signals import Weights
from membank_llama.store.namespace_snapshot import ALONE

from .bank import MemBank

CUTS = (5, 10)
FACTORS = (0.0, 0.4, 0.6, 0.8, 1.25, 1.6, 2.2)
FROM_NOTHING = (-0.3, 0.3)
LEAST = 1e-4
ROUNDS = 6
TIE_BREAKERS = ("recency", "pinned")
"""Signals that labels say nothing about."""


@dataclass(frozen=True)
class Labelled:
    """A question, the memories that answer it, and when it is asked (None for now)."""

    question: str
    ids: frozenset[int]
    namespace: str = DEFAULT_NAMESPACE
    now: float | None = None


@dataclass(frozen=True)
class Case:
    """A labelled question, measured: signals (names, n) of its n candidates, which of them answer it, how many memories
    and sessions do in all."""

    signals: Vector
    wanted: npt.NDArray[np.bool_]
    sessions: npt.NDArray[np.int32]
    answers: int
    answering: frozenset[int]


def read_labels(path: Path, bank: MemBank) -> list[Labelled]:
    """Questions of a JSON Lines file: {"question", "memories": [ids or texts], "namespace"?, "now"?}.

    Raises:
        InvalidInputError: a line that is none, or names a memory that the bank does not hold; with the place.
    """
    by_text: dict[tuple[str, str], int] = {}
    labelled = []
    try:
        # not splitlines(): texts may hold U+2028
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"{path} cannot be read: {exc}; give a JSON Lines file in UTF-8") from exc
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        question, wanted, namespace, now = _entry(line, where)
        if not by_text and any(isinstance(memory, str) for memory in wanted):
            by_text = {(memory.namespace, memory.text): memory.id for memory in bank.memories()}
        ids = [by_text.get((namespace, memory)) if isinstance(memory, str) else memory for memory in wanted]
        there = bank.exists(memory for memory in ids if type(memory) is int)
        held = {memory_id: bank.get(memory_id) for memory_id in there}
        for memory, memory_id in zip(wanted, ids, strict=True):
            if type(memory_id) is not int or memory_id not in held or held[memory_id].namespace != namespace:
                raise InvalidInputError(f"{where}: the bank holds no memory {memory!r:.60} in namespace {namespace!r}")
        labelled.append(Labelled(question, frozenset(held), namespace, now))
    if not labelled:
        raise InvalidInputError(f"{path} holds no questions")
    return labelled


def _entry(line: str, where: str) -> tuple[str, list[Any], str, float | None]:
    """Question, memories, namespace and time of one line."""
    try:
        entry = json.loads(line)
        question, wanted = entry["question"], entry["memories"]
        namespace, now = entry.get("namespace", DEFAULT_NAMESPACE), entry.get("now")
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidInputError(
            f'{where}: write {{"question": "…", "memories": [ids or texts]}}; this is not it ({exc})'
        ) from exc
    if not (isinstance(question, str) and question.strip() and isinstance(wanted, list) and wanted):
        raise InvalidInputError(f"{where}: the question must be text, and the memories a list that is not empty")
    if not (isinstance(namespace, str) and (now is None or type(now) in (int, float))):
        raise InvalidInputError(f"{where}: the namespace must be text, and now a time in seconds since 1970")
    return question, wanted, namespace, now


def measure(bank: MemBank, labelled: Sequence[Labelled], progress: Progress | None = None) -> list[Case]:
    """Measure every question once."""
    cases = []
    for number, label in enumerate(labelled, 1):
        query = RecallQuery(label.question, 50, LEVELS, label.namespace, now=label.now)
        found = bank.measured(query)
        snapshot = bank.snapshot(label.namespace)
        answering = snapshot.session[snapshot.rows(np.array(sorted(label.ids), np.int64))]
        cases.append(_case(found, label, frozenset(answering.tolist()) - {ALONE}))
        if progress is not None:
            progress("measuring", number, len(labelled))
    return cases


def _case(found: Measured, label: Labelled, answering: frozenset[int]) -> Case:
    wanted = np.isin(found.ids, list(label.ids))
    signals = (
        np.stack(list(found.signals.values())) if len(found.ids) else np.zeros((len(found.signals), 0), np.float32)
    )
    return Case(signals, wanted, found.sessions, len(label.ids), answering)


def quality(cases: Iterable[Case], weights: Weights) -> float:
    """Mean of recall@5 and recall@10 of memories and sessions, over the questions."""
    weighed = np.array(list(asdict(weights).values()), np.float32)
    total, count = 0.0, 0
    for case in cases:
        order = np.argsort(-(weighed @ case.signals), kind="stable")
        parts = [float(case.wanted[order[:cut]].sum()) / case.answers for cut in CUTS]
        if case.answering:
            sessions = list(dict.fromkeys(case.sessions[order].tolist()))
            parts += [len(case.answering.intersection(sessions[:cut])) / len(case.answering) for cut in CUTS]
        total += sum(parts) / len(parts)
        count += 1
    return total / max(1, count)


def fit(cases: Sequence[Case], start: Weights, progress: Progress | None = None, rounds: int = ROUNDS) -> Weights:
    """The weights that coordinate ascent comes to from `start`."""
    best, reached = start, quality(cases, start)
    names = [name for name in asdict(start) if name not in TIE_BREAKERS]
    for turn in range(rounds):
        before = reached
        for number, name in enumerate(names, 1):
            value = getattr(best, name)
            for other in [value * factor for factor in FACTORS] if value else FROM_NOTHING:
                trial = replace(best, **{name: round(other, 4)})
                if (found := quality(cases, trial)) > reached + LEAST:
                    best, reached = trial, found
            if progress is not None:
                progress("tuning", turn * len(names) + number, rounds * len(names))
        if reached <= before + LEAST:
            break
    return best
