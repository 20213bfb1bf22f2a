"""Output to a terminal or pipe whose code page lacks letters: a command does its work, says so and ends with 0."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.terminals import environment

from membank_llama.cli import app, health_checks
from membank_llama.cli.health_table import HealthCheck
from membank_llama.memory.bank import MemBank

TEXT = "Der Hund heißt 🐙 Ψ.\x9b31m\u202e"


@pytest.fixture
def bank(tmp_path: Path, recall_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "n.jsonl").write_text(json.dumps({"text": TEXT}) + "\n", encoding="utf-8")
    run(monkeypatch, "utf-8", "import", tmp_path / "n.jsonl", "--bank", tmp_path / "bank", "--model", recall_tiny)
    return tmp_path / "bank"


def run(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: object) -> tuple[str, str]:
    out, err = io.BytesIO(), io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding))
        patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=encoding))
        with pytest.raises(SystemExit) as ended:
            app.main([str(argument) for argument in arguments])
        sys.stdout.flush()
        sys.stderr.flush()
        assert ended.value.code in (0, None), err.getvalue()
        return out.getvalue().decode(encoding), err.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_every_command_does_its_work(bank: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setattr(health_checks, "ENGINES", {})
    monkeypatch.setattr(health_checks, "build_check", lambda: HealthCheck("installed", "llama.cpp", "Ψ"))
    folder = bank.parent / "Sicherung 🐙 Ψ"
    for command in (
        ["recall", "Hund"], ["why", "Hund"], ["verify"], ["stats"], ["gc"], ["pin", "1"], ["unpin", "1"], ["kv", "ls"],
        ["kv", "gc"], ["kv", "verify"], ["rebuild"], ["doctor"], ["backup", folder, "--keep", "1"],
        ["correct", "1", f"{TEXT} Und zwar laut."], ["export", folder / "all.jsonl"],
    ):  # fmt: skip
        out, err = run(monkeypatch, encoding, *command, "--bank", bank)
        assert out.strip() + err.strip()
    found = json.loads(run(monkeypatch, encoding, "recall", "Hund", "--json", "--bank", bank)[0])
    assert found[0]["text"] == f"{TEXT} Und zwar laut."
    (backup,) = (path for path in folder.iterdir() if path.is_dir())
    run(monkeypatch, encoding, "restore", backup, "--bank", bank, "--force")
    run(monkeypatch, encoding, "import", folder / "all.jsonl", "--bank", bank)
    assert kept(bank) == [TEXT, f"{TEXT} Und zwar laut."]
    assert run(monkeypatch, encoding, "forget", "1", "--yes", "--bank", bank)
    assert kept(bank) == [f"{TEXT} Und zwar laut."]


def kept(bank: Path) -> list[str]:
    with MemBank(None, bank, read_only=True) as opened:
        return [memory.text for memory in opened.memories()]


def test_what_is_told_by_a_file_or_a_pipe_is_kept_letter_by_letter(tmp_path: Path, recall_tiny: Path) -> None:
    """Each a process of its own, as a shell starts it, in a directory with spaces and letters the code page lacks."""
    encoding = "cp1252"
    folder = tmp_path / "Mein Ordner für Ψ"
    folder.mkdir()
    (folder / "Notiz 🐙.txt").write_text(TEXT, encoding="utf-8")
    given = {"PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    there, model = ["--bank", folder / "Bänke 1"], ["--model", recall_tiny, "--threads", "1"]
    for command, typed in (
        (["ingest", folder / "Notiz 🐙.txt", *model], None),
        (["recall", "Hund"], None),
        (["chat", recall_tiny, "--threads", "1"], "My cat is called Zoe.\n/why\n/help\n"),
        (["gc"], None),
        (["forget", "1", "--yes"], None),
        (["verify"], None),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "membank_llama", *map(str, [*command, *there])],
            input=(typed or "").encode(), capture_output=True, env=environment(**given), timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(encoding)
        assert b"Traceback" not in done.stderr
    assert kept(folder / "Bänke 1")[0] == "My cat is called Zoe."


def test_json_obeys_nothing(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (["recall", "Hund", "--json"], ["why", "--json"]):
        out, _ = run(monkeypatch, "utf-8", *command, "--bank", bank)
        assert json.loads(out)
        assert not [character for character in out if not character.isprintable() and character != "\n"]


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    handler = app._Notes(logging.WARNING)
    handler.emit(logging.LogRecord("membank_llama", logging.WARNING, "", 1, "a\nb\x1b[31m%s", ("\x9b",), None))
    assert capsys.readouterr().err.strip() == r"note: a\nb\x1b[31m\x9b"
