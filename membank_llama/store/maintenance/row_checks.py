"""The rows of a registry against their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from membank_llama.core.errors import BankClosedError, BankCorruptError, BankError

from ..registry import Registry
from ..row_format import COLUMNS, is_whole, memories_of

PAGE = 512
COUNTERS = ("generation", "lifetimes")
MOST_NAMED = 20

_PARTS = {
    "memory": (f"SELECT {COLUMNS} FROM memories", "id"),
    "passage": ("SELECT id, memory_id, start, stop, checksum FROM passages", "id"),
    "record": ("SELECT key, value, checksum FROM meta", "key"),
}
_ADVICE = {
    "memory": "restore the bank from a copy, or give it up with membank forget",
    "passage": "restore the bank from a copy, or forget its memory",
    "record": "restore the bank from a copy, or make it anew with membank reencode MODEL",
}


def row_problems(registry: Registry) -> list[str]:
    """A sentence for each kind of row that does not match its checksum, with the names of those that do not."""
    problems = []
    for kind in _PARTS:
        damaged = list(_damaged(registry, kind))
        if damaged:
            named = ", ".join(damaged[:MOST_NAMED]) + (" …" if len(damaged) > MOST_NAMED else "")
            problems.append(f"{kind} {named}: damaged, the checksum does not match; {_ADVICE[kind]}")
    return problems


def reindex(registry: Registry) -> None:
    """Make SQLite's own indexes anew from the rows: without that, a row whose indexed fields are damaged cannot even
    be removed."""
    with suppress(BankCorruptError), registry.transaction() as db:
        db.execute("REINDEX")


def check_rows(registry: Registry) -> None:
    """Raises BankCorruptError where any row is damaged: what is derived from it would hide that."""
    if problems := row_problems(registry):
        raise BankCorruptError(f"{registry.path.parent}: {problems[0]}. Nothing was made anew: that would hide it")


def database_problems(registry: Registry, most: int = MOST_NAMED) -> list[str]:
    """What SQLite itself finds wrong with the file: a page that is damaged may hold a row twice, or no more."""
    rows = registry.rows(f"PRAGMA integrity_check({int(most)})")
    # SQLite writes all that is wrong with the pages in one row, below a line of stars
    found = [line for row in rows for line in str(row[0]).splitlines() if line != "ok" and not line.startswith("***")]
    return [f"database: {line}" for line in found[:most]]


def check_database(registry: Registry) -> None:
    """Raises BankCorruptError where the file is damaged: rows may be missing, and what is made anew would hide that."""
    if problems := database_problems(registry):
        raise BankCorruptError(
            f"{registry.path.parent}: {problems[0]}. Memories may be missing: restore the bank from a copy, or take "
            "what is left along with membank export and membank import"
        )


def _damaged(registry: Registry, kind: str) -> Iterator[str]:
    select, key = _PARTS[kind]
    table = select.rsplit(" ", 1)[1]
    after: Any = -(1 << 63) if key == "id" else ""
    page = f"SELECT {key} FROM {table} WHERE {key} > ? ORDER BY 1 LIMIT ?"
    while names := [row[0] for row in registry.rows(page, (after, PAGE))]:
        if key == "id" and names[-1] <= after:
            raise BankCorruptError(f"database: rows of {table} are out of order")
        try:
            rows = registry.rows(f"{select} WHERE {key} > ? AND {key} <= ?", (after, names[-1]))
            yield from (str(row[0])[:40] for row in rows if not _fits(kind, row))
        except BankClosedError:
            raise
        except BankError:
            # one of them cannot be read at all
            for name in names:
                yield from _alone(registry, kind, name)
        after = names[-1]


def _alone(registry: Registry, kind: str, name: Any) -> Iterator[str]:
    select, key = _PARTS[kind]
    try:
        rows = registry.rows(f"{select} WHERE {key} = ?", (name,))
    except BankClosedError:
        raise
    except BankError:
        yield str(name)[:40]
        return
    yield from (str(name)[:40] for row in rows if not _fits(kind, row))


def _fits(kind: str, row: Any) -> bool:
    if kind == "memory":
        try:
            memories_of([row])
        except BankCorruptError:
            return False
        return True
    # counts of changes rise in SQL
    return is_whole(row) or (kind == "record" and row[0] in COUNTERS and str(row[1]).isdecimal())
