"""`/mcp` over a real socket: every agent by its token's namespace, beside the chats that a proxy answers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.agents import agent_over_http
from support.asgi_server import serve
from support.places import ROOT
from support.proxies import proxied, user
from support.serve_process import environment
from support.stand_ins import StandIn

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.memory.bank import MemBank
from membank_llama.server.bank_app import BankApp
from membank_llama.server.face_context import FaceContext
from membank_llama.server.proxy.namespace_auth import BearerTokens

ANA = "My sister Ana lives in Porto."
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "memory_stats", "arguments": {}}}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with MemBank(WordsAdapter(), tmp_path / "bank") as opened:
        yield opened


@pytest.fixture
def url(bank: MemBank) -> Iterator[str]:
    with serve(BankApp(FaceContext(bank))) as address:
        yield address


def post(url: str, body: Any = CALL, **headers: str) -> httpx.Response:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url, content=sent, headers={**ACCEPT, "content-type": "application/json", **headers}, timeout=60)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_an_agent_of_either_age_of_the_protocol_saves_and_finds(url: str, bank: MemBank, mode: str) -> None:
    with agent_over_http(f"{url}/mcp", mode=mode) as agent:
        assert len(agent.tools()) == 10
        agent.call("memory_save", text=ANA, said_by="user")
        assert agent.found("Where does Ana live?") == [ANA]
        done = agent.call("memory_forget", text="Ana", confirm=True)
        assert bank.count() == 0
        assert agent.call("memory_undo", change=done["change"])["kind"] == "forget"
        assert "there is no memory 99" in agent.refused("memory_pin", id=99)
    assert [memory.source.partition(":")[0] for memory in bank.memories()] == ["mcp"]


def test_a_path_and_a_token_lead_to_a_namespace_and_to_no_other(bank: MemBank) -> None:
    theirs = bank.ingest("Their secret about Ana.", namespace="theirs").memory_id
    tokens = BearerTokens({"a-token-of-mine": "mine", "a-token-of-theirs": "theirs"})
    with serve(BankApp(FaceContext(bank), tokens)) as url:
        with agent_over_http(f"{url}/mcp", "a-token-of-mine") as agent:
            agent.call("memory_save", text=ANA, said_by="user")
            assert agent.found("What is the secret about Ana?") == [ANA]
            agent.refused("memory_show", id=theirs)
            assert agent.call("memory_stats")["namespace"] == "mine"
        with agent_over_http(f"{url}/ns/theirs/mcp", "a-token-of-theirs") as agent:
            assert agent.call("memory_show", id=theirs)["memory"]["text"] == "Their secret about Ana."
        assert post(f"{url}/mcp").status_code == 401
        assert post(f"{url}/mcp", authorization="Bearer wrong").status_code == 401
        assert post(f"{url}/ns/theirs/mcp", authorization="Bearer a-token-of-mine").status_code == 403
    with serve(BankApp(FaceContext(bank))) as url, agent_over_http(f"{url}/ns/mine/mcp") as agent:
        assert agent.found("Where does Ana live?") == [ANA]


def test_what_an_agent_saves_is_in_the_next_chat_and_why_is_told(tmp_path: Path) -> None:
    behind = StandIn()
    with (
        proxied(tmp_path, behind, adapter=WordsAdapter()) as running,
        agent_over_http(f"{running.url}/mcp") as agent,
    ):
        agent.call("memory_save", text=ANA, said_by="user")
        running.chat(user("Where does my sister Ana live?"))
        assert ANA in json.dumps(behind.seen[-1])
        why = agent.call("memory_why")
        assert why["query"] == "Where does my sister Ana live?" and why["memories"][0]["text"] == ANA
        assert why["memories"][0]["relevant"]
        saved = agent.call("memory_search", query="Where does Ana live?")["memories"][0]["id"]
        used = agent.call("memory_show", id=saved)["used"]
        assert [use["query"] for use in used] == ["Where does my sister Ana live?"]
        # what is on its way out is told by no tool, as it is in no recall
        agent.call("memory_forget", ids=[saved])
        assert [one["text"] for one in agent.call("memory_why")["memories"] if one["id"] == saved] == [
            "(forgotten since)"
        ]


def test_a_page_from_elsewhere_and_a_name_of_elsewhere_are_refused(url: str, bank: MemBank) -> None:
    save = {**CALL, "params": {"name": "memory_save", "arguments": {"text": "Planted.", "said_by": "user"}}}
    assert post(f"{url}/mcp", save, origin="https://evil.example").status_code == 403
    assert post(f"{url}/mcp", save, host="evil.example").status_code == 403
    assert post(f"{url}/mcp", save, **{"content-type": "text/plain"}).status_code in (400, 415)
    assert bank.count() == 0
    port = url.rpartition(":")[2]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"box.local:{port}", "box.internal"):
        assert post(f"{url}/mcp", host=host).status_code == 200, host
    assert post(f"{url}/mcp", origin="http://localhost:3000").status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"jsonrpc":"2.0"}', b'{"jsonrpc":"2.0","id":1,"method":"nonsense"}',
     b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"memory_search","arguments":[]}}',
     b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800","arguments":{}}}',
     b"[" * 100_000, b"\xff\xfe", b'{"a":' * 50_000],
)  # fmt: skip
def test_what_is_no_message_is_answered_and_nothing_else_happens(url: str, body: bytes) -> None:
    answer = post(f"{url}/mcp", body)
    assert answer.status_code < 500 and "Traceback" not in answer.text
    assert post(f"{url}/mcp").status_code == 200


def test_half_of_an_emoji_is_no_reason_to_refuse_a_message(url: str, bank: MemBank) -> None:
    told = {"name": "memory_save", "arguments": {"text": "Cut \ud83d", "said_by": "user"}}
    assert post(f"{url}/mcp", {**CALL, "params": told}).status_code == 200
    assert [memory.text for memory in bank.memories()] == ["Cut \ufffd"]


def test_a_body_that_is_too_long_is_refused(url: str) -> None:
    assert post(f"{url}/mcp", b'{"a": "' + b"x" * (2 << 20) + b'"}').status_code == 413
    with httpx.Client(base_url=url) as client:
        for method in ("GET", "DELETE"):
            answer = client.request(method, "/mcp", headers=ACCEPT)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_many_agents_at_once(url: str, bank: MemBank) -> None:
    answers: list[int] = []

    def save(n: int) -> None:
        told = {"name": "memory_save", "arguments": {"text": f"Number {n % 20}.", "said_by": "agent"}}
        answers.append(post(f"{url}/mcp", {**CALL, "params": told}).status_code)

    threads = [threading.Thread(target=save, args=(n,)) for n in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 60 and bank.count() == 20


def test_a_bank_that_is_only_read_offers_only_looking(bank: MemBank, tmp_path: Path) -> None:
    bank.ingest(ANA)
    with (
        MemBank(WordsAdapter(), tmp_path / "bank", read_only=True) as reading,
        serve(BankApp(FaceContext(reading))) as url,
        agent_over_http(f"{url}/mcp") as agent,
    ):
        assert all(tool.annotations.read_only_hint for tool in agent.tools())
        assert agent.found("Where does Ana live?") == [ANA]


WITHOUT = """
import sys
sys.modules["mcp"] = sys.modules["mcp_types"] = None
import httpx
from pathlib import Path
from support.asgi_server import serve
from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.memory.bank import MemBank
from membank_llama.server.bank_app import BankApp
from membank_llama.server.face_context import FaceContext
with MemBank(WordsAdapter(), Path(sys.argv[1])) as bank, serve(BankApp(FaceContext(bank))) as url:
    for _ in range(2):
        answer = httpx.post(url + "/mcp", json={})
        print(answer.status_code, answer.text)
    print(httpx.get(url + "/membank/memories").status_code)
"""


def test_without_the_sdk_it_says_how_to_get_it_and_the_rest_is_there(tmp_path: Path) -> None:
    env = {**environment(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "bank")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    first, second, rest = done.stdout.splitlines()
    assert first == second and first.startswith("501") and "pip install 'membank-llama[mcp]'" in first
    assert rest == "200", done.stderr
