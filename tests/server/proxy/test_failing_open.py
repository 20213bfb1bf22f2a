"""A memory that is slow or broken never breaks a chat; an upstream that is, says so in Ollama's words."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.asgi_server import serve
from support.proxies import GREEDY, Running, assistant, engine_of, proxied, user

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import EncodingError
from membank_llama.core.types import Vector
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.upstream import Upstream


class Moody(MockAdapter):
    """Encodes, or waits until it is let go, or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None

    def encode(self, text: str) -> Vector:
        self.free.wait(30)
        if self.error is not None:
            raise self.error
        return super().encode(text)


def test_a_slow_memory_is_left_behind(tmp_path: Path, recall_tiny: Path) -> None:
    adapter = Moody()
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny), adapter=adapter, deadline=5.0) as running:
        running.say("My sister Ana lives in Porto.")
        running.memory.deadline = 0.05
        adapter.free.clear()
        asked = user("Where does my sister Ana live?")
        body = {"model": "recall-tiny", "messages": [asked], "stream": False, "options": GREEDY}
        states = [running.client.post("/api/chat", json=body).headers["x-membank"] for _ in range(6)]
        assert states == ["degraded"] * 6
        adapter.free.set()
        running.memory.ingest_worker.flush()
        running.memory.deadline = 5.0
        while running.memory.recalls.overdue:
            time.sleep(0.01)
        assert running.chat(asked).headers["x-membank"] == "on"


def test_a_broken_memory_is_left_behind(tmp_path: Path, recall_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("membank_llama.server.proxy.ingest_worker.AGAIN_SECONDS", 0.5)
    adapter = Moody()
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny), adapter=adapter) as running:
        running.say("My sister Ana lives in Porto.")
        for error in (EncodingError("NaN"), RuntimeError("a bug")):
            adapter.error = error
            response = running.chat(user(f"Where does my sister Ana live? {error}"))
            assert response.status_code == 200
            assert response.headers["x-membank"] == "degraded"
        status = running.client.get("/membank/status").json()
        assert status["waiting_to_be_stored"] + status["failed_to_be_stored"] == 2
        adapter.error = None
        # what could not be stored is tried again, or is new when it comes again
        running.chat(user("Where does my sister Ana live? NaN"), assistant("I don't know."), user("And now?"))
        deadline = time.monotonic() + 30
        while running.memory.ingest_worker.waiting and time.monotonic() < deadline:
            time.sleep(0.05)
        assert {"Where does my sister Ana live? NaN", "Where does my sister Ana live? a bug"} <= set(running.texts())


def test_upstream_down() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with serve(Proxy(Upstream(address), None)) as url:
        for path in ("/api/chat", "/api/tags"):
            response = httpx.post(url + path, json={"model": "x", "messages": []}, timeout=10)
            assert response.status_code == 502
            assert f"could not connect to {address}" in response.json()["error"]
        openai = httpx.post(url + "/v1/chat/completions", json={}, timeout=10)
        assert "could not connect" in openai.json()["error"]["message"]


class Slow:
    """Speaks as Ollama does, one piece each time it is told to; and knows whether it was listened to to the end."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.sent: list[bytes] = []
        self.cut_off = threading.Event()
        self.asked: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        import asyncio

        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.asked.append(body)
        headers = [(b"content-type", b"application/x-ndjson"), (b"x-of-upstream", b"yes")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.ensure_future(receive())
        for word in ("One", " two", " three"):
            piece = json.dumps({"model": "m", "message": {"role": "assistant", "content": word}, "done": False})
            while not self.go.acquire(blocking=False):
                await asyncio.sleep(0.005)
                if gone.done():
                    self.cut_off.set()
                    return
            self.sent.append(piece.encode() + b"\n")
            await send({"type": "http.response.body", "body": self.sent[-1], "more_body": True})
        last = b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n'
        self.sent.append(last)
        await send({"type": "http.response.body", "body": last})
        gone.cancel()


@contextmanager
def slow(folder: Path) -> Iterator[tuple[Slow, Running]]:
    upstream = Slow()
    with proxied(folder, upstream) as running:
        yield upstream, running


def test_pieces_reach_the_client_as_they_come_and_unchanged(tmp_path: Path) -> None:
    with slow(tmp_path) as (upstream, running):
        body = {"model": "m", "messages": [user("Count.")], "unknown": {"kept": [1, 2.5, None]}}
        with running.client.stream("POST", "/api/chat", json=body) as response:
            assert response.headers["x-of-upstream"] == "yes"
            pieces = response.iter_raw()
            got = b""
            for _ in range(3):
                upstream.go.release()
                got += next(pieces)
                assert got == b"".join(upstream.sent)[: len(got)]
                assert len(upstream.sent) <= got.count(b"\n") + 1
            got += b"".join(pieces)
        assert got == b"".join(upstream.sent)
        assert json.loads(upstream.asked[0]) == body
        assert set(running.texts()) == {"Count.", "One two three"}
        assert not upstream.cut_off.is_set()


def test_hanging_up_stops_the_upstream_and_keeps_what_was_said(tmp_path: Path) -> None:
    with slow(tmp_path) as (upstream, running):
        body = {"model": "m", "messages": [user("Count.")]}
        with running.client.stream("POST", "/api/chat", json=body) as response:
            pieces = response.iter_raw()
            for _ in range(2):
                upstream.go.release()
                next(pieces)
        assert upstream.cut_off.wait(10)
        deadline = time.monotonic() + 10
        while not running.texts() and time.monotonic() < deadline:
            time.sleep(0.01)
        # what was asked is remembered, the fragment of a reply is not
        assert [memory.role for memory in running.bank.memories()] == ["user"]


def test_a_whole_answer_may_come_in_pieces(tmp_path: Path) -> None:
    pieces = [b'{"model":"m","response":"All of it.","done":true,', b'"done_reason":"stop","context":[1,', b"2,3]}"]

    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with proxied(tmp_path, upstream) as running:
        asked = {"model": "m", "prompt": "Tell me.", "stream": False}
        first = running.client.post("/api/generate", json=asked)
        assert first.content == b"".join(pieces)
        assert set(running.texts()) == {"Tell me.", "All of it."}
        running.client.post("/api/generate", json={**asked, "prompt": "Go on.", "context": [1, 2, 3]})
        running.memory.ingest_worker.flush()
        assert len({memory.conversation for memory in running.bank.memories()}) == 1
        assert [memory.metadata for memory in running.bank.memories()] == [{}] * 3


def test_what_is_not_understood_goes_on_byte_for_byte(tmp_path: Path) -> None:
    seen: list[tuple[str, bytes, bytes]] = []

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["method"] != "GET":
            # who answers here, and what is loaded, the proxy asks by itself beside the answers
            seen.append((scope["method"], scope["raw_path"] + b"?" + scope["query_string"], body))
        await send({"type": "http.response.start", "status": 418, "headers": [(b"x-kept", b"1")]})
        await send({"type": "http.response.body", "body": body[::-1]})

    bodies = [
        b'{"model": "m", "messages": "no list"}',
        b'{"model": 7, "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "m",  "messages": [{"role": "nobody", "content": "x"}]}',
        b'{"model": "m", "prompt": ""}',
        b"\xff\xfe no JSON",
        b"",
        b"[1, 2]",
        b"[" * 100_000,
    ]
    with proxied(tmp_path, echo) as running:
        for path in ("/api/chat", "/api/generate", "/v1/chat/completions", "/api/anything?a=b%20c", "/api/blobs/x"):
            for body in bodies:
                response = running.client.post(path, content=body)
                assert response.status_code == 418
                assert response.content == body[::-1]
                assert response.headers["x-kept"] == "1"
                assert seen[-1] == ("POST", path.encode() + (b"" if "?" in path else b"?"), body)
        assert running.client.request("PROPFIND", "/x").status_code == 418
        assert running.texts() == []
