"""Tables of other programs' SQLite files, which are read and never written, not even a file beside them.

Such a file may come from a stranger: only tables are read, no views, and its schema is not trusted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from membank_llama.core.errors import InvalidInputError

MAGIC = b"SQLite format 3\0"


def has_tables(path: Path, tables: Mapping[str, Sequence[str]]) -> bool:
    """Whether a SQLite file has these tables with these columns.

    Raises:
        InvalidInputError: it is damaged, or cannot be read.
    """
    with _opened(path) as connection:
        return all(set(columns) <= _columns(connection, table) for table, columns in tables.items())


def read_table(path: Path, table: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows in the order they came, with those of the columns that the table has; none where there is no such table.

    Raises:
        InvalidInputError: the file is damaged, or cannot be read.
    """
    with _opened(path) as connection:
        there = _columns(connection, table)
        names = [name for name in columns if name in there]
        if names:
            quoted = ", ".join(f'"{name}"' for name in names)
            for row in connection.execute(f'SELECT {quoted} FROM "{table}" ORDER BY rowid'):
                yield dict(zip(names, row, strict=True))


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    if not connection.execute(sql, (table,)).fetchone()[0]:
        return set()
    return {row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    log = path.with_name(f"{path.name}-wal")
    # without a log nobody is writing, and SQLite need not make files of its own to find that out
    mode = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as connection:
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            yield connection
    except (sqlite3.Error, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"{path} is a SQLite file that cannot be read: {exc}; close its program first") from exc
