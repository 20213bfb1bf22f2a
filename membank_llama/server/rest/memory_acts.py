"""What each operation of REST does: values in, as its schema allows them, and an answer out. They block."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, TypeAlias

from membank_llama.core.days import FIRST_SECOND, LAST_SECOND, parse_instant
from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Memory
from membank_llama.memory.bank_undo import GRACE_SECONDS
from membank_llama.memory.memory_json import memory_fields, topic_fields
from membank_llama.memory.namespace_memories import NamespaceMemories, change_fields

from ..asgi import WireError
from .memory_schemas import CONDITIONS, MOST_SHOWN

LINES_AT_ONCE = 256
_AMONG = tuple(name for name in CONDITIONS if name not in ("since", "until"))


@dataclass(frozen=True)
class RestRequest:
    """What is asked of a bank by REST.

    Args:
        mine: the memories it is for.
        given: of path, query and body, by name.
        zone: whose days and times are meant.
        sees_all: whether it may know of other namespaces.
        mount: what stands before `/membank/` in its path.
    """

    mine: NamespaceMemories
    given: Mapping[str, Any]
    zone: tzinfo | None = None
    sees_all: bool = False
    mount: str = ""

    def some(self, *names: str) -> dict[str, Any]:
        """Those of the values that were given; times as instants."""
        found = {name: self.given[name] for name in names if self.given.get(name) is not None}
        return {name: instant(value, self.zone, name) if name in _TIMES else value for name, value in found.items()}


@dataclass(frozen=True)
class RestReply:
    """An answer: JSON, or lines as they come."""

    value: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    lines: Iterator[bytes] | None = None


Act: TypeAlias = Callable[[RestRequest], RestReply]
_TIMES = ("since", "until", "created_at", "expires_at")


def instant(value: float | str, zone: tzinfo | None, name: str) -> float:
    """Seconds since 1970 of a time, as a number or in ISO 8601.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        try:
            seconds = parse_instant(str(value), zone)
        except (ValueError, OverflowError, OSError) as exc:
            raise InvalidInputError(
                f"{name} is {str(value)[:40]!r}; give seconds since 1970 or 2025-01-31T18:00:00Z"
            ) from exc
    if not FIRST_SECOND <= seconds <= LAST_SECOND:
        raise InvalidInputError(f"{name} is in no year from 1 to 9999; give seconds since 1970, not milliseconds")
    return seconds


# -- looking


def list_memories(asked: RestRequest) -> RestReply:
    return RestReply(asked.mine.page(**asked.some("limit", "cursor", *CONDITIONS)))


def search_memories(asked: RestRequest) -> RestReply:
    options = asked.some("limit", "since", "until", "topic")
    return RestReply(asked.mine.search(asked.given["q"], among=asked.some(*_AMONG), **options))


def read_memory(asked: RestRequest) -> RestReply:
    return RestReply(asked.mine.one(asked.given["id"]))


def list_topics(asked: RestRequest) -> RestReply:
    mine = asked.mine
    found = mine.bank.topics(mine.namespace)
    known = mine.known(topic.example for topic in found)
    told = [topic_fields(topic, known[topic.example].text) for topic in found if topic.example in known]
    return RestReply({"topics": told})


def list_conversations(asked: RestRequest) -> RestReply:
    return RestReply({"conversations": asked.mine.conversations(**asked.some("limit"))})


def list_changes(asked: RestRequest) -> RestReply:
    return RestReply({"changes": asked.mine.changes()})


def list_namespaces(asked: RestRequest) -> RestReply:
    bank = asked.mine.bank
    known = set(bank.store.registry.namespaces()) if asked.sees_all else set()
    names = sorted(known | {asked.mine.namespace})
    return RestReply({"namespaces": [{"namespace": name, "memories": bank.count(name)} for name in names]})


def export_memories_lines(asked: RestRequest) -> RestReply:
    return RestReply(None, lines=_lines(asked.mine.export()))


def _lines(memories: Iterator[Mapping[str, Any]]) -> Iterator[bytes]:
    while some := list(itertools.islice(memories, LINES_AT_ONCE)):
        yield b"".join(as_json(one) + b"\n" for one in some)


def read_stats(asked: RestRequest) -> RestReply:
    mine, bank = asked.mine, asked.mine.bank
    return RestReply(
        {
            "namespace": mine.namespace,
            "memories": bank.count(mine.namespace),
            "pinned": mine.count(pinned=True),
            "encoder": {
                "id": bank.model.id,
                "name": bank.model.name,
                "dim": bank.model.dim,
                "at_hand": bank.adapter is not None,
            },
            "read_only": bank.read_only,
            "bank": _whole_bank(asked) if asked.sees_all else None,
        }
    )


def _whole_bank(asked: RestRequest) -> dict[str, Any]:
    bank = asked.mine.bank
    facts = bank.stats()
    told = {name: facts[name] for name in ("bytes", "level_bytes", "level_share", "kv_bytes")}
    return {"name": bank.path.name, "memories": bank.count(), "namespaces": len(facts["namespaces"]), **told}


# -- changing


def create_memory(asked: RestRequest) -> RestReply:
    fields = asked.some("role", "conversation", "source", "metadata", "pinned", "created_at", "expires_at")
    if fields.get("expires_at", math.inf) < time.time():
        raise InvalidInputError("expires_at has passed: nothing was stored")
    stored = asked.mine.create(asked.given["text"], **fields)
    place = {"location": f"{asked.mount}/membank/memories/{stored['id']}"}
    return RestReply(stored, 201 if stored["is_new"] else 200, place)


def change_memory(asked: RestRequest) -> RestReply:
    memory_id, mine = asked.given["id"], asked.mine
    done: dict[str, Any] = {"replaces": None, "change": None}
    if "text" in asked.given:
        corrected = mine.correct(memory_id, asked.given["text"])
        memory_id = corrected["id"]
        done = {name: corrected[name] for name in done}
    if "pinned" in asked.given:
        mine.pin(memory_id, asked.given["pinned"])
    return RestReply(mine.one(memory_id) | done)


def pin_memory(asked: RestRequest) -> RestReply:
    return RestReply(asked.mine.pin(asked.given["id"], True))


def unpin_memory(asked: RestRequest) -> RestReply:
    return RestReply(asked.mine.pin(asked.given["id"], False))


def forget_memory(asked: RestRequest) -> RestReply:
    going = asked.mine.forgettable([asked.given["id"]], repeats=not asked.given.get("keep_replies"))
    return _forget(asked, going, dry_run=bool(asked.given.get("dry_run")))


def forget_memories(asked: RestRequest) -> RestReply:
    ids = asked.given.get("ids")
    going = asked.mine.forgettable(ids, repeats=not asked.given.get("keep_replies"), **asked.some(*CONDITIONS))
    return _forget(asked, going, dry_run=asked.given.get("dry_run", ids is None))


def _forget(asked: RestRequest, going: list[Memory], *, dry_run: bool) -> RestReply:
    ids = [one.id for one in going]
    token, count = _token_of(ids), asked.given.get("count")
    if asked.given.get("token") not in (None, token) or count not in (None, len(ids)):
        raise WireError(409, "what would go is no longer the same: nothing was forgotten; look again with a dry run")
    change = None
    if not dry_run and ids:
        change = change_fields(asked.mine.forget(ids, float(asked.given.get("seconds", GRACE_SECONDS))))
    return RestReply(
        {
            "dry_run": dry_run,
            "count": len(ids),
            "ids": ids,
            "memories": [memory_fields(one) for one in going[:MOST_SHOWN]],
            "token": token,
            "change": change,
        }
    )


def _token_of(ids: list[int]) -> str:
    return hashlib.sha256(",".join(map(str, sorted(ids))).encode()).hexdigest()[:16]


def undo_change(asked: RestRequest) -> RestReply:
    wanted = asked.given.get("change")
    known = [change["id"] for change in asked.mine.changes()]
    if wanted is None and not known:
        raise WireError(409, "there is nothing that could be undone")
    if wanted is not None and wanted not in known:
        raise WireError(404, "there is no such change that could be undone; what is forgotten goes for good in time")
    return RestReply(asked.mine.undo(wanted))


def as_json(value: Any) -> bytes:
    """JSON as others read it: what a program once stored as NaN or infinity is null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False)
    return text.encode("utf-8", "replace")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
