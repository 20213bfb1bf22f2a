"""`BankEditing`: what is done to single memories: looked up, corrected, pinned, forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from membank_llama.core.errors import InvalidInputError, InvalidQueryError, MemoryNotFoundError, ModelError
from membank_llama.core.letters import folded
from membank_llama.core.provenance import KEY, MODEL_ROLES, least
from membank_llama.core.types import Memory, NewMemory
from membank_llama.recall.engine import RecallEngine
from membank_llama.recall.query import RecallQuery
from membank_llama.recall.question_encoder import QuestionEncoder

from .bank_maintenance import BankMaintenance
from .repeats import ToldWords, questions_of

HISTORY = "history"
"""Of the metadata of what was corrected: what it said before, oldest first."""
MOST_VERSIONS = 16
REPLIES_SEARCHED, REPLIES_READ = 24, 500
SEARCHED_FOR = 64
"""Memories of which each is searched for to find what repeats it; of more only what a reply repeats by its words."""


class BankEditing(BankMaintenance):
    """Single memories; `MemBank` opens what is named here."""

    path: Path

    def get(self, memory_id: int) -> Memory:
        """One memory.

        Raises:
            MemoryNotFoundError: there is none with this id.
        """
        found = self._store.registry.get([memory_id]).get(memory_id)
        if found is None:
            raise not_there(memory_id, self.path)
        return found

    def history(self, memory_id: int) -> list[dict[str, Any]]:
        """What a memory said before it was corrected, oldest first: ``{"text", "role", "created_at"}``."""
        return versions_of(self.get(memory_id))

    def _derived(self, metadata: Mapping[str, Any] | None, ids: Sequence[int]) -> Mapping[str, Any] | None:
        """The metadata of what was made of some memories."""
        if not ids:
            return metadata
        worth = least(self.get(memory_id).provenance for memory_id in ids)
        return {**(metadata or {}), KEY: worth.name.lower(), "derived_from": list(ids)}

    def repeats(self, ids: Iterable[int]) -> list[Memory]:
        """The model's replies that only repeat these memories, or some of them."""
        told, engine = self._store.registry.get(ids), self._engine
        found: dict[int, Memory] = {}
        for namespace in {one.namespace for one in told.values()}:
            own = [one for one in told.values() if one.namespace == namespace]
            if len(own) > SEARCHED_FOR:
                own = self._repeated(own, namespace)
            for one in own:
                # nothing in it that could be looked for
                with suppress(InvalidQueryError):
                    try:
                        found |= self._repeating(one, engine)
                    except ModelError:
                        # whoever forgets does not wait until a server that encodes runs again
                        engine = RecallEngine(self._store, QuestionEncoder(self._store, None, self.max_text_bytes))
                        found |= self._repeating(one, engine)
        return [found[memory_id] for memory_id in sorted(found) if memory_id not in told]

    def _repeating(self, told: Memory, engine: RecallEngine) -> dict[int, Memory]:
        found = engine.search(RecallQuery(told.text, REPLIES_SEARCHED, namespace=told.namespace))
        near = self._store.registry.get({i for one in found for i in (one.memory_id, *one.duplicates)})
        again = ToldWords([told]).repeated_by(near.values(), self._questions_of(near, told.namespace))
        return {memory_id: near[memory_id] for memory_id in again}

    def _repeated(self, told: Sequence[Memory], namespace: str) -> list[Memory]:
        """Those of many that some reply repeats by its words: each of them is worth a search."""
        words, places = ToldWords(told), set[int]()
        snapshot = self._store.snapshots.get(namespace)
        replies = sorted(set(snapshot.owner[snapshot.by_model].tolist()))
        for start in range(0, len(replies), REPLIES_READ):
            some = self._store.registry.get(replies[start : start + REPLIES_READ])
            places.update(*words.repeated_by(some.values(), self._questions_of(some, namespace)).values())
        return [told[place] for place in sorted(places)]

    def _questions_of(self, replies: Iterable[int], namespace: str) -> dict[int, str]:
        """By the ids of some replies the texts that they answered."""
        answered = questions_of(self._store.snapshots.get(namespace), replies)
        questions = self._store.registry.get(answered.values())
        return {reply: questions[turn].text for reply, turn in answered.items() if turn in questions}

    def select(
        self, *, namespace: str | None = None, conversation: str | None = None, before: float | None = None
    ) -> list[int]:
        """Ids of the memories that fit every condition given."""
        return self._store.registry.select(namespace=namespace, conversation=conversation, before=before)

    def forget(
        self,
        ids: int | Iterable[int] | None = None,
        *,
        namespace: str | None = None,
        conversation: str | None = None,
        before: float | None = None,
    ) -> int:
        """Remove memories by id, or all that fit every condition given; returns how many there were.

        When it returns, no file of the bank holds anything of them: text, words and vectors are overwritten.

        Raises:
            BankStorageError: they are forgotten, but the disk refused to overwrite all of it; opening does it again.
        """
        self._store.check_writable()
        conditions = (namespace, conversation, before)
        if ids is None:
            if all(condition is None for condition in conditions):
                raise InvalidInputError("name ids, a namespace, a conversation or a time: nothing was forgotten")
            return self._store.remove(self.select(namespace=namespace, conversation=conversation, before=before))
        if any(condition is not None for condition in conditions):
            raise InvalidInputError("give either ids or conditions, not both: nothing was forgotten")
        return self._store.remove([ids] if isinstance(ids, int) else ids)

    def pin(self, memory_id: int, pinned: bool = True) -> None:
        """Keep a memory past its expiry, or no longer.

        Raises:
            MemoryNotFoundError: there is none with this id.
        """
        if not self._store.registry.set_pinned(memory_id, pinned):
            raise not_there(memory_id, self.path)


def not_there(memory_id: int, bank: Path) -> MemoryNotFoundError:
    """What to say of an id that no memory has."""
    return MemoryNotFoundError(f"there is no memory {memory_id} in {bank}; membank recall shows ids")


def correction_of(old: Memory, text: str) -> NewMemory:
    """What takes a memory's place when a person says it better.

    Raises:
        InvalidInputError: the text says the same.
    """
    if text.strip() == old.text.strip():
        raise InvalidInputError(f"memory {old.id} says that already; give the text that it should say")
    before: dict[str, Any] = {"text": old.text, "role": old.role, "created_at": old.created_at}
    if KEY in old.metadata:
        before[KEY] = old.metadata[KEY]
    metadata = {key: value for key, value in old.metadata.items() if key != KEY}
    return NewMemory(
        text,
        metadata | {HISTORY: [*versions_of(old), before][-MOST_VERSIONS:]},
        role="user" if folded(old.role) in MODEL_ROLES else old.role,
        namespace=old.namespace,
        conversation=old.conversation,
        source=old.source,
        pinned=old.pinned,
        expires_at=old.expires_at,
    )


def versions_of(memory: Memory) -> list[dict[str, Any]]:
    """What was kept of earlier texts; whatever else another program left there is not told."""
    kept = memory.metadata.get(HISTORY)
    if not isinstance(kept, list):
        return []
    return [one for one in kept if isinstance(one, dict) and isinstance(one.get("text"), str)]
