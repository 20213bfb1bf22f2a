"""Every file and every region of a bank damaged: a right answer or a clear error, never a signal, never silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.damage_cases import cases

TESTS = Path(__file__).resolve().parent.parent
SOME = 24

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each case runs in a process that was forked")


def outcomes(folder: Path, first: int, count: int, step: int) -> list[dict[str, Any]]:
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS)))
    done = subprocess.run(
        [sys.executable, "-m", "support.damage_cases", *map(str, (folder, first, count, step))],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found: list[dict[str, Any]]) -> Counter[str]:
    """What came of them; fails where one ended in a signal, a foreign exception or a silent wrong answer."""
    bad = [one for one in found if one["signal"] or one["exit"] or one["foreign"] or one["wrong"]]
    assert not bad, json.dumps(bad[:5], indent=1)
    return Counter("told" if one["told"] else "right" for one in found)


def test_some_damaged_banks(tmp_path: Path) -> None:
    found = outcomes(tmp_path, 3, SOME, len(cases()) // SOME)
    assert len(found) == SOME
    came = check(found)
    assert came["told"] and came["right"]


@pytest.mark.attack
@pytest.mark.timeout(3600)
def test_damaged_banks(tmp_path: Path) -> None:
    found = outcomes(tmp_path, 0, len(cases()), 1)
    assert len(found) == len(cases()) >= 1000
    assert len({one["label"] for one in found}) >= 100
    came = check(found)
    assert min(came["told"], came["right"]) >= 300, came
