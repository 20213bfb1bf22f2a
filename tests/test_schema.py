"""Migrations: each commits with its own number, and a bank of the future is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from membank_llama import schema
from membank_llama.errors import BankFormatError
from membank_llama.schema import MIGRATIONS, VERSION, check_version, migrate, version_of


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    raw = sqlite3.connect(tmp_path / "bank.sqlite", isolation_level=None)
    yield raw
    raw.close()


def tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_an_empty_file_is_brought_to_the_newest_version(connection: sqlite3.Connection) -> None:
    assert migrate(connection, "here") == VERSION
    assert version_of(connection) == VERSION
    assert {"meta", "memories", "pointers", "memories_fts", "rewrite"} <= tables(connection)
    assert migrate(connection, "here") == 0


def test_a_failing_migration_leaves_neither_tables_nor_number(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(connection, "here")
    before = tables(connection)
    broken = (*MIGRATIONS, ("CREATE TABLE extra (x)", "INSERT INTO no_such_table VALUES (1)"))
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    monkeypatch.setattr(schema, "VERSION", len(broken))
    with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
        migrate(connection, "here")
    assert version_of(connection) == len(MIGRATIONS)
    assert tables(connection) == before
    assert not connection.in_transaction


def test_each_migration_commits_with_its_own_number(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(connection, "here")
    more = (*MIGRATIONS, ("CREATE TABLE extra (x)",), ("CREATE TABLE broken (",))
    monkeypatch.setattr(schema, "MIGRATIONS", more)
    monkeypatch.setattr(schema, "VERSION", len(more))
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, "here")
    assert version_of(connection) == len(MIGRATIONS) + 1
    assert "extra" in tables(connection)
    monkeypatch.setattr(schema, "MIGRATIONS", (*more[:-1], ("CREATE TABLE mended (x)",)))
    assert migrate(connection, "here") == 1
    assert "mended" in tables(connection)


def test_a_newer_format_is_refused_and_not_touched(connection: sqlite3.Connection) -> None:
    migrate(connection, "here")
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(BankFormatError, match=rf"here has format {VERSION + 1}.*pip install -U membank-llama"):
        migrate(connection, "here")
    assert version_of(connection) == VERSION + 1


def test_another_programs_database_is_refused(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE bookmarks (url)")
    with pytest.raises(BankFormatError, match="another program"):
        check_version(connection, "here")
    assert tables(connection) == {"bookmarks"}
