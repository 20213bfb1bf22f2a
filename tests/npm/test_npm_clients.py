"""Clients from npm, each told a fact in one process and asked in another; `make test-npm` installs them first."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.proxies import Running, engine_of, proxied

HERE = Path(__file__).resolve().parent
FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
ANSWER = "Your sister lives in Porto."
PACKAGES = {
    "ollama": "ollama",
    "openai": "openai",
    "openai-responses": "openai",
    "anthropic": "@anthropic-ai/sdk",
    "ai-sdk-ollama": "ai-sdk-ollama",
}

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, recall_tiny: Path) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("npm")
    with proxied(folder, engine_of(folder, recall_tiny)) as made:
        yield made


def say(client: str, url: str, how: str, text: str) -> str:
    if not (HERE / "node_modules" / PACKAGES[client]).is_dir():
        pytest.skip(f"needs {PACKAGES[client]} from npm: make test-npm")
    command = ["node", str(HERE / "clients.mjs"), client, url, how, text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("how", ["whole", "streamed"])
@pytest.mark.parametrize("client", PACKAGES)
def test_told_and_asked(running: Running, client: str, how: str) -> None:
    namespace = f"{client}-{how}"
    url = f"{running.url}/ns/{namespace}"
    told = say(client, url, how, FACT)
    assert say(client, url, how, QUESTION) == ANSWER
    assert say(client, f"{running.url}/ns/nobody", how, QUESTION).startswith("I don't know.")
    assert running.texts(namespace) == [FACT, told, QUESTION, ANSWER]
