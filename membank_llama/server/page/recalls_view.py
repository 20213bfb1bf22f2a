"""The view *Why*: what was recalled and why: each signal, level by level, what was injected and what was held back.

Shown are the recalls of the chats that go by, as they come, and a question of one's own, which goes the same way as a
chat's. Bars are drawn on the server.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from membank_llama.core.types import Memory
from membank_llama.memory.memory_json import memory_fields
from membank_llama.memory.prompt_injection import LastRecall, MemoryOptions, PromptInjector

from ..face_context import FaceContext
from ..proxy.recall_fields import recall_fields
from ..proxy.tokenizers import EstimatedTokenizer
from .memory_list import MOST_QUERY, DayNames, day_names, shown_memory
from .page_requests import PageRequest, page_route
from .page_templates import nothing_new

CONTEXT = 4096
"""Tokens of context that a question of one's own is asked in."""
LEAST_SIGNAL = 0.005
_NAMES = {
    "dense": "meaning",
    "nearby_dense": "meaning nearby",
    "words": "words",
    "nearby_words": "words nearby",
    "session": "same talk",
    "tokens": "tokens",
    "nearby_tokens": "tokens nearby",
    "recency": "how new",
}
_LEVELS = (("2", "score_l2", "coarse"), ("1", "score_l1", "finer"), ("0", "score_l0", "full"))


def why_routes(context: FaceContext) -> list[Route]:
    """What the view is made of."""
    return [
        page_route(context, "/membank/page/why", show_why),
        page_route(context, "/membank/page/why/newer", show_newer),
        page_route(context, "/membank/page/why/asked", show_asked),
    ]


def show_why(asked: PageRequest) -> Response:
    """The whole view."""
    recalls = asked.context.recalls(asked.mine.namespace)
    query = asked.query.get("q", "").strip()
    return asked.show(
        "why.html",
        title="Why",
        view="why",
        query=query,
        own=_own(asked, query) if query else None,
        recalls=_told(asked, recalls),
        newest=recalls[0]["when"] if recalls else 0.0,
        watches=asked.context.watches,
    )


def show_newer(asked: PageRequest) -> Response:
    """The recalls since those that are shown, if there are any."""
    try:
        after = float(asked.query.get("after", "0"))
    except ValueError:
        after = 0.0
    recalls = [one for one in asked.context.recalls(asked.mine.namespace) if one["when"] > after]
    if not recalls:
        return nothing_new()
    return asked.show("recalls_newer.html", recalls=_told(asked, recalls), newest=recalls[0]["when"])


def show_asked(asked: PageRequest) -> Response:
    """What would be recalled for a question of one's own."""
    query = asked.query.get("q", "").strip()
    return asked.show("recall_own.html", own=_own(asked, query) if query else None)


def _own(asked: PageRequest, query: str) -> dict[str, Any]:
    mine = asked.mine
    options = MemoryOptions(namespace=mine.namespace, zone=mine.zone)
    text = query.replace("\0", " ")[:MOST_QUERY]
    _, last = PromptInjector(mine.bank, 1).messages(
        [{"role": "user", "content": text}], EstimatedTokenizer(CONTEXT), options, ""
    )
    last = last or LastRecall(text)
    return _told(asked, [recall_fields(last, "", time.time(), {result.memory_id for result in last.results})])[0]


def _told(asked: PageRequest, recalls: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Recalls as the template wants them; memories that are gone are told without a text."""
    recalls = list(recalls)
    ids = {row["id"] for one in recalls for row in one["memories"]} | {i for one in recalls for i in one["injected"]}
    known = asked.mine.known(ids)
    days = day_names(asked.zone)
    return [_one_told(one, known, days) for one in recalls]


def _one_told(recall: Mapping[str, Any], known: Mapping[int, Memory], days: DayNames) -> dict[str, Any]:
    values = [value for row in recall["memories"] for value in row["signals"].values()]
    scale = _Scale(min(0.0, *values, 0.0), max(0.0, *values, 0.0))
    rows = [_row(row, recall, known, days, scale) for row in recall["memories"]]
    judged = {row["id"] for row in recall["memories"]}
    # a turn that goes on keeps what it was given, and is not asked again
    kept = [_memory(memory_id, known, days) for memory_id in recall["injected"] if memory_id not in judged]
    return {
        **recall,
        "key": f"{recall['when']:.6f}".replace(".", "-"),
        "at": days.whole(recall["when"]),
        "rows": [row for row in rows if row["injected"]],
        "held": [row for row in rows if not row["injected"]],
        "zero": scale.zero,
        "kept": kept,
    }


def _row(
    row: Mapping[str, Any], recall: Mapping[str, Any], known: Mapping[int, Memory], days: DayNames, scale: _Scale
) -> dict[str, Any]:
    injected = row["id"] in recall["injected"]
    signals = sorted(row["signals"].items(), key=lambda part: -abs(part[1]))
    return {
        "id": row["id"],
        "memory": _memory(row["id"], known, days),
        "injected": injected,
        "outcome": _outcome(row, recall, injected),
        "reason": row["reason"].partition(": ")[2] or row["reason"],
        "score": row["fused_score"],
        "twins": row["duplicates"],
        "signals": [
            {"name": _NAMES.get(name, name.replace("_", " ")), "value": value, **scale.bar(value)}
            for name, value in signals
            if abs(value) >= LEAST_SIGNAL
        ],
        "levels": [
            {"level": level, "name": name, "value": row[field], "width": 100 * max(0.0, min(1.0, row[field]))}
            for level, field, name in _LEVELS
            if row[field] is not None
        ],
    }


def _outcome(row: Mapping[str, Any], recall: Mapping[str, Any], injected: bool) -> str:
    if injected:
        return "In the prompt"
    if not row["relevant"]:
        short = row["enough"] - row["evidence"]
        return f"Held back by the gate, {short:.1f} short" if round(short, 1) > 0 else "Held back by the gate"
    why = recall["skipped"].get(str(row["id"]), "")
    return f"Left out: {why}" if why else "Relevant"


class _Scale(NamedTuple):
    """The least and the most that a signal gives: where bars begin, and how long they are, in a picture 200 wide."""

    least: float
    most: float

    @property
    def zero(self) -> float:
        """Where nothing is."""
        return -self.least * self._unit

    @property
    def _unit(self) -> float:
        return 200 / ((self.most - self.least) or 1.0)

    def bar(self, value: float) -> dict[str, float]:
        """Where a bar begins, and how wide it is."""
        width = abs(value) * self._unit
        return {"x": self.zero - width if value < 0 else self.zero, "width": max(width, 0.8)}


def _memory(memory_id: int, known: Mapping[int, Memory], days: DayNames) -> dict[str, Any] | None:
    memory = known.get(memory_id)
    return None if memory is None else shown_memory(memory_fields(memory), days)
