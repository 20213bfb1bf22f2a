"""The `ollama` package for JavaScript; `make test-npm` installs it first."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.proxies import Running, engine_of, proxied

HERE = Path(__file__).resolve().parent
FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
ANSWER = "Your sister lives in Porto."

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (HERE / "node_modules" / "ollama").is_dir(),
    reason="needs node and the ollama package: make test-npm",
)


def say(running: Running, text: str, *arguments: str) -> str:
    command = ["node", str(HERE / "chat.mjs"), running.url, text, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    running.memory.ingest_worker.flush()
    return done.stdout


@pytest.mark.parametrize("how", ["whole", "stream"])
def test_told_and_asked(tmp_path: Path, recall_tiny: Path, how: str) -> None:
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny)) as running:
        say(running, FACT, how)
        assert say(running, QUESTION, how) == ANSWER
        assert say(running, QUESTION, how, "work").startswith("I don't know.")
        assert FACT in running.texts("default")
        assert FACT not in running.texts("work")
