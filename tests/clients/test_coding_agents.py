"""Coding agents, run without a terminal and told and asked through the proxy: what they leave in the bank.

A stand-in answers them, as no model that a test can afford makes sense of their instructions. What is looked at is what
the proxy made of their requests: the person's words alone are stored, and are put into the next conversation; titles,
examples and reminders that the programs write themselves are not.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.client_programs import client_program
from support.proxies import Running, proxied
from support.stand_ins import StandIn

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"

Run = tuple[list[str], dict[str, str]]


def aider(url: str, folder: Path, text: str) -> Run:
    (folder / "app.py").write_text("def port():\n    return 8080\n")
    (folder / ".aider.chat.history.md").unlink(missing_ok=True)
    command = [
        client_program("aider"),
        "--no-git",
        "--yes-always",
        "--no-check-update",
        "--no-analytics",
        "--no-pretty",
    ]
    command += ["--no-show-model-warnings", "--no-show-release-notes", "--no-fancy-input", "--model", "openai/stand-in"]
    command += ["--message", text, "app.py"]
    return command, {"OPENAI_API_BASE": f"{url}/v1", "OPENAI_API_KEY": "unused", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def claude(url: str, folder: Path, text: str) -> Run:
    model = dict.fromkeys(
        ("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"), "stand-in"
    )
    settings = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": "unused", "DISABLE_AUTOUPDATER": "1"}
    return [client_program("claude"), "-p", text], {**model, **settings}


def codex(url: str, folder: Path, text: str) -> Run:
    (folder / ".codex").mkdir(exist_ok=True)
    settings = f'name = "membank"\nbase_url = "{url}/v1"\nwire_api = "responses"\n'
    head = 'model = "stand-in"\nmodel_provider = "membank"\n'
    (folder / ".codex" / "config.toml").write_text(f"{head}[model_providers.membank]\n{settings}")
    return [client_program("codex"), "exec", "--skip-git-repo-check", text], {}


def opencode(url: str, folder: Path, text: str) -> Run:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "membank",
        "options": {"baseURL": f"{url}/v1"},
        "models": {"stand-in": {"name": "stand-in", "limit": {"context": 64_000, "output": 8000}}},
    }
    model = dict.fromkeys(("model", "small_model"), "membank/stand-in")
    settings = {"autoupdate": False, "share": "disabled", "provider": {"membank": provider}, **model}
    (folder / "opencode.json").write_text(json.dumps(settings))
    return [client_program("opencode"), "run", text], {}


AGENTS: dict[str, Callable[[str, Path, str], Run]] = {
    "aider": aider,
    "claude": claude,
    "codex": codex,
    "opencode": opencode,
}


def say(running: Running, folder: Path, name: str, text: str) -> None:
    command, settings = AGENTS[name](running.url, folder, text)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", **settings}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Noted." in done.stdout


@pytest.mark.parametrize("name", AGENTS)
def test_told_and_asked(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    behind = StandIn()
    with proxied(tmp_path, behind) as running:
        # their instructions alone are more than the 4,096 tokens that are assumed where nothing is known
        running.memory.context_of = lambda _: 131_072
        say(running, folder, name, FACT)
        assert [text.strip('"') for text in running.texts()] == [FACT, "Noted."]
        before = len(behind.seen)
        say(running, folder, name, QUESTION)
        asked = [body for body in behind.seen[before:] if "<memory>" in json.dumps(body)]
        # one of its requests is the person's
        assert len(asked) == 1
        assert FACT in json.dumps(asked[0])
        # "Noted." is there already
        assert [text.strip('"') for text in running.texts()] == [FACT, "Noted.", QUESTION]
