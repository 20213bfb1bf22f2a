"""What MCP adds to a search: `memory_search` of `membank mcp` over its pipes, beside `bank.recall` in this process.

    python benchmarks/mcp_latency.py [--encoder MODEL.gguf] [--questions 300] [--threads 1] [--json FILE]

A bank of the facts and notes of everyday/ is made with the encoder, or by words alone. Then each question is asked in
turn in this process, over the pipes with nothing but JSON at this end, and with the SDK's own client, whose work is in
its figure; the order changes from question to question. What is asked is the same in all three: the eight best.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from bankbench import table, write_json
from everyday import lines
from mcp import StdioServerParameters, stdio_client
from mcp.client.client import Client

from membank_llama import LlamaCppAdapter, MemBank, NewMemory
from membank_llama.adapters.hashing import WordsAdapter

LIMIT = 8
ROOT = Path(__file__).resolve().parent.parent


class Pipes:
    """`membank mcp` as a process, spoken to line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)

    @classmethod
    async def open(cls, command: list[str], environment: dict[str, str]) -> Pipes:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, env=environment
        )
        made = cls(process)
        client = {"name": "bench", "version": "1"}
        await made.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
        made.tell({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return made

    def tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def ask(self, method: str, **params: Any) -> Any:
        assert self._process.stdout is not None
        self.tell({"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params})
        answer = json.loads(await self._process.stdout.readline())
        if "result" not in answer:
            raise SystemExit(f"{method}: {answer}")
        return answer["result"]

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


def told() -> tuple[list[str], list[str]]:
    """Facts and notes, and the questions."""
    pairs = [line.split(" | ") for line in lines("facts")]
    return [pair[0] for pair in pairs] + lines("notes"), [pair[1] for pair in pairs] + lines("unrelated")


async def measure(bank: MemBank, command: list[str], questions: list[str], quiet: TextIO) -> dict[str, list[float]]:
    """Milliseconds of each question, by way."""
    spent: dict[str, list[float]] = defaultdict(list)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    async with AsyncExitStack() as stack:
        pipes = await Pipes.open(command, environment)
        stack.push_async_callback(pipes.close)
        parameters = StdioServerParameters(command=command[0], args=command[1:], env=environment)
        client = await stack.enter_async_context(Client(stdio_client(parameters, quiet)))

        async def here(question: str) -> None:
            bank.recall(question, LIMIT)

        async def by_pipes(question: str) -> None:
            await pipes.ask("tools/call", name="memory_search", arguments={"query": question, "limit": LIMIT})

        async def by_client(question: str) -> None:
            await client.call_tool("memory_search", {"query": question, "limit": LIMIT})

        ways: dict[str, Callable[[str], Awaitable[None]]] = {
            "bank.recall": here, "memory_search, pipes": by_pipes, "memory_search, the SDK's client": by_client,
        }  # fmt: skip
        for question in questions[:20]:
            for ask in ways.values():
                await ask(question)
        for number, question in enumerate(questions):
            names = list(ways)
            for name in names[number % 3 :] + names[: number % 3]:
                start = time.perf_counter()
                await ways[name](question)
                spent[name].append(1000 * (time.perf_counter() - start))
    return spent


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--encoder", type=Path)
    made.add_argument("--questions", type=int, default=300)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--json", type=Path)
    given = made.parse_args()
    texts, asked = told()
    questions = list(itertools.islice(itertools.cycle(asked), given.questions))
    adapter = LlamaCppAdapter(given.encoder, n_threads=given.threads) if given.encoder else WordsAdapter()
    with tempfile.TemporaryDirectory() as folder, adapter:
        path = Path(folder) / "bank"
        with MemBank(adapter, path) as bank:
            bank.ingest_many([NewMemory(text) for text in texts])
            bank.flush()
        command = [sys.executable, "-m", "membank_llama", "mcp", "--bank", str(path), "--threads", str(given.threads)]
        with MemBank(adapter, path, read_only=True) as bank:
            bank.recall("good morning", 1)
            with Path(os.devnull).open("w", encoding="utf-8") as quiet:
                spent = asyncio.run(measure(bank, command, questions, quiet))
    base = median(spent["bank.recall"])
    rows = []
    for name, times in spent.items():
        p95 = sorted(times)[int(0.95 * len(times))]
        rows.append((name, f"{median(times):.2f}", f"{p95:.2f}", f"{median(times) - base:+.2f}"))
    table(f"{len(texts)} memories, {adapter.name}, ms", ("one search", "p50", "p95", "p50 beside recall"), rows)
    write_json(given.json, {name: {"p50": median(times)} for name, times in spent.items()})


if __name__ == "__main__":
    main()
