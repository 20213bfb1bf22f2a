"""`membank mcp` as agents start it: a process that speaks over its pipes, beside other agents and commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.agents import Agent, agent_over_stdio
from support.places import ROOT
from support.serve_process import environment

from membank_llama.adapters.hashing import MockAdapter, WordsAdapter
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.memory.bank import MemBank

ANA, PORT = "My sister Ana lives in Porto.", "The billing service listens on port 5433."
HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
}  # fmt: skip
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def calling(number: int, tool: str, **given: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": given}}


class Raw:
    """`membank mcp` and its pipes, with nothing in between."""

    def __init__(self, bank: Path, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "membank_llama", "mcp", "--bank", str(bank), *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
            env={**environment(bank.parent), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def tell(self, *messages: object) -> None:
        assert self.process.stdin is not None
        for message in messages:
            self.process.stdin.write((message if isinstance(message, str) else json.dumps(message)) + "\n")
        self.process.stdin.flush()

    def line(self) -> dict[str, object]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def end(self) -> tuple[str, str]:
        """What is left of both streams, once it has ended."""
        out, errors = self.process.communicate(timeout=60)
        return out, errors


def membank(bank: Path, *words: str) -> str:
    command = [sys.executable, "-m", "membank_llama", *words, "--bank", str(bank)]
    env = {**environment(bank.parent), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def texts(bank: Path, namespace: str = "default") -> list[str]:
    with MemBank(None, bank, read_only=True) as opened:
        return [memory.text for memory in opened.memories(namespace)]


def test_a_first_agent_makes_the_bank_and_another_finds_what_it_saved(tmp_path: Path) -> None:
    bank = tmp_path / "data" / "bank"
    bank.parent.mkdir()
    with agent_over_stdio(bank, name="Coding Agent/7") as agent:
        assert agent.client.server_info.name == "membank"
        assert agent.call("memory_stats")["memories"] == 0
        agent.call("memory_save", text=ANA, said_by="user")
    with agent_over_stdio(bank, mode="legacy") as agent:
        assert agent.found("Where does Ana live?") == [ANA]
    with MemBank(None, bank, read_only=True) as opened:
        assert [memory.source for memory in opened.memories()] == ["mcp:coding-agent-7"]
        assert opened.verify().ok


def test_two_agents_and_a_command_share_a_bank(tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    with agent_over_stdio(bank, name="one") as one:
        first = one.call("memory_save", text=ANA, said_by="user")["id"]
        with agent_over_stdio(bank, name="two") as two:
            assert two.found("Where does Ana live?") == [ANA]
            second = two.call("memory_save", text=PORT, said_by="agent")["id"]
            assert one.found("On which port does the billing service listen?") == [PORT]
            membank(bank, "pin", str(second))
            assert one.call("memory_show", id=second)["memory"]["pinned"]
            membank(bank, "forget", str(first), "--yes")
            assert one.found("Where does Ana live?") == two.found("Where does Ana live?") == []
            both = [threading.Thread(target=_save_some, args=(agent, name)) for agent, name in ((one, "1"), (two, "2"))]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
            assert one.call("memory_stats")["memories"] == two.call("memory_stats")["memories"] == 21
            done = two.call("memory_forget", ids=[second])
            assert one.call("memory_undo", change=done["change"])["ids"] == [second]
    assert len(texts(bank)) == 21


def _save_some(agent: Agent, name: str) -> None:
    for n in range(10):
        agent.call("memory_save", text=f"Agent {name} noted number {n}.", said_by="agent")


def test_standard_output_holds_the_protocol_alone(tmp_path: Path, minilm_gguf: Path) -> None:
    """llama.cpp loads a model meanwhile, and prints; what is no message is answered or passed over."""
    raw = Raw(tmp_path / "bank", "--encoder", minilm_gguf, "--threads", "1", "--namespace", "work")
    raw.tell(HELLO, READY, calling(2, "memory_save", text=ANA, said_by="user"))
    assert raw.line()["id"] == 1
    assert raw.line()["id"] == 2
    raw.tell("no json", "", "[1, 2]", '{"jsonrpc": "2.0"}', "\x00\xff", calling(3, "memory_search", query="Ana?"))
    lines = [raw.line()]
    while lines[-1].get("id") != 3:
        lines.append(raw.line())
    assert ANA in json.dumps(lines[-1])
    # what was asked for is done also where the agent hangs up at once
    raw.tell(calling(4, "memory_save", text=PORT, said_by="agent"))
    out, errors = raw.end()
    assert raw.process.returncode == 0 and [json.loads(line)["id"] for line in out.splitlines()] == [4]
    assert "Traceback" not in errors
    assert texts(tmp_path / "bank", "work") == [ANA, PORT]


def test_half_of_an_emoji_is_answered_and_stored_as_what_it_is(tmp_path: Path) -> None:
    """Agents cut text by UTF-16 units; the SDK's parser refuses such a line, and whoever asked would wait for ever."""
    raw = Raw(tmp_path / "bank")
    raw.tell(HELLO, READY)
    raw.line()
    raw.tell(calling(2, "memory_save", text="Cut \ud83d", said_by="user"))
    raw.tell(calling(3, "memory_save", text="Whole \ud83d\ude00, C:\\ud83d", said_by="user"))
    assert {raw.line()["id"], raw.line()["id"]} == {2, 3}
    raw.end()
    assert sorted(texts(tmp_path / "bank")) == ["Cut \ufffd", "Whole \U0001f600, C:\\ud83d"]


def test_a_signal_ends_it_with_everything_stored(tmp_path: Path) -> None:
    raw = Raw(tmp_path / "bank")
    raw.tell(HELLO, READY, calling(2, "memory_save", text=ANA, said_by="user"))
    assert [raw.line()["id"], raw.line()["id"]] == [1, 2]
    raw.tell(calling(3, "memory_save", text="The door code is 4711.", said_by="user"))
    raw.line()
    raw.tell(calling(4, "memory_forget", text="door code", confirm=True))
    raw.line()
    raw.process.send_signal(signal.SIGTERM)
    raw.process.wait(60)
    out, errors = raw.end()
    assert (out, raw.process.returncode) == ("", 0) and "Traceback" not in errors
    assert texts(tmp_path / "bank") == [ANA]


def test_a_killed_agent_loses_nothing_that_it_was_told_is_saved(tmp_path: Path) -> None:
    raw = Raw(tmp_path / "bank")
    raw.tell(HELLO, READY, *(calling(n, "memory_save", text=f"Number {n}.", said_by="agent") for n in range(2, 40)))
    said = {raw.line()["id"] for _ in range(20)} - {1}
    os.kill(raw.process.pid, signal.SIGKILL)
    raw.end()
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        assert {f"Number {n}." for n in said} <= {memory.text for memory in bank.memories()}
        assert bank.verify().ok


def test_a_bank_whose_model_is_gone_is_searched_by_words_and_says_what_to_do(tmp_path: Path, tiny_gguf: Path) -> None:
    model = tmp_path / "gone.gguf"
    model.write_bytes(tiny_gguf.read_bytes())
    with LlamaCppAdapter(model, n_threads=1) as adapter, MemBank(adapter, tmp_path / "bank") as bank:
        bank.ingest(ANA)
    model.unlink()
    with agent_over_stdio(tmp_path / "bank") as agent:
        assert ANA in [one["text"] for one in agent.call("memory_search", query="sister Ana Porto")["memories"]]
        told = agent.refused("memory_save", text=PORT, said_by="user")
        assert "--encoder" in told and "reencode" in told
    assert "found by their words" in (tmp_path / "mcp.log").read_text(encoding="utf-8")


class Served(MockAdapter):
    """A model of an Ollama that is not there, or has no such model."""

    @property
    def source(self) -> str:
        return "http://127.0.0.1:11434#no-such-model-here"

    def model_id(self) -> str:
        return "ollama-no-such-model-here"


@pytest.mark.parametrize("only_looking", [[], ["--read-only"]])
def test_a_bank_whose_server_does_not_run_shows_what_it_holds(tmp_path: Path, only_looking: list[str]) -> None:
    with MemBank(Served(), tmp_path / "bank") as bank:
        bank.ingest(ANA)
    with agent_over_stdio(tmp_path / "bank", *only_looking) as agent:
        assert agent.call("memory_stats")["memories"] == 1
        assert [one["text"] for one in agent.call("memory_recent")["memories"]] == [ANA]
        assert "11434" in agent.refused("memory_search", query="Where does Ana live?")
        if not only_looking:
            assert "11434" in agent.refused("memory_save", text=PORT, said_by="user")
            assert agent.call("memory_forget", ids=[1])["done"]


def test_only_looking_changes_nothing_and_waits_for_nobody(tmp_path: Path) -> None:
    with agent_over_stdio(tmp_path / "bank", "--read-only") as early:
        assert "no bank" in early.refused("memory_stats")
        with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
            bank.ingest(ANA)
            # it was not there before, and this one lets nobody else write
            assert early.found("Where does Ana live?") == [ANA]
            assert all(tool.annotations.read_only_hint for tool in early.tools())


def test_a_bank_that_lets_nobody_in_is_named_until_it_does(tmp_path: Path) -> None:
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        bank.ingest(ANA)
        with agent_over_stdio(tmp_path / "bank") as agent:
            assert "being written by" in agent.refused("memory_search", query="Ana?")
            bank.close()
            assert agent.found("Where does Ana live?") == [ANA]


WITHOUT = """
import sys
sys.modules["mcp"] = sys.modules["mcp_types"] = None
from membank_llama.cli.app import main
main(sys.argv[1:])
"""


def test_without_the_sdk_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, "mcp", "--bank", str(tmp_path / "bank")]
    env = {**environment(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, input="", check=False, timeout=60)
    assert done.returncode == 1 and done.stdout == ""
    assert "pip install 'membank-llama[mcp]'" in " ".join(done.stderr.split())
    assert not (tmp_path / "bank").exists()


def test_nobody_else_waits_for_the_sdk(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom membank_llama.cli.app import main\n"
        "import membank_llama.server.bank_app, membank_llama.server.proxy.app\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n"
        "    slow = [name for name in sys.modules if name.split('.')[0] in ('mcp', 'mcp_types')]\n"
        "    sys.stderr.write(f'loaded {slow}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--help"], capture_output=True, text=True, check=True,
        env={**environment(tmp_path), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stderr.endswith("loaded []")
