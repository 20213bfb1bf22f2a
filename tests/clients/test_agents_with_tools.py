"""Coding agents with `membank mcp` among their tools: they find the ten, save by one of them and are told by another.

A stand-in answers them, as no model that a test can afford works with tools: it calls memory_save for what the person
told, then memory_search, then says that it is done. The programs, the protocol and the bank are real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.asgi_server import serve
from support.client_programs import client_program
from support.places import ROOT
from support.stand_ins import Said, StandIn

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.memory.bank import MemBank

KNOWN, TOLD = "My sister Ana lives in Porto.", "My brother Rui plays the cello."
QUESTION = "Where does my sister Ana live?"
Run = tuple[list[str], dict[str, str]]


class Working(StandIn):
    """Calls memory_save, then memory_search, then says "Noted."."""

    def next_said(self, asked: Mapping[str, Any]) -> Said:
        """By how many results of our tools there are already."""
        offered = {name.rpartition("memory_")[2]: (name, more) for name, more in _tools(asked)}
        if "search" not in offered:
            return "Noted."
        results = sum(json.dumps(asked).count(mark) for mark in ('"tool_result"', '"function_call_output"', '"tool"'))
        steps: list[tuple[str, dict[str, str]]] = [
            ("save", {"text": TOLD, "said_by": "user"}),
            ("search", {"query": QUESTION}),
        ]
        if results >= len(steps):
            return "Noted."
        name, given = steps[results]
        return {"name": offered[name][0], "arguments": given, **offered[name][1]}


def _tools(asked: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """Names of the tools that are ours, and what else a call of one has to say."""
    found: list[tuple[str, dict[str, str]]] = []
    for tool in asked.get("tools", ()):
        more = {"namespace": tool["name"]} if tool.get("type") == "namespace" else {}
        for one in tool.get("tools", [tool]):
            name = str(one.get("name") or one.get("function", {}).get("name"))
            if "memory_" in name and "membank" in name + str(more):
                found.append((name, more))
    return found


def server(bank: Path) -> tuple[list[str], dict[str, str]]:
    """The command of `membank mcp`, and its environment."""
    command = [sys.executable, "-m", "membank_llama", "mcp", "--bank", str(bank), "--threads", "1"]
    return command, {"PYTHONPATH": str(ROOT), "OLLAMA_MODELS": os.devnull, "HOME": str(bank.parent)}


def claude(url: str, folder: Path, bank: Path) -> Run:
    command, environment = server(bank)
    listed = {"mcpServers": {"membank": {"command": command[0], "args": command[1:], "env": environment}}}
    (folder / "mcp.json").write_text(json.dumps(listed), encoding="utf-8")
    model = dict.fromkeys(
        ("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"), "stand-in"
    )
    settings = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": "unused", "DISABLE_AUTOUPDATER": "1"}
    patience = {"MCP_CONNECTION_NONBLOCKING": "0", "MCP_TIMEOUT": "100000"}
    words = ["-p", QUESTION, "--mcp-config", "mcp.json", "--strict-mcp-config", "--allowedTools", "mcp__membank"]
    return [client_program("claude"), *words], {**model, **settings, **patience}


def codex(url: str, folder: Path, bank: Path) -> Run:
    command, environment = server(bank)
    (folder / ".codex").mkdir(exist_ok=True)
    lines = [
        'model = "stand-in"', 'model_provider = "stand-in"', "[model_providers.stand-in]", 'name = "stand-in"',
        f'base_url = "{url}/v1"', 'wire_api = "responses"', "[mcp_servers.membank]", "startup_timeout_sec = 100",
        "required = true", f"command = {json.dumps(command[0])}", f"args = {json.dumps(command[1:])}",
        "[mcp_servers.membank.env]", *(f"{name} = {json.dumps(value)}" for name, value in environment.items()),
    ]  # fmt: skip
    (folder / ".codex" / "config.toml").write_text("\n".join(lines), encoding="utf-8")
    return [client_program("codex"), "exec", "--skip-git-repo-check", QUESTION], {}


def opencode(url: str, folder: Path, bank: Path) -> Run:
    command, environment = server(bank)
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "stand-in",
        "options": {"baseURL": f"{url}/v1"},
        "models": {"stand-in": {"name": "stand-in", "limit": {"context": 64_000, "output": 8000}}},
    }
    ours = {"type": "local", "command": command, "environment": environment, "enabled": True, "timeout": 100_000}
    model = dict.fromkeys(("model", "small_model"), "stand-in/stand-in")
    settings = {"autoupdate": False, "share": "disabled", "provider": {"stand-in": provider}, **model}
    (folder / "opencode.json").write_text(json.dumps({**settings, "mcp": {"membank": ours}}), encoding="utf-8")
    return [client_program("opencode"), "run", QUESTION], {}


AGENTS: dict[str, Callable[[str, Path, Path], Run]] = {"claude": claude, "codex": codex, "opencode": opencode}


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_saves_and_finds(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        bank.ingest(KNOWN)
    behind = Working()
    with serve(behind) as url:
        command, settings = AGENTS[name](url, folder, tmp_path / "bank")
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", **settings}
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=250
        )
    assert done.returncode == 0 and "Noted." in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    offered = {tool.rpartition("memory_")[2] for asked in behind.seen for tool, _ in _tools(asked)}
    assert offered == {"search", "recent", "show", "why", "stats", "save", "correct", "forget", "undo", "pin"}
    assert KNOWN in json.dumps(behind.seen[-1]), [json.dumps(asked)[-1500:] for asked in behind.seen]
    with MemBank(None, tmp_path / "bank", read_only=True) as bank:
        stored = {memory.text: memory.source for memory in bank.memories()}
    assert stored.keys() == {KNOWN, TOLD}
    assert str(stored[TOLD]).startswith("mcp:") and stored[TOLD] != "mcp:agent"
