"""How a command ends that cannot go on: Ctrl-C at any moment, a disk that is full, a bank of another user's."""

from __future__ import annotations

import ctypes
import os
import shutil
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
    assert done.returncode == 1 and said.startswith("error: the system refused: "), said
    assert said.count("\n") == 1


def as_one_who_obeys_modes() -> list[str]:
    """What is put ahead of a command so that modes of files hold for it, also where the tests run as root."""
    if not sys.platform.startswith("linux"):
        pytest.skip("banks lie elsewhere there, and Windows has other modes")
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may look into everything, and there is no setpriv")
    gone = "-dac_override,-dac_read_search"
    return ["setpriv", "--bounding-set", gone, "--inh-caps", gone]


def test_a_bank_that_may_not_be_looked_into_is_named_and_doctor_says_what_mends_it(tmp_path: Path) -> None:
    first = as_one_who_obeys_modes()
    data = tmp_path / "membank-llama"
    with MemBank(WordsAdapter(), data / "default") as bank:
        bank.ingest("Canoes are green.")
    with MemBank(WordsAdapter(), data / "recall-tiny") as other:
        other.ingest("Another bank.")
    (data / "default").chmod(0)
    env = environment(XDG_DATA_HOME=str(tmp_path), HOME=str(tmp_path))

    def told(*words: str) -> tuple[int, str]:
        command = [*first, sys.executable, "-m", "membank_llama", *words]
        done = subprocess.run(command, capture_output=True, env=env, check=False, timeout=60, text=True)
        return done.returncode, done.stdout + done.stderr

    for words in (["list"], ["kv", "ls"], ["why"], ["list", "--bank", str(data / "default")]):
        code, said = told(*words)
        assert (code, said.count("\n")) == (1, 1) and f"may not look into {data / 'default'}" in said, said
    for words in (["doctor"], ["doctor", "--bank", str(data / "default")]):
        code, said = told(*words)
        assert code == 1 and f"chown -R $(id -u) {data / 'default'}" in said, said
    (data / "default").chmod(0o700)
    assert "Canoes are green." in told("list")[1]
