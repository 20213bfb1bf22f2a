"""`BankUndo`: what was done to memories and can be taken back.

What is hidden is gone from every recall and every list at once, and overwritten for good some seconds later, when the
bank is closed, or where a process was killed meanwhile, at the next opening. Until then it can be brought back whole:
it is a memory that has expired, `HIDDEN` being its expiry. Changes are kept by the ids of memories, never with a text,
so that nothing outlives `forget`.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
import weakref
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from membank_llama.core.errors import BankError, InvalidInputError, MemoryNotFoundError
from membank_llama.core.provenance import KEY
from membank_llama.core.types import Memory, NewMemory

from .bank_editing import HISTORY, BankEditing, not_there, versions_of

logger = logging.getLogger("membank_llama")

GRACE_SECONDS = 10.0
"""How long what is hidden can be brought back, where nothing else is said."""
LONGEST_GRACE = 86_400.0
AGAIN_SECONDS = 60.0
"""After so long what could not be overwritten is tried once more."""
HIDDEN = 0.0
"""The expiry of a memory that is on its way out."""
CHANGES = "changes"
MOST_CHANGES = 64
"""Changes that are remembered, the newest ones."""


@dataclass(frozen=True)
class Change:
    """Something that was done to memories.

    Args:
        id: names it for `undo`.
        kind: ``forget``, ``correct``, ``pin`` or ``unpin``.
        at: when, seconds since 1970.
        namespace: whose memories; None for those of several.
        ids: of the memories that are there now.
        until: when it becomes final; None where it can be undone as long as it is remembered.
        was: of each id that was there before and is another now, whether it was pinned and when it expired.
    """

    id: str
    kind: str
    at: float
    namespace: str | None
    ids: tuple[int, ...]
    until: float | None = None
    was: Mapping[int, tuple[bool, float | None]] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """As the bank keeps it."""
        return asdict(self) | {"ids": list(self.ids), "was": {str(key): list(value) for key, value in self.was.items()}}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Change:
        """From what the bank keeps.

        Raises:
            ValueError, TypeError, KeyError: it is none.
        """
        until = record["until"]
        return cls(
            id=str(record["id"]),
            kind=str(record["kind"]),
            at=float(record["at"]),
            namespace=record["namespace"],
            ids=tuple(int(one) for one in record["ids"]),
            until=None if until is None else float(until),
            was={
                int(key): (bool(pinned), None if expires is None else float(expires))
                for key, (pinned, expires) in record["was"].items()
            },
        )


_FINAL = "what is forgotten goes for good when its seconds are up, or the process that holds the bank closes it"


def is_hidden(memory: Memory) -> bool:
    """Whether a memory is on its way out."""
    return memory.expires_at == HIDDEN and not memory.pinned


class BankUndo(BankEditing):
    """What is done with a way back; `MemBank` opens what is named here."""

    _timer: threading.Timer | None = None

    def get(self, memory_id: int) -> Memory:
        """One memory.

        Raises:
            MemoryNotFoundError: there is none with this id, or it is on its way out.
        """
        found = super().get(memory_id)
        if is_hidden(found):
            raise not_there(memory_id, self.path)
        return found

    def hide(self, ids: Iterable[int], seconds: float = GRACE_SECONDS) -> Change:
        """Forget memories with a way back: gone at once, and for good after so many seconds.

        Raises:
            MemoryNotFoundError: one of them is not there; nothing is changed.
            InvalidInputError: no ids, or a time that is none.
        """
        wanted = list(dict.fromkeys(ids))
        if not wanted or not 0 <= seconds <= LONGEST_GRACE:
            raise InvalidInputError(
                f"name ids, and at most {LONGEST_GRACE:,.0f} seconds in which they can be brought back"
            )
        self._store.check_writable()
        with self._store.write_lock, self._store.registry.transaction():
            found = self._store.registry.get(wanted)
            for memory_id in wanted:
                if memory_id not in found or is_hidden(found[memory_id]):
                    raise MemoryNotFoundError(f"there is no memory {memory_id} in {self.path}; nothing was forgotten")
            was = {one.id: (one.pinned, one.expires_at) for one in found.values()}
            self._set_lifetimes(dict.fromkeys(wanted, (False, HIDDEN)))
            spaces = {one.namespace for one in found.values()}
            now = time.time()
            change = self._noted("forget", wanted, spaces, until=now + seconds, was=was)
        self._schedule()
        return change

    def select(
        self, *, namespace: str | None = None, conversation: str | None = None, before: float | None = None
    ) -> list[int]:
        """Ids of the memories that fit every condition given, without what is on its way out."""
        found = super().select(namespace=namespace, conversation=conversation, before=before)
        going = {one for change in self._kept_changes() for one in change.was if change.kind == "forget"}
        hidden = {one.id for one in self._store.registry.get(going).values() if is_hidden(one)}
        return [one for one in found if one not in hidden]

    def repeats(self, ids: Iterable[int]) -> list[Memory]:
        """The model's replies that only repeat these memories, without what is on its way out."""
        return [one for one in super().repeats(ids) if not is_hidden(one)]

    def changes(self, namespace: str | None = None) -> list[Change]:
        """What was done and can be undone, the newest first; of one namespace, or of all.

        What was done to memories that are gone, or on their way out, is not among it.
        """
        now = time.time()
        kept = [
            change
            for change in reversed(list(self._kept_changes()))
            if (change.until is None or change.until > now) and namespace in (None, change.namespace)
        ]
        there = self._store.registry.get(one for change in kept if change.until is None for one in change.ids)
        gone = {one for change in kept for one in change.ids if one not in there or is_hidden(there[one])}
        return [change for change in kept if change.until is not None or not gone.issuperset(change.ids)]

    def undo(self, change_id: str | None = None, *, namespace: str | None = None) -> Change:
        """Take back a change, or the newest one.

        What was forgotten is there again; of a correction the earlier text is, under another id.

        Raises:
            InvalidInputError: there is none, or it is too late.
        """
        self._store.check_writable()
        with self._store.write_lock:
            known = self.changes(namespace)
            found = next((one for one in known if change_id in (None, one.id)), None)
            if found is None:
                wanted = "nothing" if change_id is None else f"no change {change_id}"
                raise InvalidInputError(f"there is {wanted} that could be undone; {_FINAL}")
            again = _UNDO[found.kind](self, found)
            self._drop_changes({found.id})
        if found.kind == "forget" and not again:
            raise InvalidInputError(f"what was forgotten is gone and cannot be brought back: {_FINAL}")
        return replace(found, ids=again)

    def pin(self, memory_id: int, pinned: bool = True) -> None:
        """Keep a memory past its expiry, or no longer.

        Raises:
            MemoryNotFoundError: there is none with this id.
        """
        before = self.get(memory_id)
        super().pin(memory_id, pinned)
        if before.pinned != pinned:
            self._noted("pin" if pinned else "unpin", [memory_id], {before.namespace})

    # -- keeping changes

    def _noted(self, kind: str, ids: Sequence[int], spaces: Iterable[str], **more: Any) -> Change:
        """Remember a change. Of several namespaces it belongs to none."""
        known = set(spaces)
        space = known.pop() if len(known) == 1 else None
        change = Change(secrets.token_hex(6), kind, time.time(), space, tuple(ids), **more)
        with self._store.registry.transaction():
            kept = list(self._kept_changes())
            final = [one for one in kept if one.until is None][-MOST_CHANGES:]
            self._keep([one for one in kept if one.until is not None or one in final] + [change])
        return change

    def _kept_changes(self) -> Iterator[Change]:
        for record in self._store.meta(CHANGES, []):
            try:
                yield Change.of(record)
            except (ValueError, TypeError, KeyError, AttributeError):
                logger.warning("a record of a change is damaged and left out")

    def _keep(self, changes: Iterable[Change]) -> None:
        self._store.registry.set_meta(CHANGES, [change.as_record() for change in changes])

    def _drop_changes(self, ids: Container[str]) -> None:
        with self._store.registry.transaction():
            self._keep(one for one in self._kept_changes() if one.id not in ids)

    def _set_lifetimes(self, lifetimes: Mapping[int, tuple[bool, float | None]]) -> list[int]:
        """Set whether memories are pinned and when they expire; returns those that are there."""
        registry, there = self._store.registry, []
        with registry.transaction() as db:
            for memory_id, (pinned, expires) in lifetimes.items():
                values = {"pinned": int(pinned), "expires_at": expires}
                if registry.change(db, memory_id, lambda _, values=values: values):  # type: ignore[misc]
                    there.append(memory_id)
            registry.lifetimes_changed(db)
        return there

    # -- what is hidden goes for good

    def finish_hidden(self, *, all_of_it: bool = False) -> int:
        """Overwrite what was hidden and whose time is up, or all of it; returns how many memories that was.

        Raises:
            BankStorageError: see `forget`.
        """
        with self._store.write_lock:
            now = time.time()
            due = [
                change
                for change in self._kept_changes()
                if change.until is not None and (change.until <= now or all_of_it)
            ]
            if not due:
                return 0
            # what was told again meanwhile is no longer hidden, and stays
            ids = dict.fromkeys(memory_id for change in due for memory_id in change.ids)
            gone = [one.id for one in self._store.registry.get(ids).values() if is_hidden(one)]
            # all at once: writers wait for one overwriting, however many were forgotten one by one
            count = self._store.remove(gone)
            self._drop_changes({change.id for change in due})
        return count

    def _schedule(self, soonest: float = 0.0) -> None:
        """Finish what is hidden in time; a bank that nobody holds any more is not kept alive for it."""
        pending = [change.until for change in self._kept_changes() if change.until is not None]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if pending:
            self._timer = threading.Timer(max(soonest, min(pending) - time.time()), _finish, (weakref.ref(self),))
            self._timer.daemon = True
            self._timer.start()

    def _open_hidden(self) -> None:
        """Take up what another process has hidden."""
        if self.read_only or not self._store.meta(CHANGES, []):
            return
        self.finish_hidden()
        self._schedule()

    def _close_hidden(self) -> None:
        """Leave nothing hidden behind."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()
            try:
                self.finish_hidden(all_of_it=True)
            except BankError as exc:
                logger.warning("what was forgotten is overwritten when the bank is opened next: %s", exc)

    @property
    def read_only(self) -> bool:
        """Whether the bank was opened for reading."""
        return self._store.read_only

    # -- ways back

    def _bring_back(self, change: Change) -> tuple[int, ...]:
        return tuple(self._set_lifetimes(change.was))

    def _unpin(self, change: Change) -> tuple[int, ...]:
        found = self._store.registry.get(change.ids)
        there = [one.id for one in found.values() if not is_hidden(one)]
        return tuple(one for one in there if self._store.registry.set_pinned(one, change.kind == "unpin"))

    def _uncorrect(self, change: Change) -> tuple[int, ...]:
        """What was said before takes the place of a correction, as it was told then."""
        corrected = self.get(change.ids[0])
        before = versions_of(corrected)
        if not before:
            raise InvalidInputError(f"memory {corrected.id} does not say what it was before")
        said = before[-1]
        metadata = _with_history(corrected.metadata, before[:-1])
        if KEY in said:
            metadata[KEY] = said[KEY]
        earlier = NewMemory(
            said["text"],
            metadata,
            role=str(said.get("role") or corrected.role),
            namespace=corrected.namespace,
            conversation=corrected.conversation,
            created_at=said.get("created_at"),
            source=corrected.source,
            pinned=corrected.pinned,
            expires_at=corrected.expires_at,
        )
        stored = self._stored_as(earlier)
        if change.was:
            # it was there before the correction, which only gave it a history
            self._store.registry.set_metadata(corrected.id, _with_history(corrected.metadata, []))
        else:
            self._store.remove([corrected.id])
        return (stored,)

    def _stored_as(self, item: NewMemory) -> int:
        """The id of a memory that is stored now."""
        raise NotImplementedError


def _with_history(metadata: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kept = {key: value for key, value in metadata.items() if key != HISTORY}
    return kept | {HISTORY: list(before)} if before else kept


_UNDO = {
    "forget": BankUndo._bring_back,
    "pin": BankUndo._unpin,
    "unpin": BankUndo._unpin,
    "correct": BankUndo._uncorrect,
}


def _finish(bank: weakref.ref[BankUndo]) -> None:
    held = bank()
    if held is None:
        return
    try:
        held.finish_hidden()
        held._schedule()
    except BankError as exc:
        logger.warning("what was forgotten is overwritten in a minute, or when the bank is closed: %s", exc)
        with suppress(BankError):
            held._schedule(AGAIN_SECONDS)
