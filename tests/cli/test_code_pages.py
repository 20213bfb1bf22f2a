"""Output to a terminal or pipe whose code page lacks letters: a command does its work, says so and ends with 0."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from membank_llama.cli import app

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


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_every_command_does_its_work(bank: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    for command in (["recall", "Hund"], ["why", "Hund"], ["verify"], ["stats"], ["gc"], ["pin", "1"], ["unpin", "1"]):
        out, _ = run(monkeypatch, encoding, *command, "--bank", bank)
        assert out.strip()
    found = json.loads(run(monkeypatch, encoding, "recall", "Hund", "--json", "--bank", bank)[0])
    assert found[0]["text"] == TEXT
    assert run(monkeypatch, encoding, "forget", "1", "--yes", "--bank", bank)


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
