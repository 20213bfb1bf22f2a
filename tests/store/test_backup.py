"""Backups of a bank that is written meanwhile: whole or not there, and nothing of the bank is lost for them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.banks import FACTS, files_with, numbered, open_bank, python
from support.token_adapter import TokenMockAdapter

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import BankCorruptError, BankLockedError, BankStorageError, InvalidInputError
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.transcript_file import ChatTranscript
from membank_llama.store.maintenance import bank_copy
from membank_llama.store.maintenance.backup_directory import BACKUP_NOTE, BackupDirectory, check_room
from membank_llama.store.maintenance.copied_vectors import CopiedVectors

WRITER = """
    import sys
    from support.banks import numbered, open_bank
    with open_bank(__import__("pathlib").Path(sys.argv[1])) as bank:
        at = 1000
        for _ in iter(int, 1):
            for stored in bank.ingest_many(numbered(4, start=at)):
                print(stored.memory_id, flush=True)
            at += 4
"""


def held(path: Path) -> list[str]:
    with MemBank(None, path, read_only=True) as bank:
        return [memory.text for memory in bank.memories()]


def entries(dest: Path) -> list[str]:
    return sorted(path.name for path in dest.iterdir() if path.is_dir())


def between(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any], times: int = 1) -> None:
    """Have something done after the database was copied and before its activations are."""
    left, copy_file = [times], bank_copy.copy_file

    def copying(source: Path, *rest: Any) -> None:
        if source.name.startswith("activations") and left[0]:
            left[0] -= 1
            work()
        copy_file(source, *rest)

    monkeypatch.setattr(bank_copy, "copy_file", copying)


def test_what_another_process_writes_meanwhile_is_whole_and_nothing_waits_or_is_lost(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many(numbered(300))
    with python(WRITER, tmp_path / "bank") as child:
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(40)]
        with MemBank(None, tmp_path / "bank", read_only=True) as bank:
            made = [bank.backup(tmp_path / "backups") for _ in range(3)]
        child.kill()
        rest = [int(line) for line in child.communicate()[0].split()]
    for report in made:
        with open_bank(report.path) as copy:
            ids = [memory.id for memory in copy.memories()]
            assert copy.verify().ok
            assert report.memories == len(ids) == max(ids)
            assert set(told) <= set(ids)
            # ids that are given after a backup was gone on with are found like any other
            stored = copy.ingest("The harbour master keeps the blue key.")
            assert copy.recall("Who keeps the blue key?", 1)[0].memory_id == stored.memory_id
    with open_bank(tmp_path / "bank") as bank:
        assert bank.exists(told + rest) == set(told + rest)
        assert bank.verify().ok


def test_what_is_forgotten_while_it_is_copied_is_not_in_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bank(tmp_path / "bank") as bank:
        secret = bank.ingest("The zanzibarquux is buried under the willow.")
        bank.ingest_many(FACTS)
        bank.flush()
        between(monkeypatch, lambda: (bank.forget(secret.memory_id), bank.ingest("The lamp is new.")))
        made = bank.backup(tmp_path / "backups")
    assert files_with(tmp_path / "backups", b"zanzibarquux") == []
    assert held(made.path) == [*FACTS, "The lamp is new."]


def test_files_that_are_switched_while_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_bank(tmp_path / "bank") as bank:
        gone = bank.ingest("The first one.")
        bank.ingest_many(FACTS)
        bank.forget(gone.memory_id)
        between(monkeypatch, bank.gc)
        made = bank.backup(tmp_path / "backups")
        assert (made.path / bank.store.activations).exists()
    assert held(made.path) == list(FACTS)


@pytest.mark.parametrize("times", [3, 999])
def test_a_moment_in_which_lifetimes_changed_is_not_the_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    left, follow = [times], CopiedVectors.follow

    def following(self: CopiedVectors) -> None:
        follow(self)
        if left[0]:
            left[0] -= 1
            thread = threading.Thread(target=lambda: (bank.pin(1), bank.ingest(f"Told at {left[0]}.")))
            thread.start()
            thread.join()

    monkeypatch.setattr(CopiedVectors, "follow", following)
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many(FACTS)
        if times > 99:
            with pytest.raises(BankStorageError, match="Try again when that is over"):
                bank.backup(tmp_path / "backups")
            assert entries(tmp_path / "backups") == []
        else:
            assert held(bank.backup(tmp_path / "backups").path) == [memory.text for memory in bank.memories()]


def test_files_that_are_switched_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_bank(tmp_path / "bank") as bank:
        ids = [stored.memory_id for stored in bank.ingest_many(numbered(30))]
        between(monkeypatch, lambda: (bank.forget(ids.pop()), bank.gc()), times=99)
        with pytest.raises(BankStorageError, match="Try again when that is over"):
            bank.backup(tmp_path / "backups")
    assert entries(tmp_path / "backups") == []


def test_a_damaged_bank_is_not_backed_up_and_says_why(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many(FACTS)
        kept = bank.backup(tmp_path / "backups", keep=1)
        with bank.store.buffer.path.open("r+b") as file:
            file.seek(bank.store.buffer.offset(2) + 5)
            file.write(b"\xff\x00\xff\x00")
        with pytest.raises(BankCorruptError, match=r"slot 2, level 0.*Earlier backups are kept"):
            bank.backup(tmp_path / "backups", keep=1)
    assert entries(tmp_path / "backups") == [kept.path.name]


def test_a_backup_is_private_and_holds_what_belongs_to_it(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many(FACTS)
        bank.flush()
        turns = ({"role": "user", "content": FACTS[0]}, {"role": "assistant", "content": "Good."})
        bank.chats.save(ChatTranscript("evening", "default", "a model", 1.0, 2.0, turns, {}))
        (tmp_path / "bank" / "kv" / "owner").mkdir(parents=True)
        (tmp_path / "bank" / "kv" / "owner" / "0-4-x.kv").write_bytes(b"state")
        (tmp_path / "bank" / "chat-history").write_text("typed\n", encoding="utf-8")
        made = bank.backup(tmp_path / "backups")
    files = sorted(path.relative_to(made.path).as_posix() for path in made.path.rglob("*") if path.is_file())
    graph = next(path.stem for path in (tmp_path / "bank" / "index").glob("*.hnsw"))
    graphs = [f"index/{graph}.hnsw", f"index/{graph}.json"]
    fixed = ["activations-1.bin", BACKUP_NOTE, "bank.note", "bank.sqlite", "chat-history", "chats/evening.json"]
    assert files == sorted([*fixed, *graphs])
    assert made.nbytes == sum((made.path / name).stat().st_size for name in files)
    if sys.platform != "win32":
        modes = {path.stat().st_mode & 0o777 for path in made.path.rglob("*") if path.is_file()}
        assert modes == {0o600}
        assert {path.stat().st_mode & 0o777 for path in (made.path, made.path / "index")} == {0o700}


def test_a_move_that_is_under_way_stays_behind(tmp_path: Path) -> None:
    class Failing(MockAdapter):
        def encode_batch(self, texts: Any) -> Any:
            if "note 40" in texts[0] or any("note 40" in text for text in texts):
                raise KeyboardInterrupt
            return super().encode_batch(texts)

    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many(numbered(60))
    with open_bank(tmp_path / "bank", repair=True) as bank:
        with pytest.raises(KeyboardInterrupt):
            bank.reencode(Failing(32))
        made = bank.backup(tmp_path / "backups")
        assert len(list((tmp_path / "bank").glob("activations-*.bin"))) == 2
    with MemBank(MockAdapter(32), made.path, repair=True) as copy:
        assert copy.reencode() == 60
        assert copy.verify().ok


def test_the_newest_stay_and_nothing_else_is_touched(tmp_path: Path) -> None:
    dest = tmp_path / "backups"
    (dest / "bank-20200101-000000").mkdir(parents=True)
    (dest / "bank-20200101-000000" / "mine.txt").write_text("no backup", encoding="utf-8")
    (dest / ".bank-20200101-000000.part").mkdir()
    (dest / ".bank-20200101-000000.part" / "mine.txt").write_text("no backup", encoding="utf-8")
    with open_bank(tmp_path / "other" / "bank") as bank:
        bank.ingest(FACTS[0])
        other = bank.backup(dest)
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many(FACTS)
        made = [bank.backup(dest, keep=2) for _ in range(4)]
        with pytest.raises(InvalidInputError, match="keep 1 backup or more"):
            bank.backup(dest, keep=0)
    assert [report.removed for report in made] == [(), (), (made[0].path,), (made[1].path,)]
    kept = ["bank-20200101-000000", ".bank-20200101-000000.part", other.path.name, *(one.path.name for one in made[2:])]
    assert entries(dest) == sorted(kept)


KILLED = """
    import sys
    from pathlib import Path
    from membank_llama.memory.bank import MemBank
    from membank_llama.store.maintenance import bank_copy
    copy_file = bank_copy.copy_file
    def copying(source, *rest):
        copy_file(source, *rest)
        if source.name.startswith("activations"):
            print("now", flush=True)
            sys.stdin.read()
    bank_copy.copy_file = copying
    with MemBank(None, sys.argv[1], read_only=True) as bank:
        bank.backup(sys.argv[2])
"""


def test_killed_in_the_middle_nothing_passes_for_a_backup_and_the_next_one_clears_it(tmp_path: Path) -> None:
    dest = tmp_path / "backups"
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many(FACTS)
        with python(KILLED, tmp_path / "bank", dest) as child:
            assert child.stdout is not None and child.stdout.readline() == "now\n"
            with pytest.raises(BankLockedError, match="another backup into"):
                bank.backup(dest)
            child.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
            child.wait()
        (left,) = entries(dest)
        assert left.startswith(".bank-") and BackupDirectory(dest).backups() == []
        made = bank.backup(dest)
    assert entries(dest) == [made.path.name]
    assert held(made.path) == list(FACTS)


def test_places_where_no_backup_can_be(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest(FACTS[0])
        with pytest.raises(InvalidInputError, match="lies in the bank itself"):
            bank.backup(tmp_path / "bank" / "backups")
        (tmp_path / "file").write_text("", encoding="utf-8")
        with pytest.raises(BankStorageError, match="cannot write below"):
            bank.backup(tmp_path / "file")
        with pytest.raises(BankStorageError, match=r"are needed at .* are left free; there are"):
            check_room(tmp_path, shutil.disk_usage(tmp_path).free)
    assert not (tmp_path / "bank" / "backups").exists()


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_a_note_that_lies_makes_nothing_ours(tmp_path: Path) -> None:
    dest = tmp_path / "backups"
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest(FACTS[0])
        made = bank.backup(dest)
        elsewhere = tmp_path / "elsewhere"
        shutil.copytree(made.path, elsewhere)
        (dest / "bank-20200101-000000").symlink_to(elsewhere)
        for at, text in ((1, "[]"), (2, "{}"), (3, json.dumps({"format": 2})), (4, "\0" * 99)):
            (dest / f"bank-20200101-00000{at}").mkdir()
            (dest / f"bank-20200101-00000{at}" / BACKUP_NOTE).write_text(text, encoding="utf-8")
        again = bank.backup(dest, keep=1)
    assert again.removed == (made.path,)
    assert len(entries(dest)) == 6
    assert held(elsewhere) == [FACTS[0]]


def test_namespaces_and_tokens_come_along(tmp_path: Path) -> None:
    with MemBank(TokenMockAdapter(32), tmp_path / "bank") as bank:
        bank.ingest_many([NewMemory(fact, namespace=name) for fact in FACTS for name in ("work", "größe")])
        made = bank.backup(tmp_path / "backups")
    with MemBank(TokenMockAdapter(32), made.path) as copy:
        assert copy.stats()["namespaces"] == {"größe": len(FACTS), "work": len(FACTS)}
        assert copy.keeps_tokens and copy.verify().ok
