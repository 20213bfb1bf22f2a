"""Connections on which no request comes are closed; those that wait for an answer are not."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.asgi_server import serve
from support.banks import python

from membank_llama.server.proxy import uvicorn_config


async def patient(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.6)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"at last"})


async def reading(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await patient(scope, receive, send)


def test_a_head_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_config, "HEAD_SECONDS", 0.3)
    with serve(patient, http=uvicorn_config.PunctualProtocol) as url:
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


def opened(port: int, sent: bytes = b"") -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", port), 10)
    raw.sendall(sent)
    return raw


def is_closed(raw: socket.socket) -> bool:
    raw.settimeout(0.01)
    try:
        return raw.recv(4096) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_idle_connections_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_config, "most_connections", lambda: 10)
    with ExitStack() as stack, serve(reading, http=uvicorn_config.PunctualProtocol) as url:
        port = httpx.URL(url).port or 0
        busy = stack.enter_context(opened(port, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"))
        upload = stack.enter_context(opened(port, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1"))
        time.sleep(0.1)
        idle = [stack.enter_context(opened(port, part)) for part in (b"", b"GET / HT") * 15]
        assert httpx.get(url, timeout=10).text == "at last"
        assert is_closed(idle[0])
        assert not is_closed(idle[-1])
        assert len([raw for raw in idle if not is_closed(raw)]) <= 10
        # who is being answered stays, and who still sends goes last
        busy.settimeout(10)
        assert b"at last" in busy.recv(4096) + busy.recv(4096)
        assert not is_closed(upload)
        slow = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1"
        for _ in range(40):
            stack.enter_context(opened(port, slow))
        assert httpx.get(url, timeout=10).text == "at last"
        assert is_closed(upload)


def test_a_new_client_comes_in_where_the_descriptors_are_few(tmp_path: Path) -> None:
    """A process of its own with 512 descriptors, and more idle connections than that."""
    program = """if True:
        import resource, sys, uvicorn
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
        from membank_llama.server.proxy.uvicorn_config import configured
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                while True:
                    kind = (await receive())["type"]
                    await send({"type": kind + ".complete"})
                    if kind == "lifespan.shutdown":
                        return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"here"})
        uvicorn.Server(configured(app, "127.0.0.1", int(sys.argv[1]))).run()
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = python(program, port)
    try:
        with ExitStack() as stack:
            deadline = time.monotonic() + 30
            while True:
                try:
                    stack.enter_context(opened(port))
                    break
                except OSError:
                    assert process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.05)
            for _ in range(700):
                stack.enter_context(opened(port))
            assert httpx.get(f"http://127.0.0.1:{port}/", timeout=20).text == "here"
    finally:
        process.kill()
        process.communicate(timeout=30)


async def slower(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(1.5)
    await patient(scope, receive, send)


def test_an_answer_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_config, "HEAD_SECONDS", 1.0)
    with serve(slower, http=uvicorn_config.PunctualProtocol) as url, httpx.Client(base_url=url, timeout=10) as client:
        assert client.get("/").text == "at last"
        assert client.post("/", content=b"x").text == "at last"
