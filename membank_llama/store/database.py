"""`BankDatabase`: the connections under the registry.

SQLite in WAL mode, one connection a thread, so that threads read beside the one that writes; writes of one
process queue on a lock. SQLite's errors are translated here and nowhere else.

A database may come from a stranger or be damaged: its schema is not trusted, nothing is mapped into memory, and cells
are checked before they are read.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlite_utils
from sqlite_utils import Database as Database

from membank_llama.core.errors import (
    BankClosedError,
    BankCorruptError,
    BankError,
    BankFormatError,
    BankReadOnlyError,
    BankStorageError,
)

from .bank_files import open_plain, sync_directory
from .file_in_use import FileInUse

BUSY_SECONDS = 10.0
CHUNK = 500
LOG_PAGES = 8000
"""Pages of the write-ahead log, 32 MB, that are folded into the database at once: words are filed all over it, and a
page that is written a hundred times in between is copied once."""
_T = TypeVar("_T", int, bytes)
_CAREFUL = ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0")
_STORAGE = ("full", "disk i/o", "unable to open", "readonly", "read-only", "locked", "busy")


def chunks(values: Iterable[_T], size: int = CHUNK) -> list[tuple[str, list[_T]]]:
    """Pieces of a list of ids or hashes with the placeholders SQLite wants for them; without ids that no row has."""
    ids = [value for value in values if not isinstance(value, int) or fits_a_row(value)]
    pieces = [ids[start : start + size] for start in range(0, len(ids), size)]
    return [(",".join("?" * len(piece)), piece) for piece in pieces]


def fits_a_row(number: int) -> bool:
    """Whether SQLite has room for a number."""
    return number.bit_length() < 64


def translate(exc: Exception, where: Path) -> BankError:
    """The package's error for one of SQLite's or the system's."""
    text = str(exc).lower()
    if isinstance(exc, sqlite3.OperationalError) and ("readonly" in text or "read-only" in text):
        return BankReadOnlyError(f"{where} cannot be written: {exc}. Open the bank with read_only=True")
    if isinstance(exc, OSError) or any(word in text for word in _STORAGE):
        return BankStorageError(
            f"{where}: {exc}. Free some space or check the disk and its permissions; everything stored before is kept"
        )
    if "not a database" in text:
        return BankFormatError(f"{where} is not a bank of membank-llama: {exc}; choose another directory")
    return BankCorruptError(f"{where}: {exc}. Keep a copy of the directory, then try: membank verify, membank export")


@contextmanager
def translating(where: Path) -> Iterator[None]:
    """Turn errors of SQLite into the package's own."""
    try:
        yield
    except sqlite3.ProgrammingError as exc:
        if "closed" in str(exc).lower():
            raise BankClosedError(f"{where} is closed; open the bank again") from exc
        raise
    except sqlite3.DatabaseError as exc:
        raise translate(exc, where) from exc
    except UnicodeDecodeError as exc:
        # names of columns and messages of SQLite's own, where the schema is damaged
        raise translate(sqlite3.DatabaseError(str(exc)), where) from exc


class _Connection:
    """One thread's connection; closed with the thread. Its lock keeps `close()` from pulling it away in use."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.lock = threading.RLock()
        self.db = sqlite_utils.Database(raw, use_old_upsert=False)

    def close(self) -> None:
        with self.lock:
            self.db.close()

    def __del__(self) -> None:
        self.close()


class BankDatabase:
    """A SQLite file that many threads read and one at a time writes."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._local = threading.local()
        # weak: a thread's connection goes with the thread
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._write = threading.RLock()
        self._in_use: FileInUse | None = None
        self._closed = False
        if not read_only and not path.exists():
            # made before SQLite opens it, so that it and its -wal are private from the first byte
            try:
                os.close(open_plain(path, os.O_CREAT | os.O_RDWR))
            except OSError as exc:
                raise translate(exc, path) from exc
            sync_directory(path.parent)

    def check_open(self) -> None:
        """Raises BankClosedError after `close()`."""
        if self._closed:
            raise BankClosedError(f"{self.path.parent} is closed; open the bank again")

    @property
    def db(self) -> sqlite_utils.Database:
        """This thread's connection."""
        return self._connection().db

    def _connection(self) -> _Connection:
        self.check_open()
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            with translating(self.path):
                connection = _Connection(self._connect())
            self._local.connection = connection
            with self._guard:
                self._connections.add(connection)
                if self._in_use is None:
                    self._in_use = FileInUse(self.path)
        return connection

    @contextmanager
    def _using(self) -> Iterator[sqlite_utils.Database]:
        connection = self._connection()
        with connection.lock, translating(self.path):
            self.check_open()
            yield connection.db

    def _connect(self) -> sqlite3.Connection:
        if not self.read_only:
            return self._open(
                "rw",
                "journal_mode = WAL",
                "synchronous = FULL",
                f"wal_autocheckpoint = {LOG_PAGES}",
                "secure_delete = ON",
            )
        try:
            return self._open("ro")
        except sqlite3.OperationalError as exc:
            if not any(sign in str(exc) for sign in ("unable to open", "readonly", "read-only", "disk I/O", "full")):
                raise
            # a WAL database on a read-only or full disk: SQLite cannot make its -shm there, but as there is none
            # nobody is writing either
            log = self.path.with_name(self.path.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise BankStorageError(
                    f"{self.path.parent} lies on a disk that cannot be written ({exc}) and was not closed cleanly: its "
                    f"newest memories are in {log.name}. Copy the directory to another disk and open it there"
                ) from exc
            return self._open("ro&immutable=1")

    def _open(self, mode: str, *pragmas: str) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path.absolute()))}?mode={mode}"
        raw = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            if sys.version_info >= (3, 12):
                raw.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
            # before the schema is read for the first time
            for pragma in (*_CAREFUL, *pragmas, "cache_size = -16000"):
                raw.execute(f"PRAGMA {pragma}")
            raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error:
            raw.close()
            raise
        return raw

    @contextmanager
    def transaction(self) -> Iterator[sqlite_utils.Database]:
        """All or nothing: commits at the end, rolls back on any error. May be nested in one thread."""
        if self.read_only:
            raise BankReadOnlyError(f"{self.path.parent} was opened with read_only=True")
        with self._write, self._using() as db:
            if _in_transaction(db):
                yield db
                return
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself where the disk was full
                if _in_transaction(db):
                    db.execute("ROLLBACK")
                self._ended(committed=False)
                raise
            self._ended(committed=True)

    def _ended(self, *, committed: bool) -> None:
        """Called with the lock of writers held, after each transaction."""

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads of this thread see the bank as it is now, whatever others write meanwhile."""
        with self._using() as db:
            if _in_transaction(db):
                yield
                return
            db.execute("BEGIN")
            try:
                yield
            finally:
                db.execute("ROLLBACK")

    def rows(self, sql: str, params: Any = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._using() as db:
            return list(db.execute(sql, params).fetchall())

    def scalar(self, sql: str, params: Any = ()) -> Any:
        """The first column of the first row; None where there is none."""
        with self._using() as db:
            row = db.execute(sql, params).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def reading(self) -> Iterator[FileIO]:
        """The file itself, from its beginning. Opened and closed in another way it takes the locks of SQLite along."""
        self._connection()
        with self._guard:
            in_use = self._in_use
        if in_use is None:
            raise BankClosedError(f"{self.path.parent} is closed; open the bank again")
        with in_use.read() as file:
            yield file

    def checkpoint(self) -> bool:
        """Fold the write-ahead log into the database file and empty it; false where a reader kept it from that."""
        if self.read_only:
            return False
        return bool(self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0)

    def copy_to(self, target: Path, piece: int, copied: Callable[[int], None]) -> None:
        """Copy the database into an empty file, about `piece` bytes at a time, and tell how many each had. Within
        `snapshot()` it is copied as that sees it, and whoever writes meanwhile waits for nothing."""
        with self._using() as db, closing(sqlite3.connect(target, isolation_level=None)) as other:
            other.execute("PRAGMA synchronous = OFF")
            size = int(db.execute("PRAGMA page_size").fetchone()[0])
            left = int(db.execute("PRAGMA page_count").fetchone()[0])

            def told(_: int, remaining: int, __: int) -> None:
                nonlocal left
                left, before = remaining, left
                copied(size * (before - remaining))

            db.conn.backup(other, pages=max(1, piece // size), progress=told)

    def _fold(self) -> None:
        """Leave nothing in the log: SQLite does so where the last connection closes, which may be a reader's."""
        if self.read_only or self._closed or self._in_use is None:
            return
        with suppress(BankError):
            # nobody is waited for
            self.rows("PRAGMA busy_timeout = 0")
            self.checkpoint()

    def close(self) -> None:
        self._fold()
        with self._guard:
            self._closed = True
            connections = list(self._connections)
            self._connections.clear()
            in_use, self._in_use = self._in_use, None
        for connection in connections:
            connection.close()
        if in_use is not None:
            in_use.leave()


def _in_transaction(db: sqlite_utils.Database) -> bool:
    return bool(db.conn.in_transaction)
