"""SQLite files of other programs are read beside whoever writes them, and nothing is changed or made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from membank_llama.core.errors import InvalidInputError
from membank_llama.store.foreign_tables import has_tables, read_table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a b%20#.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, CAST(x'ff41' AS TEXT));")
        db.execute("CREATE VIEW v AS SELECT a, b FROM t")
    return path


def test_tables_with_these_columns(path: Path) -> None:
    assert has_tables(path, {"t": ("a", "b")})
    assert not has_tables(path, {"t": ("a", "c")})
    assert not has_tables(path, {"t": ("a",), "u": ("a",)})
    assert list(read_table(path, "t", ("b", "a", "gone"))) == [{"b": "x", "a": 1}, {"b": "\ufffdA", "a": 2}]
    assert list(read_table(path, "u", ("a",))) == []


def test_a_view_is_no_table(path: Path) -> None:
    assert not has_tables(path, {"v": ("a",)})
    assert list(read_table(path, "v", ("a",))) == []


def test_beside_a_program_that_writes(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("INSERT INTO t VALUES (3, 'new')")
        db.commit()
        assert len(list(read_table(path, "t", ("a",)))) == 3
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert len(list(read_table(path, "t", ("a",)))) == 3
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_what_is_damaged_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 4000)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        list(read_table(path, "t", ("a",)))
