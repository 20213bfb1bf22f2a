"""A bank out of a backup: verified before it is in its place, and what was there is never deleted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.banks import FACTS, as_format, open_bank

from membank_llama.core.errors import BankCorruptError, BankFormatError, BankLockedError, InvalidInputError
from membank_llama.memory.bank import MemBank
from membank_llama.store.maintenance.backup_directory import BACKUP_NOTE
from membank_llama.store.maintenance.restore import restore_backup


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many(FACTS)
        bank.flush()
        made = bank.backup(tmp_path / "backups").path
        bank.ingest("Told after the backup.")
    return made


def held(path: Path) -> list[str]:
    with MemBank(None, path, read_only=True) as bank:
        return [memory.text for memory in bank.memories()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_into_a_new_place(tmp_path: Path, backup: Path) -> None:
    made = restore_backup(backup, tmp_path / "with spaces" / "new")
    assert (made.path, made.memories, made.set_aside) == (tmp_path / "with spaces" / "new", len(FACTS), None)
    assert held(made.path) == list(FACTS)
    assert BACKUP_NOTE not in names(made.path)
    with open_bank(made.path) as bank:
        bank.ingest("Told to the restored one.")
        assert bank.verify().ok
    # an empty directory is a place too
    (tmp_path / "empty").mkdir()
    assert held(restore_backup(backup, tmp_path / "empty").path) == list(FACTS)


def test_over_a_bank_only_by_force_and_the_old_one_is_kept(tmp_path: Path, backup: Path) -> None:
    bank = tmp_path / "bank"
    with pytest.raises(InvalidInputError, match="--force"):
        restore_backup(backup, bank)
    made = restore_backup(backup, bank, force=True)
    assert held(bank) == list(FACTS)
    assert made.set_aside is not None
    assert held(made.set_aside) == [*FACTS, "Told after the backup."]
    again = restore_backup(backup, bank, force=True)
    assert again.set_aside not in (None, made.set_aside)


@pytest.mark.skipif(os.name == "nt", reason="links there are for administrators")
@pytest.mark.parametrize("there", ["bank", "empty", "nothing"])
def test_a_link_to_another_disk_stays_one(tmp_path: Path, backup: Path, there: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if there == "bank":
        (tmp_path / "bank").rename(disk / "bank")
    elif there == "empty":
        (disk / "bank").mkdir()
    link = tmp_path / "link"
    link.symlink_to(disk / "bank")
    made = restore_backup(backup, link, force=True)
    assert made.path == (disk / "bank").resolve() and link.is_symlink()
    assert held(link) == list(FACTS)
    assert (made.set_aside is not None) == (there == "bank")


def test_a_damaged_backup_changes_nothing(tmp_path: Path, backup: Path) -> None:
    with (backup / "activations-1.bin").open("r+b") as file:
        file.seek(4096 + 9)
        file.write(b"\xff\x00\xff")
    before = names(tmp_path)
    with pytest.raises(BankCorruptError, match="was not restored"):
        restore_backup(backup, tmp_path / "bank", force=True)
    (backup / "activations-1.bin").unlink()
    with pytest.raises(BankCorruptError, match="was not restored") as refused:
        restore_backup(backup, tmp_path / "new")
    assert ".part" not in str(refused.value), "what is wrong is where the backup lies, not in a copy that is gone"
    assert names(tmp_path) == before
    assert held(tmp_path / "bank") == [*FACTS, "Told after the backup."]


def test_a_bank_that_is_written_is_left_alone(tmp_path: Path, backup: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        with pytest.raises(BankLockedError):
            restore_backup(backup, tmp_path / "bank", force=True)
        bank.ingest("Still the same one.")
    assert len(held(tmp_path / "bank")) == len(FACTS) + 2


def test_what_is_no_backup_or_no_place(tmp_path: Path, backup: Path) -> None:
    with pytest.raises(InvalidInputError, match=f"the newest is .*{backup.name}"):
        restore_backup(backup.parent, tmp_path / "new")
    with pytest.raises(InvalidInputError, match="no backup"):
        restore_backup(tmp_path / "bank", tmp_path / "new")
    with pytest.raises(InvalidInputError, match="lie in each other"):
        restore_backup(backup, backup / "inside", force=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("Dear Ana", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="is no bank and is left alone"):
        restore_backup(backup, tmp_path / "letters", force=True)
    (backup / "bank.note").unlink()
    (backup / "bank.note").symlink_to(tmp_path / "letters" / "a.txt")
    with pytest.raises(BankFormatError, match="no plain file"):
        restore_backup(backup, tmp_path / "new")
    assert names(tmp_path) == ["backups", "bank", "letters"]


def test_a_backup_of_an_earlier_format_is_brought_up_to_date(tmp_path: Path, backup: Path) -> None:
    as_format(backup, 4)
    made = restore_backup(backup, tmp_path / "new")
    assert held(made.path) == list(FACTS)
