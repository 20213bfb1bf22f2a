"""Nothing that only POSIX has is needed: every module is imported, and a bank made, in a process without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.terminals import ROOT, environment


def test_every_module_and_a_bank_without_posix(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "without_posix.py", tmp_path],
        capture_output=True,
        encoding="utf-8",
        env=environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "bank: well" in done.stdout and "commands: well" in done.stdout
