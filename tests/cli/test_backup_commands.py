"""`membank backup` and `restore`: what they say, how they end, and that they need no bank that is closed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.banks import FACTS, open_bank
from support.terminals import Membank

from membank_llama.memory.bank import MemBank


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Membank:
    monkeypatch.delenv("MEMBANK_BANK", raising=False)
    # the tests that come after are of the same process
    monkeypatch.setattr("os.nice", lambda _: 0, raising=False)
    return Membank(tmp_path / "bank", capsys)


def held(path: Path) -> list[str]:
    with MemBank(None, path, read_only=True) as bank:
        return [memory.text for memory in bank.memories()]


def test_beside_an_open_bank_and_back(mb: Membank, tmp_path: Path) -> None:
    with open_bank(mb.bank) as bank:
        bank.ingest_many(FACTS)
        made = json.loads(mb("backup", tmp_path / "copies", "--json").out)
        assert (made["memories"], made["checked"], made["removed"]) == (6, 6, [])
        bank.ingest("Told after the backup.")
        shown = mb("backup", tmp_path / "copies", "--keep", "1")
        assert shown.code == 0 and shown.out.startswith("● 7 memories, ") and "verified" in shown.out
        assert "1 older backup deleted" in shown.err
        (copy,) = (path for path in (tmp_path / "copies").iterdir() if path.is_dir())
        locked = mb("restore", copy, "--force")
        assert locked.code == 1 and "is being written by process" in locked.err
    refused = mb("restore", copy)
    assert refused.code == 2 and "--force" in refused.err
    done = mb("restore", copy, "--force", "--json")
    told = json.loads(done.out)
    assert done.code == 0 and told["memories"] == 7 and held(Path(told["set_aside"])) == held(mb.bank)
    elsewhere = mb("restore", copy, "--bank", tmp_path / "new place")
    assert elsewhere.code == 0 and "7 memories restored and verified" in elsewhere.out
    assert held(tmp_path / "new place") == [*FACTS, "Told after the backup."]


def test_what_cannot_be_done_is_said(mb: Membank, tmp_path: Path) -> None:
    missing = mb("backup", tmp_path / "copies")
    assert missing.code == 1 and "there is no bank" in missing.err
    assert not (tmp_path / "copies").exists()
    assert "there is no directory" in mb("restore", tmp_path / "copies").err
    with open_bank(mb.bank) as bank:
        bank.ingest_many(FACTS)
        damaged = bank.store.buffer.path
        offset = bank.store.buffer.offset(3)
    with damaged.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff\xff")
    refused = mb("backup", tmp_path / "copies")
    assert refused.code == 1 and "is damaged and was not backed up" in refused.err
    assert [path.name for path in (tmp_path / "copies").iterdir() if path.is_dir()] == []
