"""`NamespaceMemories`: what may be done to the memories of one namespace, and to nothing of another.

Pages, REST and agents come through here, so that each asks and answers the same: JSON-able values in, JSON-able values
out, a memory in its one shape (memory_json.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import tzinfo
from typing import Any

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Memory
from membank_llama.recall.query import RecallResult
from membank_llama.store.memory_pages import (
    MemoryFilter,
    conversations_of,
    count_fitting,
    count_newer,
    fitting_ids,
    newest_id,
    read_page,
)

from .bank import MemBank
from .bank_editing import not_there, versions_of
from .bank_undo import GRACE_SECONDS, Change, is_hidden
from .memory_json import memory_fields

MOST_FORGOTTEN_AT_ONCE = 10_000
Uses = Callable[[int], Iterable[Mapping[str, Any]]]
"""Where a memory was put into a prompt, by its id: ``{"conversation", "at", "query"}``."""


class NamespaceMemories:
    """The memories of one namespace.

    Args:
        uses: where else than in the chats of the bank a memory was used.
        zone: whose days a question means.
    """

    def __init__(
        self, bank: MemBank, namespace: str, *, uses: Uses = lambda memory_id: (), zone: tzinfo | None = None
    ) -> None:
        self.bank = bank
        self.namespace = namespace
        self._uses = uses
        self.zone = zone

    # -- looking

    def page(self, limit: int = 50, cursor: str | None = None, **conditions: Any) -> dict[str, Any]:
        """Memories, the newest first: ``{"memories", "cursor"}``. Conditions as `MemoryFilter` has them.

        Raises:
            InvalidQueryError: see `read_page`.
        """
        chosen = MemoryFilter(namespace=self.namespace, **conditions)
        found = read_page(self.bank.store.registry, chosen, limit, cursor)
        return {"memories": [memory_fields(one) for one in found.memories], "cursor": found.cursor}

    def count(self, **conditions: Any) -> int:
        """How many memories fit."""
        return count_fitting(self.bank.store.registry, MemoryFilter(namespace=self.namespace, **conditions))

    def newest(self) -> int:
        """The id of what came last; 0 where there is nothing."""
        return newest_id(self.bank.store.registry, self.namespace)

    def newer(self, memory_id: int) -> int:
        """How many memories came after one."""
        return count_newer(self.bank.store.registry, self.namespace, memory_id)

    def search(
        self, query: str, limit: int = 10, *, among: Mapping[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        """What belongs to a question, the best first, each with whether it is relevant and why; options of `recall`.

        Args:
            among: only memories that fit these conditions are searched, as `MemoryFilter` has them.

        Raises:
            InvalidQueryError: nothing to look for, or impossible options.
        """
        conditions = {name: value for name, value in (among or {}).items() if value is not None}
        if conditions:
            chosen = MemoryFilter(namespace=self.namespace, **conditions)
            options["only"] = fitting_ids(self.bank.store.registry, chosen)
        options.setdefault("zone", self.zone)
        found = self.bank.recall(query, limit, namespace=self.namespace, **options)
        known = self.known(result.memory_id for result in found)
        return {
            "query": query,
            "memories": [
                memory_fields(known[result.memory_id]) | judged_fields(result)
                for result in found
                if result.memory_id in known
            ],
        }

    def known(self, ids: Iterable[int]) -> dict[int, Memory]:
        """Those of some ids that there are memories of."""
        found = self.bank.store.registry.get(ids, self.namespace)
        return {memory_id: memory for memory_id, memory in found.items() if not is_hidden(memory)}

    def plain(self, memory_id: int) -> dict[str, Any]:
        """The fields of a memory alone; `one` also reads the chats of the bank.

        Raises:
            MemoryNotFoundError: there is none of this id in this namespace.
        """
        return memory_fields(self._own(memory_id))

    def one(self, memory_id: int) -> dict[str, Any]:
        """A memory, what it said before, and where it was used.

        Raises:
            MemoryNotFoundError: there is none of this id in this namespace.
        """
        memory = self._own(memory_id)
        return memory_fields(memory) | {"history": versions_of(memory), "used": self._used(memory_id)}

    def _used(self, memory_id: int) -> list[dict[str, Any]]:
        found = [dict(use) for use in self._uses(memory_id)]
        for chat in self.bank.chats.newest(self.namespace):
            found += [
                {"conversation": chat.name, "at": since, "query": chat.messages[place]["content"][:200]}
                for place, (block, since) in chat.blocks.items()
                if memory_id in block.ids
            ]
        return sorted(found, key=lambda use: float(use["at"]), reverse=True)

    def conversations(self, limit: int = 100) -> list[dict[str, Any]]:
        """Conversations, the one used last first."""
        found = conversations_of(self.bank.store.registry, self.namespace, limit)
        return [one._asdict() for one in found]

    def export(self) -> Iterator[dict[str, Any]]:
        """Every memory, in the order they came."""
        return (memory_fields(memory) for memory in self.bank.memories(self.namespace))

    # -- changing

    def create(self, text: str, **fields: Any) -> dict[str, Any]:
        """Remember a text; fields of `MemBank.ingest`. ``is_new`` says whether it was not known.

        Raises:
            InvalidInputError: it cannot be stored.
        """
        stored = self.bank.ingest(text, namespace=self.namespace, **fields)
        return memory_fields(self.bank.get(stored.memory_id)) | {"is_new": stored.is_new}

    def correct(self, memory_id: int, text: str) -> dict[str, Any]:
        """Say better what a memory says. The new one has another id; ``change`` undoes it.

        Raises:
            MemoryNotFoundError, InvalidInputError: see `MemBank.correct`.
        """
        self._own(memory_id)
        stored = self.bank.correct(memory_id, text)
        mine = (
            one.id
            for one in self.bank.changes(self.namespace)
            if (one.kind, one.ids) == ("correct", (stored.memory_id,))
        )
        return self.one(stored.memory_id) | {"replaces": memory_id, "change": next(mine, None)}

    def pin(self, memory_id: int, pinned: bool = True) -> dict[str, Any]:
        """Keep a memory past its expiry, or no longer.

        Raises:
            MemoryNotFoundError: there is none of this id in this namespace.
        """
        self._own(memory_id)
        self.bank.pin(memory_id, pinned)
        return self.plain(memory_id)

    def forgettable(self, ids: Iterable[int] | None = None, *, repeats: bool = True, **conditions: Any) -> list[Memory]:
        """What would go if these were forgotten: memories by id or all that fit the conditions, and with `repeats` the
        model's replies that only repeat them.

        Raises:
            MemoryNotFoundError: one of the ids is not in this namespace.
            InvalidInputError: neither ids nor conditions, both, or more than may go at once.
        """
        given = {name: value for name, value in conditions.items() if value is not None}
        if (ids is None) == (not given):
            raise InvalidInputError("name either ids or conditions: nothing was forgotten")
        chosen = self._all_fitting(given) if ids is None else self._own_all(ids)
        again = self.bank.repeats([one.id for one in chosen]) if repeats and chosen else []
        return [*chosen, *(one for one in again if one.namespace == self.namespace)]

    def _all_fitting(self, conditions: Mapping[str, Any]) -> list[Memory]:
        chosen = MemoryFilter(namespace=self.namespace, **conditions)
        if count_fitting(self.bank.store.registry, chosen) > MOST_FORGOTTEN_AT_ONCE:
            raise InvalidInputError(
                f"more than {MOST_FORGOTTEN_AT_ONCE:,} memories fit: forget them in parts, or with membank forget"
            )
        found: list[Memory] = []
        cursor: str | None = None
        while True:
            page = read_page(self.bank.store.registry, chosen, 500, cursor)
            found += page.memories
            cursor = page.cursor
            if cursor is None:
                return found

    def forget(self, ids: Iterable[int], seconds: float = GRACE_SECONDS) -> Change:
        """Forget memories, with so many seconds to bring them back.

        Raises:
            MemoryNotFoundError, InvalidInputError: see `MemBank.hide`.
        """
        return self.bank.hide([one.id for one in self._own_all(ids)], seconds)

    def changes(self) -> list[dict[str, Any]]:
        """What can be undone, the newest first."""
        return [change_fields(change) for change in self.bank.changes(self.namespace)]

    def undo(self, change_id: str | None = None) -> dict[str, Any]:
        """Take back a change, or the newest one of this namespace.

        Raises:
            InvalidInputError: there is none, or it is too late.
        """
        return change_fields(self.bank.undo(change_id, namespace=self.namespace))

    def _own(self, memory_id: int) -> Memory:
        """A memory of this namespace that is there."""
        return self._own_all([memory_id])[0]

    def _own_all(self, ids: Iterable[int]) -> list[Memory]:
        """Memories of this namespace that are there, each once."""
        wanted = list(dict.fromkeys(ids))
        # of another namespace no row is read, and the same is said as of what never was: nobody learns what others have
        known = self.known(wanted)
        for memory_id in wanted:
            if memory_id not in known:
                raise not_there(memory_id, self.bank.path)
        return [known[memory_id] for memory_id in wanted]


def judged_fields(result: RecallResult) -> dict[str, Any]:
    """How a search judged a memory, beside its own fields."""
    return {
        "relevant": result.relevant,
        "reason": result.reason,
        "score": result.fused_score,
        "cosine": None if result.score_l0 is result.score_l1 is result.score_l2 is None else result.final_score,
        "passage": result.passage_text if result.passage is not None else None,
        "signals": dict(result.signals),
        "levels": [result.score_l0, result.score_l1, result.score_l2],
        "words": result.lexical_score,
        "duplicates": list(result.duplicates),
    }


def change_fields(change: Change) -> dict[str, Any]:
    """A change as JSON-able fields."""
    return {
        "id": change.id,
        "kind": change.kind,
        "at": change.at,
        "namespace": change.namespace,
        "ids": list(change.ids),
        "until": change.until,
    }
