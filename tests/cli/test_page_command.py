"""`membank page` as people start it: a process that serves a bank, beside others, until it is stopped."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.banks import FACTS
from support.terminals import environment, membank

from membank_llama import open_shared
from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank


@pytest.fixture
def told(tmp_path: Path) -> Path:
    with MemBank(WordsAdapter(), tmp_path / "a bank") as bank:
        bank.ingest_many([*FACTS, NewMemory("Elsewhere.", namespace="work")])
    return tmp_path / "a bank"


@contextmanager
def page(bank: Path, *arguments: object, cwd: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the address that it names."""
    command = [sys.executable, "-m", "membank_llama", "--bank", str(bank), "page", "--port", "0", "--no-browser"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)], stderr=subprocess.PIPE, encoding="utf-8", env=environment(), cwd=cwd
    )
    try:
        said = ""
        while not (found := re.search(r"page +(http://127\.0\.0\.1:\d+\S*)", said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        yield process, found[1]
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_a_bank_is_served_until_it_is_stopped(told: Path) -> None:
    with page(told) as (process, address), httpx.Client(base_url=address, timeout=30) as client:
        found = client.get("/membank/search", params={"q": "Where does my sister live?"}).json()["memories"]
        assert found[0]["text"] == FACTS[0]
        assert client.post("/membank/memories", json={"text": "The boiler is new."}).status_code == 201
        client.delete("/membank/memories/1", params={"seconds": 600})
        assert client.get("/membank/status").status_code == client.post("/api/chat").status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with MemBank(None, told, read_only=True) as bank:
        assert [memory.text for memory in bank.memories("default")] == [*FACTS[1:], "The boiler is new."]


def test_a_namespace_is_named_in_the_address(told: Path) -> None:
    with page(told, "--namespace", "work") as (_, address):
        assert address.endswith("/ns/work/")
        listed = httpx.get(f"{address}membank/memories", timeout=30).json()["memories"]
        assert [one["text"] for one in listed] == ["Elsewhere."]


def test_nobody_is_told_where_the_bank_lies(told: Path) -> None:
    above = told.parent.parent
    with page(told.relative_to(above), cwd=above) as (_, address):
        refused = httpx.get(f"{address}membank/memories/99", timeout=30)
    assert refused.json()["error"].startswith("there is no memory 99 in a bank;")


def test_it_works_beside_whoever_holds_the_bank(told: Path) -> None:
    with open_shared(WordsAdapter(), told) as bank, page(told) as (_, address):
        made = httpx.post(f"{address}membank/memories", json={"text": "The boiler is new."}, timeout=30)
        assert made.status_code == 201
        assert bank.get(made.json()["id"]).text == "The boiler is new."
        assert httpx.delete(f"{address}membank/memories/1?seconds=600", timeout=30).status_code == 200
        assert bank.count("default") == len(FACTS)
        assert httpx.post(f"{address}membank/undo", timeout=30).json()["ids"] == [1]
        bank.pin(2)
        assert httpx.get(f"{address}membank/memories/2", timeout=30).json()["pinned"]


def test_a_taken_port_is_named(told: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = membank("--bank", told, "page", "--port", port, "--no-browser")
    assert refused.code == 2 and f"127.0.0.1:{port} cannot be listened on" in refused.err
    assert "[Errno" not in refused.err and "Traceback" not in refused.err


def test_without_a_bank_it_says_what_to_do(tmp_path: Path) -> None:
    refused = membank("--bank", tmp_path / "none", "page", "--port", 0)
    assert refused.code == 1 and "there is no bank at" in refused.err
    assert not (tmp_path / "none").exists()


def test_a_namespace_that_no_address_can_name_is_refused(told: Path) -> None:
    refused = membank("--bank", told, "page", "--port", 0, "--no-browser", "--namespace", "two words")
    assert refused.code == 2 and "'two words' is no namespace" in refused.err
