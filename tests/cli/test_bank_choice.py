"""Which bank a command takes where nobody names one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import platformdirs
import pytest
from support.banks import open_bank
from support.terminals import Outcome, membank

from membank_llama.cli import app, terminal
from membank_llama.memory.bank import MemBank


class Home:
    """A user's data directory, and commands that name no bank."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def bank(self, name: str, text: str, used: float) -> Path:
        """A bank of this name that holds a text and was used last at this moment."""
        path = self.folder / name
        with open_bank(path) as bank:
            bank.ingest(text)
        self.used(path, used)
        return path

    def used(self, path: Path, when: float) -> None:
        for entry in path.iterdir():
            os.utime(entry, (when, when))

    def __call__(self, *args: object) -> Outcome:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main([*map(str, args)])
        shown = self._capsys.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), shown.out, shown.err)


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("MEMBANK_BANK", raising=False)
    monkeypatch.setattr(platformdirs, "user_data_path", lambda *_, **__: tmp_path / "data")
    return Home(tmp_path / "data", capsys)


LOOKING = (
    ["recall", "Porto"], ["why", "Porto"], ["stats"], ["verify"], ["gc"], ["rebuild"], ["export", "-"], ["pin", "1"],
    ["unpin", "1"], ["kv", "ls"], ["kv", "gc"], ["kv", "verify"],
)  # fmt: skip


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_the_only_bank_is_taken_and_named(home: Home, command: list[str]) -> None:
    path = home.bank("recall-tiny", "Ana lives in Porto.", 1e9)
    done = home(*command)
    assert done.code == 0, done.err
    assert f"using the bank {path}" in done.err.replace("\n", "")


def test_the_default_bank_goes_before_others_that_were_used_later(home: Home) -> None:
    home.bank("default", "Ana lives in Porto.", 1e9)
    home.bank("recall-tiny", "Bruno lives in Faro.", 2e9)
    done = home("recall", "lives", "--json")
    assert [row["text"] for row in json.loads(done.out)] == ["Ana lives in Porto."]
    assert "using the bank" not in done.err


def test_a_person_hears_that_another_was_used_later(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.bank("default", "Ana lives in Porto.", 1e9)
    home.bank("recall-tiny", "Bruno lives in Faro.", 2e9)
    monkeypatch.setattr(terminal.err, "_force_terminal", True)
    assert "recall-tiny was used later" in home("stats").err.replace("\n", " ")


def test_of_several_the_one_used_last_is_taken_and_the_others_named(home: Home) -> None:
    home.bank("old", "Ana lives in Porto.", 1e9)
    home.bank("recall-tiny", "Bruno lives in Faro.", 1.5e9)
    (home.folder / "models").mkdir()
    (home.folder / "a file").write_bytes(b"")
    done = home("recall", "lives", "--json")
    assert [row["text"] for row in json.loads(done.out)] == ["Bruno lives in Faro."]
    said = done.err.replace("\n", " ")
    assert "recall-tiny, used last" in said and "old" in said and "--bank" in said and "models" not in said


def test_nothing_is_forgotten_for_a_program_in_a_bank_that_could_be_another(home: Home) -> None:
    home.bank("old", "Ana lives in Porto.", 1e9)
    newest = home.bank("recall-tiny", "Bruno lives in Faro.", 1.5e9)
    for command in (["forget", "1"], ["forget", "--before", "0s", "--yes"]):
        done = home(*command)
        assert done.code == 2, done.err
        assert "several banks" in done.err and "--bank" in done.err and "old" in done.err
    with MemBank(None, newest, read_only=True) as bank:
        assert bank.count() == 1
    assert home("forget", "1", "--bank", newest).code == 0


def test_the_only_bank_can_be_forgotten_from(home: Home) -> None:
    path = home.bank("recall-tiny", "Ana lives in Porto.", 1e9)
    done = home("forget", "1")
    assert done.code == 0 and str(path) in done.err.replace("\n", "")


def test_what_is_named_is_never_another(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.bank("recall-tiny", "Ana lives in Porto.", 1e9)
    for arguments in (["stats", "--bank", tmp_path / "x"], ["--bank", tmp_path / "x", "stats"]):
        assert "there is no bank at" in home(*arguments).err
    monkeypatch.setenv("MEMBANK_BANK", str(tmp_path / "y"))
    assert "there is no bank at" in home("stats").err


def test_without_any_the_error_says_what_to_do(home: Home) -> None:
    done = home("recall", "Porto")
    assert done.code == 1
    said = done.err.replace("\n", " ")
    assert "membank chat" in said and "membank ingest" in said and "--bank" in said
    assert not home.folder.exists()


def test_a_new_model_gets_a_bank_of_its_own(home: Home, tmp_path: Path, tiny_gguf: Path) -> None:
    home.bank("recall-tiny", "Ana lives in Porto.", 1e9)
    note = tmp_path / "a.txt"
    note.write_text("The lamp is green.", encoding="utf-8")
    assert home("ingest", note, "--model", tiny_gguf, "--threads", 1).code == 0
    with MemBank(None, home.folder / "default", read_only=True) as bank:
        assert [memory.text for memory in bank.memories()] == ["The lamp is green."]


def test_a_copy_is_restored_as_the_default_bank(home: Home, tmp_path: Path) -> None:
    toy = home.bank("recall-tiny", "Ana lives in Porto.", 1e9)
    assert home("backup", tmp_path / "copies").code == 0
    (copy,) = (path for path in (tmp_path / "copies").rglob("bank.sqlite"))
    assert home("restore", copy.parent).code == 0
    with MemBank(None, home.folder / "default", read_only=True) as bank:
        assert bank.count() == 1
    assert (toy / "bank.sqlite").is_file()


@pytest.mark.skipif(os.name == "nt", reason="the data directory is not named by the environment there")
def test_what_the_toy_was_told_is_there_for_every_command(tmp_path: Path, recall_tiny: Path) -> None:
    data = {"XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)}
    told = membank("chat", "--threads", 1, stdin="My sister is called Ilse.\n", **data)
    assert told.code == 0, told.err
    found = membank("recall", "What is my sister called?", "--threads", 1, **data)
    assert "Ilse" in found.out, found.err
    (tmp_path / "note.txt").write_text("My brother is called Anton.", encoding="utf-8")
    more = membank("ingest", tmp_path / "note.txt", "--threads", 1, **data)
    assert more.code == 0, more.err
    assert "recall-tiny" in more.err.replace("\n", "")
    # what agents tell goes where a server would look for it
    assert "using the bank" not in membank("mcp", **data).err
