"""The registry's tables, as migrations.

Each migration commits together with its own number (`PRAGMA user_version`), so a crash leaves a bank at one
version or the next, never between. A number above the newest here means a newer membank-llama made the bank.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3

from membank_llama.core.errors import BankFormatError
from membank_llama.core.text_features import acts_of, is_question, speaker_of
from membank_llama.core.types import Progress

from .full_text import TOKENIZER
from .row_format import CHECKED, COLUMN_NAMES, row_checksum
from .word_index import sql_function

_FIRST = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # AUTOINCREMENT: an id is never given twice, so an index that lags behind cannot name the wrong memory
    """
    CREATE TABLE memories (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        text TEXT NOT NULL,
        text_hash BLOB NOT NULL,
        role TEXT NOT NULL,
        namespace TEXT NOT NULL,
        conversation TEXT,
        created_at REAL NOT NULL,
        source TEXT,
        metadata TEXT NOT NULL DEFAULT '{}',
        pinned INTEGER NOT NULL DEFAULT 0,
        expires_at REAL,
        seen INTEGER NOT NULL DEFAULT 1,
        last_seen REAL NOT NULL,
        slot INTEGER NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX memories_content ON memories (namespace, text_hash)",
    "CREATE INDEX memories_time ON memories (namespace, created_at)",
    "CREATE INDEX memories_conversation ON memories (conversation, id) WHERE conversation IS NOT NULL",
    "CREATE INDEX memories_expiry ON memories (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE INDEX memories_slot ON memories (slot)",
    """
    CREATE TABLE pointers (
        slot INTEGER PRIMARY KEY,
        digest BLOB NOT NULL,
        level0 BLOB NOT NULL,
        level1 BLOB NOT NULL,
        level2 BLOB NOT NULL,
        ref_count INTEGER NOT NULL
    )
    """,
    "CREATE INDEX pointers_digest ON pointers (digest)",
    "CREATE INDEX pointers_free ON pointers (slot) WHERE ref_count <= 0",
    """
    CREATE VIRTUAL TABLE memories_fts USING fts5 (
        text, content='memories', content_rowid='id', tokenize='"""
    + TOKENIZER
    + """'
    )
    """,
    """
    CREATE TRIGGER memories_fts_insert AFTER INSERT ON memories BEGIN
        INSERT INTO memories_fts (rowid, text) VALUES (new.id, new.text);
    END
    """,
    """
    CREATE TRIGGER memories_fts_delete AFTER DELETE ON memories BEGIN
        INSERT INTO memories_fts (memories_fts, rowid, text) VALUES ('delete', old.id, old.text);
    END
    """,
    """
    CREATE TRIGGER memories_fts_update AFTER UPDATE OF text ON memories BEGIN
        INSERT INTO memories_fts (memories_fts, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO memories_fts (rowid, text) VALUES (new.id, new.text);
    END
    """,
    # a rewrite of the activation file in progress: memory → its slot in the next file
    """
    CREATE TABLE rewrite (
        memory_id INTEGER PRIMARY KEY,
        slot INTEGER NOT NULL,
        digest BLOB NOT NULL,
        level0 BLOB NOT NULL,
        level1 BLOB NOT NULL,
        level2 BLOB NOT NULL
    )
    """,
    "CREATE INDEX rewrite_digest ON rewrite (digest)",
    "CREATE INDEX rewrite_slot ON rewrite (slot)",
    "INSERT INTO meta VALUES ('generation', '0')",
)

_TRAITS = (
    "ALTER TABLE memories ADD COLUMN speaker TEXT",
    "ALTER TABLE memories ADD COLUMN asks INTEGER NOT NULL DEFAULT 0",
    "UPDATE memories SET speaker = membank_speaker(text, role, metadata), asks = membank_asks(text)",
    "CREATE INDEX memories_pinned ON memories (namespace, id) WHERE pinned",
)
"""Who speaks and whether a memory only asks (core/text_features.py); what is pinned, to be found without reading
everything."""

_PASSAGES = (
    # no AUTOINCREMENT: their ids are drawn with those of memories, right after their memory's own
    """
    CREATE TABLE passages (
        id INTEGER PRIMARY KEY,
        memory_id INTEGER NOT NULL,
        start INTEGER NOT NULL,
        stop INTEGER NOT NULL,
        slot INTEGER NOT NULL
    )
    """,
    "CREATE INDEX passages_memory ON passages (memory_id, start)",
    "CREATE INDEX passages_slot ON passages (slot)",
)
"""The passages of long memories after the first, which is the memory's own row and ends where the second starts."""

_CHECKSUMS = (
    "ALTER TABLE memories ADD COLUMN checksum BLOB",
    "ALTER TABLE passages ADD COLUMN checksum BLOB",
    "ALTER TABLE meta ADD COLUMN checksum BLOB",
    # what is damaged by now gets none
    f"UPDATE memories SET checksum = membank_checksum({CHECKED}) WHERE text_hash = membank_text_hash(text)",
    "UPDATE passages SET checksum = membank_checksum(id, memory_id, start, stop)",
    "UPDATE meta SET checksum = membank_checksum(key, value) WHERE key != 'generation'",
)
"""A checksum over all fields of a row (row_format.py), so that a changed byte is seen wherever it lies."""

_POSTINGS = (
    # a JSON string, as all of meta is JSON
    "INSERT INTO meta (key, value) VALUES ('words_secret', '\"' || lower(hex(randomblob(16))) || '\"')",
    "UPDATE meta SET checksum = membank_checksum(key, value) WHERE key = 'words_secret'",
    """
    CREATE TABLE postings (
        word INTEGER NOT NULL,
        memory_id INTEGER NOT NULL,
        PRIMARY KEY (word, memory_id)
    ) WITHOUT ROWID
    """,
    """
    INSERT OR IGNORE INTO postings SELECT w.value, m.id FROM memories AS m, json_each(membank_words(
        (SELECT json_extract(value, '$') FROM meta WHERE key = 'words_secret'), m.namespace, m.text
    )) AS w
    """,
    "DROP TRIGGER memories_fts_insert",
    "DROP TRIGGER memories_fts_delete",
    "DROP TRIGGER memories_fts_update",
    "DROP TABLE memories_fts",
    # a namespace is read without a look at its neighbours
    "CREATE INDEX memories_namespace ON memories (namespace, id, slot)",
    "ALTER TABLE passages ADD COLUMN namespace TEXT NOT NULL DEFAULT ''",
    "UPDATE passages SET namespace = coalesce((SELECT namespace FROM memories WHERE id = memory_id), '')",
    "CREATE INDEX passages_namespace ON passages (namespace, id, slot)",
    "DROP INDEX memories_expiry",
    "CREATE INDEX memories_expiry ON memories (namespace, expires_at, id) WHERE expires_at IS NOT NULL",
    # what forgetting still has to overwrite: ids in a saved index, slots of the activation file
    "CREATE TABLE erasures (id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, slot INTEGER)",
    "INSERT INTO meta (key, value) VALUES ('lifetimes', '0')",
)
"""Words filed by namespace in place of FTS5's index (full_text.py); what is read of one namespace, by its own index."""

# tables that earlier programs made when they first needed them
LAZY = (
    # a table of its own: SQLite reads the whole of a large value in `meta` whenever it searches a key beside it
    "CREATE TABLE IF NOT EXISTS axes (digest TEXT PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS turns"
    " (key BLOB PRIMARY KEY, conversation TEXT NOT NULL, depth INTEGER NOT NULL, seen REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS turns_conversation ON turns (conversation, depth)",
    "CREATE INDEX IF NOT EXISTS turns_seen ON turns (seen)",
)
"""The axes of the encoding (codec_record.py) and the turns of conversations (turns.py): a bank of format 5 or below may
have them, any newer one does."""

_TOKENS = tuple(
    statement
    for table in ("tokens", "rewrite_tokens")
    for statement in (
        f"CREATE TABLE {table} (slot INTEGER PRIMARY KEY, first INTEGER NOT NULL, count INTEGER NOT NULL,"
        " pointer BLOB NOT NULL)",
        f"CREATE INDEX {table}_first ON {table} (first, count)",
    )
)
"""Where the tokens of an activation lie in their file (token_runs.py), and in the next one while that is filled."""

_ACTS = (
    # read anew; what is damaged stays so
    f"UPDATE memories SET checksum = membank_checksum({', '.join(COLUMN_NAMES[:-2])},"
    " membank_speaker(text, role, metadata), membank_acts(text, role)), asks = membank_acts(text, role),"
    f" speaker = membank_speaker(text, role, metadata) WHERE checksum = membank_checksum({CHECKED})",
    # what was told more than once is of another time than its place says
    "CREATE INDEX memories_retold ON memories (namespace, id) WHERE seen > 1",
)
"""What a turn does (core/dialogue_acts.py) beside whether it ends with a question."""

_OTHER_LETTERS = "length(text) != length(CAST(text AS BLOB))"
_LETTERS = (
    f"DELETE FROM postings WHERE memory_id IN (SELECT id FROM memories WHERE {_OTHER_LETTERS})",
    f"""
    INSERT OR IGNORE INTO postings SELECT w.value, m.id FROM memories AS m, json_each(membank_words(
        (SELECT json_extract(value, '$') FROM meta WHERE key = 'words_secret'), m.namespace, m.text
    )) AS w WHERE {_OTHER_LETTERS}
    """,
)
"""Words in the letters that are compared, and scripts without spaces by pairs of letters (full_text.py): texts of ASCII
alone are filed as they were."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _FIRST,
    _TRAITS,
    _PASSAGES,
    _CHECKSUMS,
    _POSTINGS,
    LAZY,
    _TOKENS,
    _LETTERS,
    _ACTS,
)
VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection) -> int:
    """The number of the newest migration applied; 0 for an empty file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_version(connection: sqlite3.Connection, where: str) -> int:
    """Refuse a bank of the future.

    Raises:
        BankFormatError: the bank was made by a newer membank-llama, or is no bank.
    """
    found = version_of(connection)
    if found > VERSION:
        raise BankFormatError(
            f"{where} has format {found}; this membank-llama reads up to {VERSION}. "
            "Upgrade with: pip install -U membank-llama"
        )
    if found == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise BankFormatError(f"{where} holds another program's database; choose another directory for the bank")
    return found


def migrate(connection: sqlite3.Connection, where: str, progress: Progress | None = None) -> int:
    """Bring the tables to `VERSION`; returns how many migrations ran. A bank that exists may take some seconds."""
    start = check_version(connection, where)
    add_functions(connection)
    for number in range(start, VERSION):
        if progress is not None and start:
            progress("bringing the bank up to date", number - start, VERSION - start)
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        except sqlite3.Error:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    return VERSION - start


def add_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that migrations use."""
    for name, count, function in (
        ("membank_speaker", 3, _speaker),
        ("membank_asks", 1, is_question),
        ("membank_acts", 2, acts_of),
        ("membank_checksum", -1, row_checksum),
        ("membank_text_hash", 1, _text_hash),
        ("membank_words", 3, sql_function()),
    ):
        connection.create_function(name, count, function, deterministic=True)


def _text_hash(text: object) -> bytes | None:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() if isinstance(text, str) else None


def _speaker(text: str, role: str, metadata: str) -> str | None:
    try:
        known = json.loads(metadata)
    except ValueError:
        # damaged, which is no reason to refuse the whole bank
        known = None
    return speaker_of(text, role, known if isinstance(known, dict) else None)
