"""Connections on which no request comes are closed; those that wait for an answer are not."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import httpx
import pytest
from serving import serve

from membank_llama.proxy import server


async def patient(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.6)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"at last"})


def test_a_head_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    with serve(patient, http=server.PunctualProtocol) as url:
        port = httpx.URL(url).port or 0
        for sent in (b"", b"POST /api/chat HTTP/1.1\r\nhost: x\r\n"):
            with socket.create_connection(("127.0.0.1", port), 10) as raw:
                raw.sendall(sent)
                assert raw.recv(1024) == b""
        with socket.create_connection(("127.0.0.1", port), 10) as dripping:
            began = time.monotonic()
            with pytest.raises(OSError):
                while time.monotonic() - began < 10:
                    dripping.sendall(b"x")
                    time.sleep(0.05)


def test_an_answer_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    with serve(patient, http=server.PunctualProtocol) as url, httpx.Client(base_url=url, timeout=10) as client:
        assert client.get("/").text == "at last"
        assert client.post("/", content=b"x").text == "at last"
