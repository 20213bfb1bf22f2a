"""How a command ends that cannot go on: Ctrl-C at any moment, and a disk that is full."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.terminals import environment

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.cli import app
from membank_llama.memory.bank import MemBank

FULL = Path("/dev/full")


@pytest.mark.skipif(sys.platform == "win32", reason="raises a signal in this process")
def test_ctrl_c_that_meets_a_native_callback_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    @ctypes.CFUNCTYPE(None)
    def called_by_c() -> None:
        signal.raise_signal(signal.SIGINT)

    def command(*_: object, **__: object) -> None:
        called_by_c()
        threading.Event().wait(60)
        raise AssertionError("it was lost")

    monkeypatch.setattr(app, "app", command)
    hook, before = sys.unraisablehook, signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(SystemExit) as ended:
        app.main([])
    signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert sys.unraisablehook is hook


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["export", "-"], ["--help"]])
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, words: list[str]) -> None:
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        bank.ingest("Canoes are green.")
    command = [sys.executable, "-m", "membank_llama", "--bank", str(tmp_path / "bank"), *words]
    with FULL.open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment(), check=False, timeout=60)
    said = done.stderr.decode()
    assert done.returncode == 1 and said.startswith("error: not all of it could be written: "), said
    assert said.count("\n") == 1
