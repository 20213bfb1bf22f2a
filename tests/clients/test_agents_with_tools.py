"""Coding agents with the ten tools of MCP, by `membank mcp` and by `/mcp`: they save by one and are told by another.

A stand-in answers them, as no model that a test can afford works with tools: it calls memory_save for what the person
told, then memory_search, then says that it is done. The programs, the protocol and the bank are real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.asgi_server import serve
from support.client_programs import client_program
from support.places import ROOT
from support.stand_ins import Said, StandIn

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.memory.bank import MemBank
from membank_llama.server.bank_app import BankApp
from membank_llama.server.face_context import FaceContext

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


@dataclass(frozen=True)
class Ours:
    """How an agent reaches the memories: by a command with its environment, or at an address."""

    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""


def by_command(bank: Path) -> Ours:
    command = (sys.executable, "-m", "membank_llama", "mcp", "--bank", str(bank), "--threads", "1")
    return Ours(command, {"PYTHONPATH": str(ROOT), "OLLAMA_MODELS": os.devnull, "HOME": str(bank.parent)})


def claude(model_url: str, folder: Path, ours: Ours) -> Run:
    how: dict[str, Any] = {"type": "http", "url": ours.url}
    if ours.command:
        how = {"command": ours.command[0], "args": ours.command[1:], "env": dict(ours.environment)}
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"membank": how}}), encoding="utf-8")
    model = dict.fromkeys(
        ("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"), "stand-in"
    )
    settings = {"ANTHROPIC_BASE_URL": model_url, "ANTHROPIC_AUTH_TOKEN": "unused", "DISABLE_AUTOUPDATER": "1"}
    patience = {"MCP_CONNECTION_NONBLOCKING": "0", "MCP_TIMEOUT": "100000"}
    words = ["-p", QUESTION, "--mcp-config", "mcp.json", "--strict-mcp-config", "--allowedTools", "mcp__membank"]
    return [client_program("claude"), *words], {**model, **settings, **patience}


def codex(model_url: str, folder: Path, ours: Ours) -> Run:
    (folder / ".codex").mkdir(exist_ok=True)
    how = [f"url = {json.dumps(ours.url)}"]
    if ours.command:
        how = [f"command = {json.dumps(ours.command[0])}", f"args = {json.dumps(ours.command[1:])}"]
        how += ["[mcp_servers.membank.env]"]
        how += [f"{name} = {json.dumps(value)}" for name, value in ours.environment.items()]
    lines = [
        'model = "stand-in"', 'model_provider = "stand-in"', "[model_providers.stand-in]", 'name = "stand-in"',
        f'base_url = "{model_url}/v1"', 'wire_api = "responses"', "[mcp_servers.membank]", "startup_timeout_sec = 100",
        "required = true", *how,
    ]  # fmt: skip
    (folder / ".codex" / "config.toml").write_text("\n".join(lines), encoding="utf-8")
    return [client_program("codex"), "exec", "--skip-git-repo-check", QUESTION], {}


def opencode(model_url: str, folder: Path, ours: Ours) -> Run:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "stand-in",
        "options": {"baseURL": f"{model_url}/v1"},
        "models": {"stand-in": {"name": "stand-in", "limit": {"context": 64_000, "output": 8000}}},
    }
    how: dict[str, Any] = {"type": "remote", "url": ours.url}
    if ours.command:
        how = {"type": "local", "command": ours.command, "environment": dict(ours.environment)}
    how |= {"enabled": True, "timeout": 100_000}
    model = dict.fromkeys(("model", "small_model"), "stand-in/stand-in")
    settings = {"autoupdate": False, "share": "disabled", "provider": {"stand-in": provider}, **model}
    (folder / "opencode.json").write_text(json.dumps({**settings, "mcp": {"membank": how}}), encoding="utf-8")
    return [client_program("opencode"), "run", QUESTION], {}


AGENTS: dict[str, Callable[[str, Path, Ours], Run]] = {"claude": claude, "codex": codex, "opencode": opencode}


def work(name: str, folder: Path, ours: Ours) -> Working:
    """Let an agent answer the question; gives what it sent to the model."""
    folder.mkdir()
    behind = Working()
    with serve(behind) as url:
        command, settings = AGENTS[name](url, folder, ours)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", **settings}
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=250
        )
    assert done.returncode == 0 and "Noted." in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    return behind


@pytest.mark.parametrize("how", ["command", "address"])
@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_saves_and_finds(tmp_path: Path, name: str, how: str) -> None:
    path = tmp_path / "bank"
    with MemBank(WordsAdapter(), path) as bank:
        bank.ingest(KNOWN)
        if how == "address":
            with serve(BankApp(FaceContext(bank))) as url:
                behind = work(name, tmp_path / "work", Ours(url=f"{url}/mcp"))
    if how == "command":
        behind = work(name, tmp_path / "work", by_command(path))
    offered = {tool.rpartition("memory_")[2] for asked in behind.seen for tool, _ in _tools(asked)}
    assert offered == {"search", "recent", "show", "why", "stats", "save", "correct", "forget", "undo", "pin"}
    assert KNOWN in json.dumps(behind.seen[-1]), [json.dumps(asked)[-1500:] for asked in behind.seen]
    with MemBank(None, path, read_only=True) as bank:
        stored = {memory.text: str(memory.source) for memory in bank.memories()}
    assert stored.keys() == {KNOWN, TOLD}
    assert stored[TOLD].startswith("mcp:") and stored[TOLD] != "mcp:agent"
