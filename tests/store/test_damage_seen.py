"""Damage is seen: a changed byte of a memory, a database or its newest writes gone, a lock file deleted."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import zlib
from pathlib import Path

import pytest
from support.banks import FACTS, as_format, numbered, open_bank, open_store, texts
from support.damage import change, copy_of, everything, make_bank
from support.terminals import Membank

from membank_llama.core.errors import BankCorruptError, BankError, BankLockedError, BankNotFoundError
from membank_llama.core.types import NewMemory
from membank_llama.store.bank_files import NOTE

TOLD = NewMemory(
    "The harbour number 400 is blue.", {"owner": "person400"}, namespace="aaaa", conversation="conv400", source="notes"
)


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    path = tmp_path / "bank"
    with open_bank(path) as made:
        made.ingest_many([*(NewMemory(text, namespace="aaaa") for text in FACTS), TOLD])
    return path


def edit(bank: Path, old: bytes, new: bytes, after: bytes = b"") -> None:
    """Change bytes of the database file, the first after some others."""
    path = bank / "bank.sqlite"
    data = path.read_bytes()
    at = data.index(old, data.index(after) if after else 0)
    path.write_bytes(data[:at] + new + data[at + len(old) :])


HARBOUR = b"harbour number 400"
EDITS = {
    "text": (b"400 is blue", b"400 is glue", b""),
    "role": (b"user", b"root", HARBOUR),
    "namespace": (b"aaaa", b"aaab", HARBOUR),
    "conversation": (b"conv400", b"conv4x0", HARBOUR),
    "source": (b"notes", b"motes", HARBOUR),
    "metadata": (b"person400", b"person499", HARBOUR),
    "broken metadata": (b'"person400"}', b'"person400"]', HARBOUR),
    "no text any more": (b"400 is blue", b"400 is \xff\xfe\xff\xfe", b""),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_changed_byte_of_a_memory_is_seen_and_not_hidden(
    bank: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    edit(bank, *EDITS[what])
    with open_bank(bank, read_only=True) as reader:
        assert any("memory 7: damaged" in problem for problem in reader.verify().problems), reader.verify().problems
    with open_bank(bank) as opened:
        assert any("memory 7: damaged" in problem for problem in opened.verify().problems)
        with pytest.raises(BankCorruptError, match=r"memory 7.*hide"):
            opened.rebuild_indexes()
        with pytest.raises(BankCorruptError):
            opened.get(7)
        if what != "namespace":
            with pytest.raises(BankCorruptError, match=r"membank verify|Keep a copy"):
                opened.recall("harbour number 400", namespace="aaaa")
        assert opened.get(1).text == FACTS[0]
    done = Membank(bank, capsys)("verify")
    assert done.code == 1 and "memory 7" in done.err + done.out
    # given up, all is well again
    with open_bank(bank) as opened:
        opened.forget(7)
        opened.rebuild_indexes()
        assert opened.verify().ok, opened.verify().problems
        assert texts(opened.recall("Where does my sister Ana live?", 1, namespace="aaaa")) == [FACTS[0]]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE memories SET created_at = created_at + 1 WHERE id = 7",
        "UPDATE memories SET pinned = 1 WHERE id = 7",
        "UPDATE memories SET expires_at = 5 WHERE id = 7",
        "UPDATE memories SET speaker = 'Ana' WHERE id = 7",
        "UPDATE memories SET asks = 1 WHERE id = 7",
        "UPDATE memories SET seen = 9 WHERE id = 7",
        "UPDATE memories SET text_hash = zeroblob(32) WHERE id = 7",
        "UPDATE memories SET checksum = NULL WHERE id = 7",
    ],
)
def test_every_field_of_a_memory_is_checked(bank: Path, statement: str) -> None:
    change(bank, statement)
    with open_bank(bank) as opened:
        assert any("memory 7: damaged" in problem for problem in opened.verify().problems)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE passages SET start = start + 1 WHERE id = (SELECT min(id) FROM passages)", "passage"),
        ("UPDATE meta SET value = replace(value, 'mock', 'mick') WHERE key = 'model'", "record model"),
        ("UPDATE memories SET slot = 0 WHERE id = 7", "references counted"),
        ("UPDATE pointers SET digest = zeroblob(32) WHERE slot = 1", "another digest"),
        ("UPDATE pointers SET level2 = level1 WHERE slot = 1", "slot 1, level 2"),
    ],
)
def test_every_other_row_is_checked(bank: Path, statement: str, found: str) -> None:
    with open_bank(bank) as opened:
        opened.ingest(" ".join(f"sentence number {n} is about the river." for n in range(200)), namespace="aaaa")
    change(bank, statement)
    for read_only in (False, True):
        try:
            with open_bank(bank, read_only=read_only) as opened:
                problems = " ".join(opened.verify().problems)
        except BankCorruptError as exc:
            assert "model" in str(exc) and "record" in str(exc)
        else:
            assert found in problems


def test_what_changes_rightly_keeps_its_checksum(bank: Path) -> None:
    with open_bank(bank) as opened:
        opened.pin(7)
        opened.ingest_many([TOLD, NewMemory(TOLD.text, namespace="aaaa", expires_at=4e9, created_at=-0.0)])
        opened.ingest_many([NewMemory("whole", created_at=5, expires_at=4 * 10**9), NewMemory("ünïcode \u2028 ☂ 🌂")])
        assert opened.verify().ok, opened.verify().problems
        assert opened.get(7).pinned


def test_told_again_a_damaged_memory_stays_damaged(bank: Path) -> None:
    change(bank, "UPDATE memories SET role = 'root' WHERE id = 7")
    with open_bank(bank) as opened:
        opened.ingest_many([TOLD])
        assert any("memory 7: damaged" in problem for problem in opened.verify().problems)
        with pytest.raises(BankCorruptError):
            opened.pin(7)


def test_what_was_damaged_before_there_were_checksums_gets_none(tmp_path: Path) -> None:
    with open_bank(tmp_path) as opened:
        opened.ingest_many(FACTS)
    as_format(tmp_path, 3)
    edit(tmp_path, b"rye flour", b"rye flower"[:9])
    with open_bank(tmp_path) as opened:
        assert [p for p in opened.verify().problems if p.startswith("memory 3: damaged")]
        assert opened.get(1).text == FACTS[0]


def test_words_that_are_not_those_of_the_memories_are_seen_by_a_reader_too(bank: Path) -> None:
    with contextlib.closing(sqlite3.connect(bank / "bank.sqlite", isolation_level=None)) as raw:
        if raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'postings'").fetchone():
            raw.execute("DELETE FROM postings WHERE memory_id = 1")
        else:
            raw.execute("INSERT INTO memories_fts (memories_fts, rowid, text) VALUES ('delete', 1, ?)", (FACTS[0],))
    with open_bank(bank, read_only=True) as reader:
        assert any("does not match the memories" in problem for problem in reader.verify().problems)
    with open_bank(bank) as opened:
        opened.rebuild_indexes()
        with open_bank(bank, read_only=True) as reader:
            assert reader.verify().ok


# -- a database that is gone


@pytest.mark.parametrize("how", ["missing", "empty", "begun anew"])
def test_a_lost_database_beside_activations_is_refused_and_nothing_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    path = make_bank(tmp_path / "bank", 20)
    database = path / "bank.sqlite"
    database.unlink()
    if how == "empty":
        database.touch()
    if how == "begun anew":
        (path / NOTE).unlink()
        with contextlib.closing(sqlite3.connect(database)) as raw:
            raw.execute("PRAGMA journal_mode = WAL").fetchone()
    before = everything(path)
    for options in ({}, {"repair": True}):
        with pytest.raises(BankCorruptError, match=r"holds activations-1.bin.*missing or empty.*Restore"):
            open_bank(path, **options)
    with pytest.raises((BankCorruptError, BankNotFoundError)):
        open_bank(path, read_only=True)
    for command in (("stats",), ("gc",), ("recall", "sister")):
        assert Membank(path, capsys)(*command).code == 1
    after = everything(path)
    assert {name: after.get(name) for name in before if name != "bank.sqlite"} == {
        name: data for name, data in before.items() if name != "bank.sqlite"
    }


def test_a_bank_that_was_only_begun_is_begun_again(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    (tmp_path / "bank.sqlite").write_bytes(b"")
    with pytest.raises(BankCorruptError, match="newest memories"):
        # it says that something was stored
        (tmp_path / NOTE).write_bytes(b"generation 00000000000000000007 %08x\n" % zlib.crc32(b"00000000000000000007"))
        open_store(tmp_path)
    (tmp_path / NOTE).unlink()
    open_store(tmp_path).close()


# -- newest writes that are gone


def copied_while_open(bank: Path, copy: Path, count: int = 30) -> Path:
    """A copy of a bank whose newest memories are in its write-ahead log alone."""
    with open_bank(bank) as opened:
        opened.ingest_many(numbered(count))
        return copy_of(bank, copy)


def test_a_copy_with_its_log_is_whole(bank: Path, tmp_path: Path) -> None:
    copy = copied_while_open(bank, tmp_path / "copy")
    with open_bank(copy) as opened:
        assert len(list(opened.memories())) == 37
        assert opened.verify().ok


@pytest.mark.parametrize("damage", ["lost", "empty", "cut", "changed"])
@pytest.mark.parametrize("read_only", [False, True])
def test_newest_writes_that_are_gone_are_noticed(bank: Path, tmp_path: Path, damage: str, read_only: bool) -> None:
    copy = copied_while_open(bank, tmp_path / "copy")
    log = copy / "bank.sqlite-wal"
    data = log.read_bytes()
    if damage == "lost":
        log.unlink()
    else:
        changed = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
        log.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "changed": changed}[damage])
    (copy / "bank.sqlite-shm").unlink()
    with pytest.raises(BankCorruptError, match=r"has lost its newest memories.*delete .*bank\.note"):
        open_bank(copy, read_only=read_only)
    # the person decides
    (copy / NOTE).unlink()
    with open_bank(copy) as opened:
        assert texts(opened.recall("Where does my sister Ana live?", 1, namespace="aaaa")) == [FACTS[0]]


def test_an_older_database_in_its_place_is_noticed(bank: Path, tmp_path: Path) -> None:
    shutil.copy(bank / "bank.sqlite", tmp_path / "older")
    with open_bank(bank) as opened:
        opened.ingest("One more.")
    shutil.copy(tmp_path / "older", bank / "bank.sqlite")
    with pytest.raises(BankCorruptError, match="newest memories"):
        open_bank(bank)


@pytest.mark.parametrize(
    "note", [b"", b"generation", b"generation 00000000000000000099 00000000\n", b"\xff" * 64, b"x" * 999]
)
def test_a_note_that_is_damaged_or_gone_refuses_nothing(bank: Path, note: bytes) -> None:
    for write in (lambda: (bank / NOTE).write_bytes(note), lambda: (bank / NOTE).unlink()):
        write()
        with open_bank(bank) as opened:
            assert opened.verify().ok
            opened.ingest("It is written anew.")


def test_a_note_that_cannot_be_written_costs_no_memory(bank: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_bank(bank) as opened, caplog.at_level(logging.WARNING):
        (bank / NOTE).unlink()
        (bank / NOTE).mkdir()
        opened.ingest("Stored all the same.")
        opened.ingest("This too.")
        assert len(list(opened.memories())) == 9
    assert len([line for line in caplog.messages if NOTE in line]) == 1
    (bank / NOTE).rmdir()


# -- the lock


@pytest.mark.skipif(os.name == "nt", reason="a file in use cannot be deleted there")
def test_a_deleted_lock_file_lets_no_second_writer_in(bank: Path) -> None:
    with open_bank(bank):
        (bank / "writer.lock").unlink()
        for _ in range(2):
            with pytest.raises(BankLockedError):
                open_bank(bank)
    open_bank(bank).close()


def test_a_page_that_holds_a_row_twice_and_another_no_more(tmp_path: Path) -> None:
    """Every row that is left matches its checksum, and one is missing."""
    with open_bank(tmp_path) as bank:
        bank.ingest_many(numbered(60))
    path = tmp_path / "bank.sqlite"
    data = bytearray(path.read_bytes())
    leaf = next(at for at in range(4096, len(data), 4096) if data[at] == 13 and b"note 7: the" in data[at : at + 4096])
    data[leaf + 10 : leaf + 12] = data[leaf + 8 : leaf + 10]
    path.write_bytes(data)
    with open_bank(tmp_path) as bank:
        found = [problem for problem in bank.verify().problems if problem.startswith("database: ")]
        assert found and all("\n" not in one and "***" not in one for one in found), "a line each"
        with pytest.raises(BankError):
            bank.rebuild_indexes()
        assert not bank.verify().ok, "and it is not hidden"
