"""An import into a bank: what is there already is found before anything is encoded, the rest is stored batch by batch.

So an import that was broken off is gone on with by the same command, and one that is told again takes as long as
reading it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from membank_llama.core.provenance import Provenance, provenance_of
from membank_llama.core.types import DEFAULT_NAMESPACE, Memory, NewMemory, Progress
from membank_llama.core.validation import check_memories
from membank_llama.memory.bank import MemBank
from membank_llama.store.conversation_names import conversation_ids
from membank_llama.store.database import Database
from membank_llama.store.memory_writer import known_texts
from membank_llama.store.row_format import text_hashes

from .import_plan import Findings, ImportPlan, plan_import, read_place
from .import_records import ImportRecord, begin_record, note_import, write_record

BATCH = 64
LOOKED_UP = 2048
LABEL = "importing"


@dataclass(frozen=True)
class ImportOutcome:
    """What became of an import. `record`: where anything new came of it."""

    new: int
    known: int
    record: ImportRecord | None


def import_history(
    bank: MemBank, where: str, *, namespace: str | None = None, progress: Progress | None = None
) -> tuple[ImportOutcome, ImportPlan]:
    """Import what another program kept: a file, a directory, or standard input ("-").

    Raises:
        InvalidInputError: it cannot be read, or nothing in it is known; nothing is stored.
    """
    plan = plan_for(bank, read_place(where), namespace)
    return run_import(bank, plan, namespace=namespace, progress=progress), plan


def plan_for(bank: MemBank, findings: Findings, namespace: str | None = None) -> ImportPlan:
    """A plan in which no conversation is called as another one of the bank."""
    taken = conversation_ids(bank.store.registry, DEFAULT_NAMESPACE if namespace is None else namespace)
    return plan_import(findings, namespace=namespace, taken=taken)


def run_import(
    bank: MemBank, plan: ImportPlan, *, namespace: str | None = None, progress: Progress | None = None
) -> ImportOutcome:
    """Store what a plan says.

    Raises:
        InvalidInputError: one of the memories cannot be stored; none of them is.
    """
    check_memories(plan.memories, bank.max_text_bytes)
    sorted_out = sort_out(bank, plan.memories, progress)
    new, known = sorted_out.new, len(plan.memories) - len(sorted_out.new)
    record = begin_record(bank, plan.file, tuple(plan.kinds), namespace, plan.memories)
    record = replace(record, known=known)
    for start in range(0, len(new), BATCH):
        record = bank.run_where_held(import_batch, record, new[start : start + BATCH])
        if progress is not None:
            progress(LABEL, known + min(len(new), start + BATCH), len(plan.memories))
    # what names no time is told with the import, and not behind it
    again = [
        item if item.created_at is not None else replace(item, created_at=record.when) for item in sorted_out.again
    ]
    for start in range(0, len(again), LOOKED_UP):
        bank.tell_again(again[start : start + LOOKED_UP])
    if not record.ranges:
        return ImportOutcome(0, known, None)
    record = replace(record, done=True, ended=time.time())
    bank.run_where_held(note_import, record)
    return ImportOutcome(len(new), known, record)


def import_batch(bank: MemBank, record: ImportRecord, items: Sequence[NewMemory]) -> ImportRecord:
    """Store some memories that are new, and with them, in one transaction, the record of the import with their ids."""
    kept = record

    def note(db: Database) -> None:
        nonlocal kept
        found = known_texts(db, items, text_hashes([item.text for item in items]))
        kept = record.with_ids(memory_id for memory_id, _ in found.values())
        write_record(bank.store.registry, kept)

    bank.ingest_many(items, batch_size=len(items), beside=note)
    return kept


@dataclass
class SortedOut:
    """New texts, each once, and tellings of those that are known, or came before in the same import, which say more of
    them: a later time, or a better witness."""

    new: list[NewMemory]
    again: list[NewMemory]


def sort_out(bank: MemBank, memories: Sequence[NewMemory], progress: Progress | None = None) -> SortedOut:
    """What of an import is new to a bank; nothing is encoded for that."""
    found = SortedOut([], [])
    told: dict[tuple[str, str], _Told] = {}
    for start in range(0, len(memories), LOOKED_UP):
        piece = memories[start : start + LOOKED_UP]
        missing = [item for item in piece if (item.namespace, item.text) not in told]
        told |= {(memory.namespace, memory.text): _Told.of(memory) for memory in _known(bank, missing)}
        for item in piece:
            known = told.get((item.namespace, item.text))
            if known is None:
                told[item.namespace, item.text] = _Told.of(item)
                found.new.append(item)
            elif known.gains_by(item):
                told[item.namespace, item.text] = known.with_telling(item)
                found.again.append(item)
        if progress is not None:
            progress("looking for what is known", min(len(memories), start + LOOKED_UP), len(memories))
    return found


def _known(bank: MemBank, items: Sequence[NewMemory]) -> list[Memory]:
    registry = bank.store.registry
    with registry.snapshot():
        found = known_texts(registry.db, items, text_hashes([item.text for item in items]))
    return list(registry.get(memory_id for memory_id, _ in found.values()).values())


@dataclass(frozen=True)
class _Told:
    """How a text was told so far."""

    provenance: Provenance
    when: float
    pinned: bool
    expires_at: float | None

    @classmethod
    def of(cls, memory: Memory | NewMemory) -> _Told:
        when = -math.inf if memory.created_at is None else memory.created_at
        provenance = provenance_of(memory.role, memory.source, memory.metadata)
        return cls(provenance, when, memory.pinned, memory.expires_at)

    def gains_by(self, item: NewMemory) -> bool:
        """Whether it matters that it is told once more (row_format.told_again)."""
        new = _Told.of(item)
        later = new.provenance == self.provenance and new.when > self.when
        lives_on = self.expires_at is not None and (new.expires_at is None or new.expires_at > self.expires_at)
        return new.provenance > self.provenance or later or lives_on or (new.pinned and not self.pinned)

    def with_telling(self, item: NewMemory) -> _Told:
        new = _Told.of(item)
        ends = [one.expires_at for one in (self, new)]
        return _Told(
            max(self.provenance, new.provenance),
            max(self.when, new.when),
            self.pinned or new.pinned,
            None if None in ends else max(end for end in ends if end is not None),
        )
