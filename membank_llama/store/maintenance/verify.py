"""Whether a bank is as it was written: each row, each activation, what counts and finds them.

Nothing is changed, and damage is told, never raised: one damaged part keeps no other from being looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from membank_llama.core.errors import BankClosedError, BankCorruptError, BankError
from membank_llama.core.types import LEVELS, Progress

from ..pointers import PointerRecord, model_tag
from ..store import Store
from .row_checks import database_problems, row_problems

VERIFY_BATCH = 512
MOST_PROBLEMS = 50


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found: how many activations were checked, and each problem as a sentence."""

    checked: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(store: Store, progress: Progress | None = None) -> VerifyReport:
    """Check the database, every row against its checksum, every activation against its pointer, reference counts and
    saved indexes."""
    while True:
        at = store.activations
        try:
            store.current()
            at = store.activations
            report = _verify(store, progress)
            # switched to other files meanwhile: what was read before does not fit what was read after
            if report.ok or store.is_current(at):
                return report
        except BankClosedError:
            # the files that another thread switched the bank from; where the bank is closed, asking raises too
            if store.is_current(at):
                raise
        except BankError as exc:
            return VerifyReport(0, (str(exc),))


def _verify(store: Store, progress: Progress | None) -> VerifyReport:
    checked, problems = 0, _found(_verify_database, store) + _found(row_problems, store.registry)
    problems += _found(partial(_verify_words, progress), store)
    try:
        checked, damaged = _verify_activations(store, progress)
        problems += damaged
    except BankClosedError:
        raise
    except BankError as exc:
        problems.append(str(exc))
    problems += _found(_verify_references, store) + _found(_verify_indexes, store)
    if len(problems) > MOST_PROBLEMS:
        more = len(problems) - MOST_PROBLEMS
        problems = [*problems[:MOST_PROBLEMS], f"… and {more} more; membank reencode mends them all"]
    return VerifyReport(checked, tuple(problems))


def _found(check: Callable[[Any], list[str]], where: Any) -> list[str]:
    """What a check finds; where damage keeps it from going on, that is found too."""
    try:
        return check(where)
    except BankClosedError:
        raise
    except BankError as exc:
        return [str(exc)]


def _verify_database(store: Store) -> list[str]:
    return database_problems(store.registry, MOST_PROBLEMS)


def _verify_words(progress: Progress | None, store: Store) -> list[str]:
    """Whether the words that are filed are those of the memories."""
    sound = store.registry.words.is_sound(progress)
    return [] if sound else ["words: what is filed does not match the memories; membank rebuild mends it"]


def _verify_activations(store: Store, progress: Progress | None) -> tuple[int, list[str]]:
    rows = store.registry.rows("SELECT slot FROM pointers WHERE ref_count > 0 ORDER BY slot")
    slots = [row[0] for row in rows]
    tag = model_tag(store.model.id)
    problems: list[str] = []
    if not all(isinstance(slot, int) for slot in slots):
        raise BankCorruptError("a pointer has no slot that is a number: the database is damaged")
    for start in range(0, len(slots), VERIFY_BATCH):
        batch = slots[start : start + VERIFY_BATCH]
        runs = {} if store.tokens is None else store.tokens.of(batch)
        for slot, records in store.registry.pointers(batch).items():
            found = _slot_problems(store, slot, records, tag)
            if store.tokens is not None:
                found += store.tokens.problems(slot, runs.get(slot), tag)
            if found and store.registry.pointers([slot]).get(slot) == records:
                # else the writing process has changed the slot meanwhile
                problems += [f"slot {slot}, {what}" for what in found]
        if progress is not None:
            progress("verifying", min(start + VERIFY_BATCH, len(slots)), len(slots))
    return len(slots), problems


def _slot_problems(store: Store, slot: int, records: Sequence[bytes], tag: bytes) -> list[str]:
    problems = []
    for level, record in zip(LEVELS, records, strict=True):
        try:
            pointer = PointerRecord.unpack(record)
            if pointer.offset != store.buffer.offset(slot) + store.hierarchy.spans[level][0]:
                problems.append(f"level {level}: pointer leads elsewhere")
            elif pointer.model != tag:
                problems.append(f"level {level}: made by another model")
            elif (pointer.level, pointer.dims, pointer.dtype, pointer.flags) != (
                level,
                store.hierarchy.dim,
                store.hierarchy.dtypes[level],
                0,
            ):
                problems.append(f"level {level}: pointer tells of other vectors")
            elif not pointer.matches(store.deref(pointer)):
                problems.append(f"level {level}: bytes do not match their SHA-256; membank reencode mends it")
        except BankCorruptError as exc:
            problems.append(f"level {level}: {exc}")
    return problems


def _verify_references(store: Store) -> list[str]:
    rows = store.registry.rows(
        "SELECT p.slot, p.ref_count, coalesce(u.uses, 0) AS uses FROM pointers AS p LEFT JOIN"
        " (SELECT slot, count(*) AS uses FROM (SELECT slot FROM memories UNION ALL SELECT slot FROM passages)"
        " GROUP BY slot) AS u ON u.slot = p.slot WHERE max(p.ref_count, 0) != coalesce(u.uses, 0) ORDER BY p.slot"
    )
    problems = [f"slot {slot}: {count} references counted, {real} memories point at it" for slot, count, real in rows]
    lost = store.registry.rows("SELECT id FROM memories WHERE slot NOT IN (SELECT slot FROM pointers)")
    problems += [f"memory {row[0]}: its activation has no pointer" for row in lost]
    misled = store.registry.rows("SELECT slot FROM pointers WHERE ref_count > 0 AND digest != substr(level0, 1, 32)")
    problems += [f"slot {row[0]}: known by another digest than its pointer's" for row in misled]
    lost = store.registry.rows(
        "SELECT id, memory_id FROM passages WHERE slot NOT IN (SELECT slot FROM pointers)"
        " OR NOT EXISTS (SELECT 1 FROM memories AS m WHERE m.id = memory_id AND m.namespace = passages.namespace)"
    )
    return problems + [f"passage {row[0]} of memory {row[1]}: its memory or its pointer is missing" for row in lost]


def _verify_indexes(store: Store) -> list[str]:
    problems = []
    for namespace in store.registry.namespaces():
        try:
            # nobody adds between the two
            with store.write_lock:
                expected = store.registry.count_vectors(namespace)
                found = len(store.indexes.get(namespace))
        except BankCorruptError as exc:
            problems.append(f"index of {namespace!r}: {exc}")
            continue
        # a reader's index may still hold memories that the writing process has since removed
        if found < expected or (found > expected and not store.read_only):
            problems.append(
                f"index of {namespace!r}: {found} vectors for {expected} memories; membank rebuild mends it"
            )
    return problems
