"""A proxy behind a real socket, in front of an engine behind another one, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.hashing import MockAdapter
from membank_llama.memory.bank import MemBank
from membank_llama.server.engine.app import Engine, EngineSettings
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.proxy_memory import ProxyMemory
from membank_llama.server.proxy.upstream import Upstream
from support.asgi_server import serve

GREEDY = {"temperature": 0, "seed": 1}


@dataclass
class Running:
    """What a test works with."""

    url: str
    client: httpx.Client
    bank: MemBank
    memory: ProxyMemory
    upstream: str

    def texts(self, namespace: str | None = None) -> list[str]:
        """All memories, once what was said is stored."""
        self.memory.ingest_worker.flush()
        return [memory.text for memory in self.bank.memories(namespace)]

    def chat(self, *messages: dict[str, Any], path: str = "/api/chat", **body: Any) -> httpx.Response:
        headers = body.pop("headers", {})
        asked = {"model": "recall-tiny", "messages": list(messages), "stream": False, "options": GREEDY, **body}
        response = self.client.post(path, json=asked, headers=headers)
        self.memory.ingest_worker.flush()
        return response

    def say(self, text: str, **body: Any) -> str:
        """One message, and its reply."""
        return str(self.chat(user(text), **body).json()["message"]["content"])


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def engine_of(folder: Path, *models: Path, **settings: Any) -> Engine:
    return Engine(EngineSettings(store=folder / "models", models=models, use_ollama=False, n_threads=1, **settings))


@contextmanager
def proxied(
    folder: Path,
    behind: Any,
    *,
    adapter: ModelAdapter | None = None,
    deadline: float = 30.0,
    **settings: Any,
) -> Iterator[Running]:
    """A proxy in front of an ASGI app that is served by itself."""
    with ExitStack() as stack:
        upstream = stack.enter_context(serve(behind))
        bank = stack.enter_context(MemBank(adapter or MockAdapter(), folder / "bank"))
        memory = ProxyMemory(bank, deadline=deadline)
        url = stack.enter_context(serve(Proxy(Upstream(upstream), memory, **settings)))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        yield Running(url, client, bank, memory, upstream)
