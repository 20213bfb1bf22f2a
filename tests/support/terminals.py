"""Helpers of the terminal's tests: `membank` in this process, and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from membank_llama.cli.app import main

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@dataclass
class Membank:
    """Runs commands on one bank, in this process."""

    bank: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *args: object) -> Outcome:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--bank", str(self.bank), *map(str, args)])
        shown = self.capsys.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), shown.out, shown.err)


def environment(**more: str) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEMBANK", "MODEL", "ENCODER"))}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONUTF8": "1", **more}


def membank(*args: object, stdin: str | bytes | None = None, **more: str) -> Outcome:
    """`membank` as a process of its own."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [sys.executable, "-m", "membank_llama", *map(str, args)],
        input=given if given is not None else b"",
        capture_output=True,
        env=environment(**more),
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
