"""What was just said is there when it is asked at once, over real sockets."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.proxies import Running, proxied, user

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.types import Vector
from membank_llama.server.proxy import chat_handler


class Noted:
    """Answers as Ollama does, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/api/chat":
            self.asked.append(body.decode())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        last = {"model": "m", "message": {"role": "assistant", "content": "Noted, thank you."}, "done": True}
        await send({"type": "http.response.body", "body": json.dumps(last).encode() + b"\n"})


class Slow(MockAdapter):
    """Takes its time over what is learned."""

    def encode(self, text: str) -> Vector:
        if threading.current_thread().name.startswith("membank-learn"):
            time.sleep(0.1)
        return super().encode(text)


def tell_and_ask(running: Running, upstream: Noted, namespace: str, number: int, *, stream: bool) -> str:
    """Tell something and ask for it, in two conversations; what the model was asked then."""
    headers = {"X-Membank-Namespace": namespace}
    with httpx.Client(base_url=running.url, timeout=60, headers=headers) as client:
        for text in (
            f"The code of vault {number} of {namespace} is {number * 7919 + 1000}.",
            f"What is the code of vault {number} of {namespace}?",
        ):
            body = {"model": "m", "messages": [user(text)], "stream": stream}
            client.post("/api/chat", json=body).raise_for_status()
    return upstream.asked[-1]


@pytest.mark.parametrize("stream", [True, False])
def test_what_was_told_is_asked_at_once(tmp_path: Path, stream: bool) -> None:
    upstream = Noted()
    with proxied(tmp_path, upstream) as running:
        for number in range(4):
            for namespace in ("ana", "ben", "cleo"):
                prompt = tell_and_ask(running, upstream, namespace, number, stream=stream)
                assert str(number * 7919 + 1000) in prompt


def test_a_recall_waits_for_what_takes_longer_to_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_handler, "HELD_SECONDS", 0.001)
    upstream = Noted()
    with proxied(tmp_path, upstream, adapter=Slow()) as running:
        for number in range(3):
            assert str(number * 7919 + 1000) in tell_and_ask(running, upstream, "ana", number, stream=True)


def test_nobody_waits_for_another_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, store = threading.Event(), MockAdapter.encode

    def encode(self: MockAdapter, text: str) -> Vector:
        if "Elsewhere" in text and threading.current_thread().name.startswith("membank-learn"):
            assert stored.wait(300)
        return store(self, text)

    monkeypatch.setattr(MockAdapter, "encode", encode)
    upstream = Noted()
    with proxied(tmp_path, upstream, deadline=600.0) as running:
        tell_and_ask(running, upstream, "ana", 1, stream=True)
        elsewhere = {"model": "m", "messages": [user("Elsewhere it rains.")]}
        running.client.post("/api/chat", json=elsewhere, headers={"X-Membank-Namespace": "ben"})
        # whoever waited for the other one would wait for longer than this client does
        asked = {"model": "m", "messages": [user("What is the code of vault 1 of ana?")]}
        answer = running.client.post("/api/chat", json=asked, headers={"X-Membank-Namespace": "ana"})
        stored.set()
        assert answer.headers["x-membank"] == "on"
