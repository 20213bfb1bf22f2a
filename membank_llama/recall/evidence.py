"""Which of what is found is evidence of what is so, and what only records what was asked or answered.

What a person tells is evidence. What she asks is none. What the model answers is a record of what was said: it may have
made it up, so where such a reply is found, the person's turn that it answered is what counts. A reply counts itself
where it is asked for ("what did you suggest?"), and where neither question nor what it answered was about the person:
a recipe is worth finding again, a brother that the model invented is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from membank_llama.core.dialogue_acts import is_evasion, only_asks
from membank_llama.core.provenance import KEY, PERSON_ROLES, Provenance
from membank_llama.core.types import Mask, Memory, Rows
from membank_llama.store.namespace_snapshot import NamespaceSnapshot

from .question_encoder import Question
from .question_kind import kind_of
from .relevance_gate import Verdict
from .replacements import Statement, replaces

CARRIES = 0.6
"""The share of a question that a reply must say to speak for the turn that it answered."""

OWN_ROLES = PERSON_ROLES | {"note"}
BEST = 3
"""How many of the best are asked what has replaced them."""

ASKED, ANSWERED = "a question is no fact", "what the model said is no evidence"


def answered_rows(snapshot: NamespaceSnapshot, rows: Rows) -> Rows:
    """For each of some rows the one that it answered, where the model said it; -1 for others."""
    before = snapshot.before[rows].astype(np.intp)
    before[before >= len(snapshot)] = -1
    said: Mask = snapshot.by_model[rows] & (before >= 0)
    found: Rows = np.where(said & ~snapshot.by_model[before], before, -1)
    return found


def answered_ids(snapshot: NamespaceSnapshot, rows: Rows) -> dict[int, int]:
    """Of those of some rows that are replies, by their place among them, the id of what each answered."""
    answered = answered_rows(snapshot, rows)
    turns = zip(snapshot.owner[answered].tolist(), answered.tolist(), strict=True)
    return {place: turn for place, (turn, row) in enumerate(turns) if row >= 0}


@dataclass(frozen=True)
class Judged:
    """A memory that is found, with its verdict, and how much of the question it says; `record`: whether it is no
    evidence at first sight; `answered`: what it answered, None where it is no reply."""

    memory: Memory
    verdict: Verdict
    said: float
    record: bool = False
    answered: Memory | None = None


def weighed_as_evidence(question: Question, found: Mapping[int, Judged]) -> tuple[dict[int, Verdict], list[int]]:
    """The verdicts of what is found, by place, once it is seen what each is worth; and the places in order of rank, as
    `found` is, but that what is no evidence stands behind all that is relevant."""
    verdicts = {place: one.verdict for place, one in found.items()}
    records: set[int] = set()
    by_id = {one.memory.id: place for place, one in found.items()}
    for place, one in found.items():
        why = _no_evidence(question, one)
        if not why:
            continue
        records.add(place)
        verdicts[place] = _refused(one.verdict, why)
        answered = one.answered
        if one.verdict.relevant and one.said >= CARRIES and answered is not None:
            told = by_id.get(answered.id)
            if told is not None and not found[told].verdict.relevant and not _no_evidence(question, found[told]):
                why = f"relevant: what it was answered with is ({one.verdict.reason})"
                verdicts[told] = replace(verdicts[told], relevant=True, reason=why)
    order = _behind(list(found), records, verdicts)
    return verdicts, _with_what_replaced(order, records, found, verdicts)


def _with_what_replaced(
    order: Sequence[int], records: Set[int], found: Mapping[int, Judged], verdicts: dict[int, Verdict]
) -> list[int]:
    """The order with what has replaced the best ones right behind them, relevant as they are. Of what a person tells of
    herself; several people who talk are not told apart by it."""
    placed, rank = list(order), {place: n for n, place in enumerate(order)}
    told: dict[int, Statement] = {}
    for place in order:
        memory = found[place].memory
        if place not in records and memory.role in OWN_ROLES:
            told[place] = Statement(memory.text, memory.created_at, first_told_at=memory.first_told_at)
    for place in [place for place in told if verdicts[place].relevant][:BEST]:
        for other in told:
            if rank[other] > rank[place] and replaces(told[place], told[other]):
                if not verdicts[other].relevant:
                    why = verdicts[other].reason.partition(": ")[2]
                    why = f"relevant: it says otherwise of what is relevant, later ({why})"
                    verdicts[other] = replace(verdicts[other], relevant=True, reason=why)
                placed.remove(other)
                placed.insert(placed.index(place) + 1, other)
    return placed


def _behind(order: Sequence[int], records: Set[int], verdicts: Mapping[int, Verdict]) -> list[int]:
    told = [place for place in order if place not in records]
    ahead = max((n for n, place in enumerate(told, 1) if verdicts[place].relevant), default=0)
    head = set(told[:ahead])
    return [*told[:ahead], *(place for place in order if place not in head)]


def _no_evidence(question: Question, one: Judged) -> str:
    """Why a memory is no evidence; empty where it is."""
    memory = one.memory
    if not one.record and KEY not in memory.metadata:
        return ""
    if memory.provenance != Provenance.MODEL:
        return ASKED if one.record else ""
    if question.asks_for_replies:
        return ""
    own = question.kind.about_oneself or one.answered is None or kind_of(one.answered.text).about_oneself
    return ANSWERED if own or is_evasion(memory.text) or only_asks(memory.text) else ""


def _refused(verdict: Verdict, why: str) -> Verdict:
    return replace(verdict, relevant=False, reason=f"not relevant: {why} ({verdict.reason.partition(': ')[2]})")
