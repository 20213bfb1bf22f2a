"""Whether a bank's database holds our tables and nothing else.

A database may come from a stranger, and a schema runs: triggers rewrite what is stored, a view in the place of a table
may never end, an index on an expression computes. So what stands in `sqlite_master` is compared with what the
migrations make, before anything else is asked.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import lru_cache

from membank_llama.core.errors import BankCorruptError

from .schema import LAZY, MIGRATIONS, add_functions, check_version

_MOST = 1000
"""Entries read of a schema; ours has a few dozen."""

_SHADOW = re.compile(r"memories_fts_(?:data|idx|content|docsize|config)")
# SQLite and FTS5 make these themselves, in words that may differ from version to version
_COMPUTES = re.compile(
    r"\b(?:check|generated|as|default|references|collate|unique|virtual|using|select)\b", re.IGNORECASE
)
_STATISTICS = re.compile(r"sqlite_stat[134]")

Entry = tuple[str, str, str, str]
"""Kind, name, table and SQL of one entry of a schema."""


def checked_version(connection: sqlite3.Connection, where: str) -> int:
    """The version of a database whose tables are ours; 0 for an empty one.

    Raises:
        BankFormatError: see `schema.check_version`.
        BankCorruptError: see `check_schema`.
    """
    # in one transaction: another process may be bringing it up to date
    connection.execute("BEGIN")
    try:
        version = check_version(connection, where)
        check_schema(connection, version, where)
    finally:
        connection.execute("ROLLBACK")
    return version


def check_schema(connection: sqlite3.Connection, version: int, where: str) -> None:
    """Compare a database of this version with what the migrations make of an empty one.

    Raises:
        BankCorruptError: something is missing, changed, or not ours.
    """
    found = _entries(connection)
    expected, optional = expected_schema(version)
    odd = sorted(entry for entry in found - expected - optional if not _made_by_sqlite(entry))
    if odd:
        kind, name, _, _ = odd[0]
        raise BankCorruptError(
            f"{where} holds a {kind} {name[:60]!r} that membank-llama did not make so: whoever made this bank may have "
            "put it there to change what is stored or to do harm. Nothing of it was run; use another copy of the bank"
        )
    missing = sorted(expected - found)
    if missing:
        kind, name, _, _ = missing[0]
        raise BankCorruptError(
            f"{where} has lost its {kind} {name!r}: the database is damaged. Restore it from a copy, or import an "
            "export into another directory: membank import"
        )


@lru_cache(maxsize=8)
def expected_schema(version: int) -> tuple[frozenset[Entry], frozenset[Entry]]:
    """What the migrations up to a version make, and what may stand beside it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        add_functions(connection)
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                connection.execute(statement)
        made = _entries(connection)
        for statement in LAZY:
            connection.execute(statement)
        optional = _entries(connection) - made
    return frozenset(entry for entry in made if not _made_by_sqlite(entry)), frozenset(optional)


def _entries(connection: sqlite3.Connection) -> frozenset[Entry]:
    rows = connection.execute(
        "SELECT type, name, tbl_name, coalesce(sql, ''), rootpage FROM sqlite_master LIMIT ?", (_MOST,)
    ).fetchall()
    return frozenset(_entry(*row) for row in rows)


def _entry(kind: object, name: object, table: object, sql: object, root: object) -> Entry:
    # a table without pages of its own is a virtual one
    shown = f"{kind}" if root or kind in ("trigger", "view") else f"virtual {kind}"
    return shown, str(name), str(table), " ".join(str(sql).split())


def _made_by_sqlite(entry: Entry) -> bool:
    """Whether SQLite or its full text made this by themselves, beside what they were told to."""
    kind, name, table, sql = entry
    if kind == "index":
        return not sql and name.startswith(f"sqlite_autoindex_{table}_")
    if kind != "table" or name != table:
        return False
    if name == "sqlite_sequence" or _STATISTICS.fullmatch(name):
        return not _COMPUTES.search(sql)
    return bool(_SHADOW.fullmatch(name)) and not _COMPUTES.search(sql)
