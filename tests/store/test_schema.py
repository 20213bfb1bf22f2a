"""Migrations: each commits with its own number, and a bank of the future is refused."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.banks import as_format, open_bank
from support.terminals import Membank

from membank_llama.core.errors import BankFormatError
from membank_llama.core.types import NewMemory
from membank_llama.store import schema
from membank_llama.store.model_record import is_outdated, recorded_model
from membank_llama.store.schema import LAZY, MIGRATIONS, VERSION, check_version, migrate, version_of


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
    assert {"meta", "memories", "pointers", "postings", "rewrite"} <= tables(connection)
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


# -- from the first format


TOLD = (
    NewMemory("Ana: my sister lives in Porto.", conversation="a", created_at=10.0),
    NewMemory("Do you like it there?", role="Ben", conversation="a", created_at=20.0, pinned=True),
    NewMemory("Very much.", {"speaker": "Cleo", "mood": "glad"}, namespace="work", source="notes.md", created_at=30.0),
    NewMemory("The dentist moved to Maple Street.", created_at=40.0),
)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    path = tmp_path / "bank"
    with open_bank(path) as bank:
        bank.ingest_many(TOLD)
    as_format(path, 1)
    return path


def test_the_first_format_has_none_of_the_new_columns(first: Path) -> None:
    with contextlib.closing(sqlite3.connect(first / "bank.sqlite")) as raw:
        assert version_of(raw) == 1
        columns = {row[1] for row in raw.execute("PRAGMA table_info(memories)")}
        assert raw.execute("SELECT count(*) FROM memories").fetchone() == (len(TOLD),)
    assert not {"speaker", "asks"} & columns


def test_a_bank_of_the_first_format_is_brought_up_to_date(first: Path) -> None:
    with open_bank(first) as bank:
        rows = bank.store.registry.rows("SELECT speaker, asks FROM memories ORDER BY id")
        assert rows == [("Ana", 0), ("Ben", 1), ("Cleo", 0), (None, 0)]
        kept = list(bank.memories())
        assert [
            NewMemory(m.text, m.metadata or None, m.role, m.namespace, m.conversation, m.created_at, m.source, m.pinned)
            for m in kept
        ] == list(TOLD)
        assert bank.verify().ok
        best = bank.recall("Where does Ana's sister live?")[0]
        assert (best.text, best.relevant) == (TOLD[0].text, True)
        assert best.signals["speaker"] > 0
        bank.ingest("The lamp is green.")
        assert bank.recall("lamp", 1)[0].text == "The lamp is green."
    with open_bank(first, read_only=True) as bank:
        assert version_of(bank.store.registry.db.conn) == VERSION
        assert len(list(bank.memories())) == len(TOLD) + 1


def test_tables_that_an_earlier_program_made_by_itself_are_kept(tmp_path: Path) -> None:
    for made in (False, True):
        path = tmp_path / f"bank{made}"
        with open_bank(path) as bank:
            bank.ingest_many(TOLD)
        with contextlib.closing(sqlite3.connect(path / "bank.sqlite", isolation_level=None)) as raw:
            for table in ("axes", "turns", "tokens", "rewrite_tokens"):
                raw.execute(f"DROP TABLE {table}")
            raw.execute("DROP INDEX memories_retold")
            raw.execute("PRAGMA user_version = 5")
            for statement in (*LAZY, "INSERT INTO turns VALUES (x'01', 'c', 1, 2e9)") if made else ():
                raw.execute(statement)
        with open_bank(path) as bank:
            assert version_of(bank.store.registry.db.conn) == VERSION
            assert {"turns", "axes"} <= tables(bank.store.registry.db.conn)
            assert bank.store.registry.scalar("SELECT count(*) FROM turns") == made
            assert bank.verify().ok
            assert bank.recall("dentist", 1)[0].text == TOLD[3].text


def test_reading_an_earlier_format_is_refused_with_what_to_do(first: Path) -> None:
    before = (first / "bank.sqlite").read_bytes()
    with pytest.raises(
        BankFormatError, match=rf"earlier format \(1, now {VERSION}\): open it once for writing.*membank stats"
    ):
        open_bank(first, read_only=True)
    assert (first / "bank.sqlite").read_bytes() == before


@pytest.mark.parametrize("command", [("stats",), ("recall", "dentist"), ("verify",), ("export", "-"), ("pin", "1")])
def test_every_command_brings_it_up_to_date(
    first: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    done = Membank(first, capsys)(*command)
    assert done.code == 0, done.err
    with open_bank(first, read_only=True) as bank:
        assert bank.recall("dentist", 1)[0].text == TOLD[3].text


def test_the_model_of_an_earlier_format_is_known_without_touching_it(first: Path) -> None:
    before = (first / "bank.sqlite").read_bytes()
    card = recorded_model(first)
    assert card is not None and card["name"] == "mock"
    assert is_outdated(first)
    assert (first / "bank.sqlite").read_bytes() == before
    open_bank(first).close()
    assert not is_outdated(first)


@pytest.mark.parametrize("metadata", ["[1, 2]", "null", "not json", '"text"'])
def test_metadata_that_is_no_object_does_not_stop_the_migration(first: Path, metadata: str) -> None:
    with contextlib.closing(sqlite3.connect(first / "bank.sqlite", isolation_level=None)) as raw:
        raw.execute("UPDATE memories SET metadata = ? WHERE id = 1", (metadata,))
        assert migrate(raw, "here") == VERSION - 1
        assert raw.execute("SELECT speaker FROM memories WHERE id = 1").fetchone() == ("Ana",)


# -- from the seventh: words in the letters that are compared


LETTERS = ("The bell of Groß is broken.", "我的门锁密码是4471。", "The lamp is green.", "The café is closed.")


def test_texts_in_other_letters_are_filed_anew_and_those_of_ascii_are_left(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    with open_bank(path) as bank:
        bank.ingest_many(LETTERS)
    with contextlib.closing(sqlite3.connect(path / "bank.sqlite", isolation_level=None)) as raw:
        expected = sorted(raw.execute("SELECT word, memory_id FROM postings"))
        # as other words, as earlier programs filed them; the one of ASCII alone keeps a mark by which it is known
        raw.execute("DELETE FROM postings WHERE memory_id != 3")
        raw.executemany("INSERT INTO postings VALUES (?, ?)", [(12345, number) for number in (1, 2, 3, 4)])
        raw.execute("DROP INDEX memories_retold")
        raw.execute("PRAGMA user_version = 7")
        migrate(raw, "here")
        assert version_of(raw) == VERSION
        assert sorted(raw.execute("SELECT word, memory_id FROM postings")) == sorted([*expected, (12345, 3)])


def test_a_bank_of_the_seventh_format_finds_its_words(tmp_path: Path) -> None:
    path, told = tmp_path / "bank", []
    with open_bank(path) as bank:
        bank.ingest_many(LETTERS)
    with contextlib.closing(sqlite3.connect(path / "bank.sqlite", isolation_level=None)) as raw:
        raw.execute("DELETE FROM postings WHERE memory_id IN (1, 2, 4)")
        raw.execute("DROP INDEX memories_retold")
        raw.execute("PRAGMA user_version = 7")
    with open_bank(path, progress=lambda *step: told.append(step)) as bank:
        assert bank.verify().ok
        assert bank.recall("gross", 1)[0].text == LETTERS[0]
        assert bank.recall("门锁密码", 1)[0].text == LETTERS[1]
    assert told and told[0][0] == "bringing the bank up to date"
