"""Connections: one a thread, transactions that nest and roll back, errors of the package's own."""

from __future__ import annotations

import gc
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from membank_llama.core.errors import BankClosedError, BankCorruptError, BankReadOnlyError, BankStorageError
from membank_llama.store.database import BankDatabase, translate


@pytest.fixture
def database(tmp_path: Path) -> Iterator[BankDatabase]:
    opened = BankDatabase(tmp_path / "bank.sqlite")
    opened.rows("CREATE TABLE t (x)")
    yield opened
    opened.close()


def test_an_error_rolls_everything_back(database: BankDatabase) -> None:
    def fail() -> None:
        with database.transaction() as db:
            db.execute("INSERT INTO t VALUES (1)")
            with database.transaction() as inner:
                inner.execute("INSERT INTO t VALUES (2)")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert database.rows("SELECT x FROM t") == []
    with database.transaction() as db:
        db.execute("INSERT INTO t VALUES (3)")
    assert database.scalar("SELECT x FROM t") == 3


def test_threads_read_what_was_committed_while_another_writes(database: BankDatabase) -> None:
    with ThreadPoolExecutor(1) as other, database.transaction() as db:
        db.execute("INSERT INTO t VALUES (1)")
        assert other.submit(database.scalar, "SELECT count(*) FROM t").result(5) == 0
    assert database.scalar("SELECT count(*) FROM t") == 1


def test_writers_of_one_process_queue(database: BankDatabase) -> None:
    def add(value: int) -> None:
        with database.transaction() as db:
            seen = database.scalar("SELECT count(*) FROM t")
            db.execute("INSERT INTO t VALUES (?)", (seen,))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(40)))
    assert sorted(row[0] for row in database.rows("SELECT x FROM t")) == list(range(40))


def test_the_connection_of_a_finished_thread_is_closed(database: BankDatabase) -> None:
    for _ in range(20):
        thread = threading.Thread(target=database.rows, args=("SELECT 1",))
        thread.start()
        thread.join()
    gc.collect()
    assert len(database._connections) == 1


def test_after_close_every_thread_is_told(tmp_path: Path) -> None:
    database = BankDatabase(tmp_path / "bank.sqlite")
    database.rows("CREATE TABLE t (x)")
    database.close()
    database.close()
    with pytest.raises(BankClosedError, match="open the bank again"):
        database.rows("SELECT 1")
    with ThreadPoolExecutor(1) as other, pytest.raises(BankClosedError):
        other.submit(database.rows, "SELECT 1").result()


def test_a_reader_does_not_write(database: BankDatabase) -> None:
    reader = BankDatabase(database.path, read_only=True)
    assert reader.rows("SELECT x FROM t") == []
    with pytest.raises(BankReadOnlyError), reader.transaction():
        pass
    with pytest.raises(BankReadOnlyError):
        reader.rows("INSERT INTO t VALUES (1)")
    reader.checkpoint()
    reader.close()
    assert database.rows("SELECT x FROM t") == []


def test_a_path_with_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%41 ü" / "bank.sqlite"
    path.parent.mkdir()
    for read_only in (False, True):
        database = BankDatabase(path, read_only=read_only)
        database.rows("SELECT 1")
        database.close()
    assert path.exists()


@pytest.mark.parametrize(
    ("error", "kind", "advice"),
    [
        (sqlite3.OperationalError("database or disk is full"), BankStorageError, "Free some space"),
        (sqlite3.OperationalError("disk I/O error"), BankStorageError, "check the disk"),
        (OSError(5, "input/output error"), BankStorageError, "check the disk"),
        (sqlite3.OperationalError("attempt to write a readonly database"), BankReadOnlyError, "read_only=True"),
        (sqlite3.DatabaseError("database disk image is malformed"), BankCorruptError, "membank verify"),
    ],
)
def test_errors_say_what_to_do(error: Exception, kind: type[Exception], advice: str) -> None:
    translated = translate(error, Path("bank.sqlite"))
    assert type(translated) is kind
    assert advice in str(translated)


def test_errors_of_sqlite_are_translated(database: BankDatabase) -> None:
    with pytest.raises(BankCorruptError, match="no such table"):
        database.rows("SELECT * FROM missing")
