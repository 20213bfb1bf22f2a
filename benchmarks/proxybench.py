"""The processes that benchmarks/proxy.py puts side by side: a stand-in for Ollama, the proxy, and an engram-proxy.

The stand-in answers at once, so that what is measured is what stands in front of it. It also gives out vectors of
hashed words where it is asked for them, and says in a header whose facts it read in a prompt.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from bankbench import sentences

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.hashing import MockAdapter
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.types import NewMemory, Vector
from membank_llama.memory.bank import MemBank
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.priority_adapter import PriorityAdapter
from membank_llama.server.proxy.proxy_memory import ProxyMemory
from membank_llama.server.proxy.upstream import Upstream
from membank_llama.server.proxy.uvicorn_config import configured

WORDS = 20
DIM = 384
EMBEDDED_DIM = 1024
START_SECONDS = 120.0
IMPORT_SECONDS = 1800.0
SETTLED_SECONDS = 5.0

_OWNER = re.compile(rb"of client (\d+) ")
_CHATS = ("/api/chat", "/v1/chat/completions")


def memories(count: int) -> list[str]:
    """The texts that the namespace holds which is asked."""
    return [f"{text} {number}" for number, text in enumerate(sentences(count, WORDS, seed=3))]


# -- the stand-in


class StandIn:
    """Answers as Ollama does: as many pieces as `num_predict` says, `rate` a second, or as fast as it can."""

    def __init__(self) -> None:
        self._embedder = MockAdapter(EMBEDDED_DIM)
        self._embedding: list[float] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        asked = json.loads(body or b"{}")
        if scope["path"] in _CHATS:
            await _chat(scope["path"], asked, body, send)
        else:
            answer = json.dumps(self._other(scope["path"], asked)).encode()
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})

    def _other(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        if path == "/api/embed":
            start = time.perf_counter()
            vectors = [self._embedder.encode(text).tolist() for text in asked["input"]]
            self._embedding.append(time.perf_counter() - start)
            return {"model": asked["model"], "embeddings": vectors}
        if path == "/api/show":
            # a size at which engram-proxy injects as many tokens as membank does
            return {"details": {"parameter_size": "8B"}, "capabilities": ["completion"]}
        if path == "/embedding":
            return {"seconds": self._embedding}
        return {"models": []}


async def _chat(path: str, asked: dict[str, Any], body: bytes, send: Any) -> None:
    options = asked.get("options") or {}
    count, rate = int(options.get("num_predict", 1)), float(options.get("rate", 0))
    openai = path.startswith("/v1/")
    kind = b"text/event-stream" if openai else b"application/x-ndjson"
    owners = b",".join(sorted(set(_OWNER.findall(body))))
    headers = [(b"content-type", kind), (b"x-owners", owners)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    start = time.perf_counter()
    for number in range(count):
        if rate and (early := start + number / rate - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        await send({"type": "http.response.body", "body": _piece(openai, f" word{number}"), "more_body": True})
    await send({"type": "http.response.body", "body": _last(openai)})


def _piece(openai: bool, text: str) -> bytes:
    if openai:
        chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"
    return json.dumps({"model": "m", "message": {"role": "assistant", "content": text}, "done": False}).encode() + b"\n"


def _last(openai: bool) -> bytes:
    if openai:
        chunk = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        return b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
    return b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n'


def run_stand_in(port: int) -> None:
    uvicorn.run(StandIn(), host="127.0.0.1", port=port, http="h11", log_level="error", lifespan="off")


# -- the proxy


class Timed(ModelAdapter):
    """An encoder whose questions are timed; what is learned is encoded on another thread."""

    def __init__(self, inner: ModelAdapter) -> None:
        self._inner = inner
        self.seconds: list[float] = []

    @property
    def hidden_dim(self) -> int:
        return self._inner.hidden_dim

    @property
    def name(self) -> str:
        return self._inner.name

    def model_id(self) -> str:
        return self._inner.model_id()

    def encode(self, text: str) -> Vector:
        start = time.perf_counter()
        try:
            return self._inner.encode(text)
        finally:
            if threading.current_thread().name.startswith("membank-recall"):
                self.seconds.append(time.perf_counter() - start)

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        return self._inner.encode_batch(texts)


def run_proxy(port: int, upstream: str, bank: Path, encoder: Path | None, count: int, report: Path) -> None:
    """Serve as `membank serve` does; leave the seconds that each question took to encode in `report`."""
    logging.getLogger("membank_llama").setLevel(logging.ERROR)
    inner: ModelAdapter = MockAdapter(DIM) if encoder is None else LlamaCppAdapter(encoder, n_threads=1)
    adapter = Timed(inner)
    with MemBank(PriorityAdapter(adapter), bank) as opened:
        if count:
            opened.ingest_many([NewMemory(text) for text in memories(count)], batch_size=512)
            opened.flush()
        server = uvicorn.Server(configured(Proxy(Upstream(upstream), ProxyMemory(opened)), "127.0.0.1", port))
        signal.signal(signal.SIGTERM, lambda *_: None)
        server.run()
    report.write_text(json.dumps(adapter.seconds), encoding="utf-8")
    inner.close()


# -- starting them


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def role(name: str, *arguments: object) -> Iterator[str]:
    """Another process of this benchmark, `--role NAME`; gives its address."""
    port = free_port()
    script = Path(__file__).with_name("proxy.py")
    command = [sys.executable, str(script), "--role", name, "--port", str(port), *map(str, arguments)]
    with _running(command, port) as url:
        yield url


@contextmanager
def engram(executable: Path, upstream: str, folder: Path, count: int) -> Iterator[str]:
    """An engram-proxy that holds the same memories; gives its address."""
    port = free_port()
    notes = folder / "notes.md"
    notes.write_text("\n".join(f"- {text}" for text in memories(count)) + "\n", encoding="utf-8")
    settings = {"ENGRAM_UPSTREAM": upstream, "ENGRAM_SERVICES": upstream, "ENGRAM_DB": str(folder / "engram.db")}
    env = os.environ | settings | {"ENGRAM_PORT": str(port), "HOME": str(folder)}
    command = [str(executable), "import", str(notes)]
    subprocess.run(command, env=env, check=True, timeout=IMPORT_SECONDS, stdout=subprocess.DEVNULL)
    with _running([str(executable), "up"], port, env, quiet=True) as url:
        _settled(upstream)
        yield url


def _settled(upstream: str) -> None:
    """Wait until nothing is embedded any more: at its first start it embeds all that was imported once more."""
    before, now = -1, 0
    while now > before:
        time.sleep(SETTLED_SECONDS)
        before, now = now, len(httpx.get(upstream + "/embedding", timeout=60).json()["seconds"])


@contextmanager
def _running(command: list[str], port: int, env: dict[str, str] | None = None, *, quiet: bool = False) -> Iterator[str]:
    output = subprocess.DEVNULL if quiet else None
    started = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + START_SECONDS
        while not _is_up(url):
            if started.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"did not start: {' '.join(command)}")
            time.sleep(0.1)
        yield url
    finally:
        started.terminate()
        started.wait(START_SECONDS)


def _is_up(url: str) -> bool:
    try:
        httpx.get(url + "/api/tags", timeout=5)
    except httpx.TransportError:
        return False
    return True
