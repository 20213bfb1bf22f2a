"""Tab: the shell's script is printed and installed, and what it asks for is answered."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.banks import open_bank
from support.terminals import ROOT, environment, membank

from membank_llama.cli.commands.completion import bank_names, model_names

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import platformdirs

    monkeypatch.delenv("MEMBANK_BANK", raising=False)
    monkeypatch.setattr(platformdirs, "user_data_path", lambda *_, **__: tmp_path / "data")
    for name in ("default", "work"):
        with open_bank(tmp_path / "data" / name) as bank:
            bank.ingest("Ana lives in Porto.")
    return tmp_path / "data"


def test_banks_of_the_data_directory(data: Path) -> None:
    assert sorted(bank_names("")) == [str(data / "default"), str(data / "work")]
    assert bank_names(str(data / "w")) == [str(data / "work")]
    assert bank_names("./") == []


def test_models_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    for name in ("a.gguf", "b.GGUF", "notes.md", "deep/c.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert model_names("") == ["a.gguf", "b.GGUF"]
    assert model_names("a") == ["a.gguf"]
    assert model_names("deep/") == model_names("deep/c") == ["deep/c.gguf"]
    assert model_names("nowhere/") == []


def answered(*words: str, **more: str) -> list[str]:
    """What the shell's script is told for a line that ends with the last of these words."""
    done = subprocess.run(
        [sys.executable, "-m", "membank_llama"],
        capture_output=True,
        text=True,
        env=environment(
            _MEMBANK_COMPLETE="complete_bash", COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1), **more
        ),
        timeout=60,
        check=False,
    )
    return done.stdout.split()


def test_commands_options_and_models_are_offered(tmp_path: Path) -> None:
    assert {"recall", "rebuild", "reencode"} <= set(answered("membank", "re"))
    assert "demo-tell" not in answered("membank", "demo")
    assert "--json" in answered("membank", "recall", "--js")
    (tmp_path / "own.gguf").write_bytes(b"GGUF")
    assert answered("membank", "chat", f"{tmp_path}/") == [f"{tmp_path}/own.gguf"]


@needs_bash
def test_the_script_is_shown_and_installed(tmp_path: Path) -> None:
    for option in ("--show-completion", "--install-completion"):
        # a shell in between, for it to be found
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m membank_llama {option}; exit $?"],
            capture_output=True,
            text=True,
            env=environment(HOME=str(tmp_path)),
            cwd=ROOT,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "bash completion installed" in done.stdout
    assert "_MEMBANK_COMPLETE" in next(tmp_path.rglob("*.sh")).read_text(encoding="utf-8")


def test_help_is_as_it_was_but_for_the_two_options() -> None:
    seen = membank("--help").out
    assert "--install-completion" in seen and "demo-tell" not in seen
