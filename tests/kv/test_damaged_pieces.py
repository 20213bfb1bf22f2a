"""Whatever lies where pieces are looked for: the answer is that of plain evaluation, and nothing ends the program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.kv_damage_cases import DAMAGES, ENDS
from support.places import ROOT

if os.name == "nt":
    pytest.skip("links, pipes and SIGKILL need POSIX", allow_module_level=True)

CASES = 1000
ROUNDS = 30


def support(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return subprocess.run(
        [sys.executable, "-m", f"support.{module}", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        timeout=240,
        check=False,
    )


def test_a_thousand_damaged_or_foreign_pieces(tmp_path: Path, stories_chatml_gguf: Path) -> None:
    done = support("kv_damage_cases", tmp_path, stories_chatml_gguf, CASES)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{len(found)}: {done.stderr[-2000:]}"
    assert len(found) == CASES
    assert {kind for kind, _, _ in found} == set(DAMAGES)
    assert [case for case in found if not case[2]] == []
    assert json.loads((tmp_path / "outside.json").read_text()) == []
    # a part of it is as good as before, mostly; but not the part that was damaged
    restored = Counter(restored for _, restored, _ in found)
    assert set(restored) <= {0, *ENDS}
    assert restored[ENDS[0]] and restored[ENDS[1]]
    whole = Counter(kind for kind, restored, _ in found if restored == ENDS[-1])
    assert set(whole) <= {"another namespace's", "of other settings", "of other tokens", "the epoch"}, whole


def test_killed_while_writing(tmp_path: Path, stories_chatml_gguf: Path) -> None:
    done = support("kv_killed", tmp_path, stories_chatml_gguf, ROUNDS)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == 0
    assert found["killed"] == ROUNDS
    # it was in the middle of things, and what was whole was of use
    assert found["drafts"] > 0
    assert found["restored"] > 0
    assert found["left"] == []
