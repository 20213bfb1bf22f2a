"""Prompt tokens that an agent's loop of tools costs, with memory and without: llama-server says what it evaluated.

    make servers
    python benchmarks/agent_loop.py MODEL.gguf [--rounds 20] [--server BINARY] [--json FILE]

The same turn runs twice through the proxy in front of llama-server: with memories put into the turn's text, and with
memory off. After each call of a tool the whole conversation is sent again with its result, as agents do. What is
evaluated is llama-server's own `timings.prompt_n`; the block's tokens are what the first call takes more. Tokens do not
depend on the machine. Instructions differ in one digit between the two runs, so that neither finds the other's prompt
in the cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from bankbench import CONSOLE, table, write_json

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.proxy_memory import ProxyMemory
from membank_llama.server.proxy.upstream import Upstream

FACTS = (
    "We deploy the billing service with the script tools/ship.sh, never by hand.",
    "The billing service runs on the host heron, port 5433.",
    "My sister Ana lives in Porto.",
)
QUESTION = "How do we deploy the billing service? Look into the tools folder and improve the script."
TOOL = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Reads a file and returns its lines.",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
}
RESULT = "def step_{n}(items):\n    return [item for item in items if item.size > {n}]\n" * 3


def binary(named: Path | None) -> Path:
    """llama-server, where it is."""
    cached = Path.home() / ".cache" / "membank-servers" / "llama-server"
    found = named or os.environ.get("MEMBANK_LLAMA_SERVER") or (cached if cached.is_file() else None)
    found = found or shutil.which("llama-server")
    if found is None:
        raise SystemExit("llama-server is not here: make servers, or name it with --server")
    return Path(found)


@contextmanager
def llama_server(program: Path, model: Path) -> Iterator[str]:
    """Its address, once it answers."""
    port = free_port()
    command = [str(program), "--model", str(model), "--port", str(port), "--host", "127.0.0.1"]
    command += ["--threads", "1", "--ctx-size", "8192", "--parallel", "1", "--no-warmup", "--jinja"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            while process.poll() is None:
                try:
                    if httpx.get(f"{url}/health").status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def served(app: Proxy) -> Iterator[str]:
    """The proxy on a port of its own."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, http="h11", log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def loop(client: httpx.Client, number: int, rounds: int, *, memory: bool) -> tuple[list[int], int]:
    """Tokens evaluated in each call, and how often memories were in the prompt."""
    system = f"You are agent number {number}, and careful. " + "Read before you write. " * 200
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}, {"role": "user", "content": QUESTION}]
    evaluated, remembered = [], 0
    for n in range(rounds + 1):
        body = {"model": "m", "messages": messages, "tools": [TOOL], "max_tokens": 4, "temperature": 0}
        response = client.post("/v1/chat/completions", json=body, headers={} if memory else {"x-membank": "off"})
        response.raise_for_status()
        evaluated.append(response.json()["timings"]["prompt_n"])
        remembered += response.headers["x-membank"] == "on"
        call = {"id": f"call_{n}", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "a"}'}}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{n}", "content": RESULT.format(n=n)})
    return evaluated, remembered


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("model", type=Path)
    made.add_argument("--rounds", type=int, default=20)
    made.add_argument("--server", type=Path)
    made.add_argument("--json", type=Path)
    given = made.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(llama_server(binary(given.server), given.model))
        bank = stack.enter_context(MemBank(MockAdapter(), folder / "bank"))
        bank.ingest_many([NewMemory(fact) for fact in FACTS])
        memory = ProxyMemory(bank, deadline=30)
        url = stack.enter_context(served(Proxy(Upstream(upstream), memory)))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=600))
        bare, _ = loop(client, 1, given.rounds, memory=False)
        told, remembered = loop(client, 2, given.rounds, memory=True)
    tokens = told[0] - bare[0]
    if remembered != given.rounds + 1:
        raise SystemExit(f"memories were in {remembered} of {given.rounds + 1} prompts")
    ratio = sum(told) / (sum(bare) + tokens)
    columns = ("prompt tokens evaluated", "first call", f"{given.rounds} round trips", "in all")
    rows = [
        (name, f"{tried[0]:,}", f"{sum(tried[1:]):,}", f"{sum(tried):,}")
        for name, tried in (("memory off", bare), ("with memory", told))
    ]
    table(f"{given.model.name}: a turn with {given.rounds} calls of a tool, a block of {tokens} tokens", columns, rows)
    CONSOLE.print(f"with memory / (without + one block): {ratio:.3f}")
    write_json(given.json, {"bare": bare, "told": told, "block": tokens, "ratio": ratio})


if __name__ == "__main__":
    main()
