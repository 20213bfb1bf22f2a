"""What `membank serve` costs: time to first byte, streaming, and many clients at once.

    python benchmarks/proxy.py [--full] [--encoder GGUF] [--engram EXECUTABLE] [--json FILE]

A stand-in for Ollama that answers at once, the proxy in front of it, and the clients: three processes. Requests to the
bare stand-in and through the proxy take turns, over connections kept alive, so that a busy machine slows both. Every
request says something new, which is stored meanwhile. Ends with 1 where a request failed, or a memory was lost or got
into another namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from bankbench import CONSOLE, sentences, table, write_json
from proxybench import engram, role, run_proxy, run_stand_in

from membank_llama.memory.bank import MemBank

WARM_UP = 50
QUESTION_WORDS = 12
TOKEN_RATE = 200
PIECES = 20_000
STREAMS = 5
BARS = {"p50": 3.0, "p95": 10.0, "streamed": 0.99}


@dataclass(frozen=True)
class Answered:
    """One request: milliseconds to the first byte of its body, and of them those of recall as the proxy saw it."""

    first_byte: float
    recall: float


# -- time to first byte


def ask(client: httpx.Client, text: str, **headers: str) -> Answered:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    start = time.perf_counter()
    with client.stream("POST", "/api/chat", json=body, headers=headers) as response:
        pieces = response.iter_raw()
        next(pieces)
        spent = time.perf_counter() - start
        for _ in pieces:
            pass
        response.raise_for_status()
        return Answered(1000 * spent, float(response.headers.get("x-membank-recall-ms", 0)))


def in_turns(asking: dict[str, Callable[[str], Answered]], rounds: int) -> dict[str, list[Answered]]:
    """ChatRequest each in its turn, over and over; what comes of the first rounds is thrown away."""
    answers: dict[str, list[Answered]] = {name: [] for name in asking}
    for number, question in enumerate(sentences(rounds + WARM_UP, QUESTION_WORDS, seed=11)):
        for name, one in asking.items():
            answered = one(f"{question} {number}?")
            if number >= WARM_UP:
                answers[name].append(answered)
    return answers


def added(answers: dict[str, list[Answered]], name: str, apart: Any = 0.0) -> tuple[float, float]:
    """Milliseconds over the bare upstream: the difference of the medians, and 95 % of the pairs' differences."""
    bare, through = (np.array([one.first_byte for one in answers[key]]) for key in ("bare", name))
    through = through - apart
    return float(np.median(through) - np.median(bare)), float(np.percentile(through - bare, 95))


def spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), float(np.percentile(values, 95))


def first_bytes(
    answers: dict[str, list[Answered]], encoding: dict[str, list[float]], count: int, rounds: int
) -> dict[str, Any]:
    """The figures of one run, and their table; `encoding`: milliseconds of every question, by who asked for it."""
    figures: dict[str, Any] = {name: spread([one.first_byte for one in row]) for name, row in answers.items()}
    figures["membank, its recall"] = spread([one.recall for one in answers["membank"]])
    for name, values in encoding.items():
        # one question is encoded for each request, in their order
        taken = values[-rounds:] if len(values) >= rounds else values
        figures[f"{name}, its encoder"] = spread(taken)
        figures[f"{name}, added"] = added(answers, name)
        apart = np.array(taken) if len(taken) == rounds else statistics.median(taken)
        figures[f"{name}, added, encoder apart"] = added(answers, name, apart)
    figures["memory off, added"] = added(answers, "memory off")
    rows = [[name, f"{p50:.2f}", f"{p95:.2f}"] for name, (p50, p95) in figures.items()]
    rows.append(["bar: membank, added, encoder apart", f"{BARS['p50']:.0f}", f"{BARS['p95']:.0f}"])
    table(f"time to first byte, {count:,} memories, {rounds:,} rounds", ["", "p50 ms", "p95 ms"], rows)
    return figures


# -- streams


def streamed(client: httpx.Client, count: int, rate: float) -> float:
    """Pieces a second, from the request to the last byte."""
    options = {"num_predict": count, "rate": rate}
    body = {"model": "m", "messages": [{"role": "user", "content": f"count {time.time()}"}], "options": options}
    start = time.perf_counter()
    lines = 0
    with client.stream("POST", "/api/chat", json=body) as response:
        for piece in response.iter_raw():
            lines += piece.count(b"\n")
    spent = time.perf_counter() - start
    if lines != count + 1:
        raise SystemExit(f"{count + 1 - lines} of {count + 1} lines of a stream are missing")
    return count / spent


def streams(clients: dict[str, httpx.Client], seconds: float) -> dict[str, dict[str, tuple[float, float]]]:
    """Pieces a second of each client, and their ratio to the bare stand-in's: medians of several runs in turns."""
    figures: dict[str, dict[str, tuple[float, float]]] = {}
    speeds = ((f"{TOKEN_RATE} a second", int(seconds * TOKEN_RATE), TOKEN_RATE), ("as fast as it can", PIECES, 0))
    for name, count, rate in speeds:
        runs = [{who: streamed(client, count, rate) for who, client in clients.items()} for _ in range(STREAMS)]
        figures[name] = {
            who: (
                statistics.median(run[who] for run in runs),
                statistics.median(run[who] / run["bare"] for run in runs),
            )
            for who in clients
        }
    rows = [
        [f"{name}, {who}", f"{pieces:,.0f}", f"{ratio:.3f}"]
        for name, of_each in figures.items()
        for who, (pieces, ratio) in of_each.items()
    ]
    columns = ("the upstream sends", "pieces a second", "of bare")
    table(f"streams (bar {BARS['streamed']} at {TOKEN_RATE} a second)", columns, rows)
    return figures


def beside(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One client at a time: the bare stand-in, and what stands in front of it."""
    report = folder / "encoder.json"
    encoder = ["--encoder", options.encoder] if options.encoder else []
    with ExitStack() as stack:
        opened = stack.enter_context

        def client(url: str) -> httpx.Client:
            return opened(httpx.Client(base_url=url, timeout=60))

        upstream = opened(role("stand-in"))
        CONSOLE.print(f"storing {options.n:,} memories …")
        arguments = ("--upstream", upstream, "--bank", folder / "bank", "--n", options.n, "--report", report, *encoder)
        clients = {"bare": client(upstream), "membank": client(opened(role("proxy", *arguments)))}
        asking: dict[str, Callable[[str], Answered]] = {
            "bare": lambda text: ask(clients["bare"], text),
            "memory off": lambda text: ask(clients["membank"], text, **{"X-Membank": "off"}),
            "membank": lambda text: ask(clients["membank"], text),
        }
        if options.engram:
            other = client(opened(engram(options.engram, upstream, folder, options.n)))
            asking["engram-proxy"] = lambda text: ask(other, text)
        answers = in_turns(asking, options.rounds)
        encoding = {}
        if options.engram:
            clients["engram-proxy"] = other
            encoding["engram-proxy"] = clients["bare"].get("/embedding").json()["seconds"]
        rates = streams(clients, options.stream)
    # the streams were questions too
    encoding["membank"] = json.loads(report.read_text(encoding="utf-8"))[: -2 * STREAMS]
    milliseconds = {name: [1000 * one for one in values] for name, values in encoding.items()}
    figures = first_bytes(answers, milliseconds, options.n, options.rounds)
    return {"memories": options.n, "rounds": options.rounds, "first_byte_ms": figures, "streamed": rates}


# -- many at once


@dataclass
class Client:
    """One of many: what it told, and what it saw."""

    number: int
    told: list[str] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    errors: int = 0
    late: int = 0
    reminded: int = 0
    crossed: int = 0

    async def talk(self, url: str, until: float) -> None:
        """Tell a fact, ask for it, and so on."""
        headers = {"X-Membank-Namespace": f"client{self.number}"}
        async with httpx.AsyncClient(base_url=url, timeout=120, headers=headers) as client:
            turn = 0
            while time.perf_counter() < until:
                await self._say(client, f"Secret {turn} of client {self.number} is {self.number * 100_000 + turn}.")
                await self._say(client, f"What is secret {turn} of client {self.number} ?")
                turn += 1

    async def _say(self, client: httpx.AsyncClient, text: str) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        start = time.perf_counter()
        try:
            response = await client.post("/api/chat", json=body)
        except httpx.HTTPError:
            self.errors += 1
            return
        self.milliseconds.append(1000 * (time.perf_counter() - start))
        if response.status_code != 200:
            self.errors += 1
            return
        self.told.append(text)
        self.late += response.headers["x-membank"] == "degraded"
        self.reminded += response.headers["x-membank"] == "on"
        # the stand-in says whose facts were in the prompt that it got
        self.crossed += response.headers["x-owners"] != str(self.number)


async def crowd(url: str, count: int, seconds: float) -> list[Client]:
    clients = [Client(number) for number in range(count)]
    until = time.perf_counter() + seconds
    await asyncio.gather(*(client.talk(url, until) for client in clients))
    return clients


def lost_and_crossed(bank: Path, clients: Sequence[Client]) -> tuple[int, int]:
    """How many of the texts told are not in the bank, and how many are in another's namespace."""
    held: dict[str, set[str]] = {}
    with MemBank(None, bank) as opened:
        for memory in opened.memories():
            held.setdefault(memory.namespace, set()).add(memory.text)
    lost = crossed = 0
    for client in clients:
        mine = held.get(f"client{client.number}", set())
        lost += len(set(client.told) - mine)
        crossed += sum("of client" in text and f"of client {client.number} " not in text for text in mine)
    known = {f"client{client.number}" for client in clients}
    return lost, crossed + sum(len(texts) for name, texts in held.items() if name not in known)


def load(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    bank = folder / "crowd"
    encoder = ["--encoder", options.encoder] if options.encoder else []
    with ExitStack() as stack:
        upstream = stack.enter_context(role("stand-in"))
        arguments = ("--upstream", upstream, "--bank", bank, "--n", 0, "--report", folder / "crowd.json", *encoder)
        url = stack.enter_context(role("proxy", *arguments))
        start = time.perf_counter()
        clients = asyncio.run(crowd(url, options.clients, options.seconds))
        spent = time.perf_counter() - start
    lost, crossed = lost_and_crossed(bank, clients)
    times = [one for client in clients for one in client.milliseconds]
    p50, p95 = spread(times)
    figures = {
        "clients": options.clients,
        "seconds": round(spent, 1),
        "requests": len(times),
        "requests_a_second": len(times) / spent,
        "p50_ms": p50,
        "p95_ms": p95,
        "errors": sum(client.errors for client in clients),
        "with_memory": sum(client.reminded for client in clients),
        "late": sum(client.late for client in clients),
        "told": sum(len(client.told) for client in clients),
        "lost": lost,
        "crossed": crossed,
        "crossed_in_prompts": sum(client.crossed for client in clients),
    }
    rows = [
        ["clients, each with a namespace", f"{options.clients}"],
        ["seconds", f"{spent:.0f}"],
        ["requests, a second", f"{len(times):,}, {figures['requests_a_second']:,.0f}"],
        ["whole answer, p50 / p95", f"{p50:,.0f} / {p95:,.0f} ms"],
        ["prompts with memories in them", f"{figures['with_memory']:,}"],
        ["passed on without, recall being late", f"{figures['late']:,}"],
        ["errors", f"{figures['errors']}"],
        ["texts told, lost", f"{figures['told']:,}, {lost}"],
        ["in another's namespace, in another's prompt", f"{crossed}, {figures['crossed_in_prompts']}"],
    ]
    table("many at once", ["", ""], rows)
    return figures


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--n", type=int, default=10_000, help="memories in the namespace that is asked")
    made.add_argument("--rounds", type=int, default=500, help="requests of each kind")
    made.add_argument("--stream", type=float, default=3, help="seconds of each stream at the rate of a model")
    made.add_argument("--clients", type=int, default=64, help="clients at once")
    made.add_argument("--seconds", type=float, default=10, help="how long they talk")
    made.add_argument("--full", action="store_true", help="2,000 rounds, streams of 10 s, clients for 120 s")
    made.add_argument("--encoder", type=Path, help="a GGUF that encodes; default: hashed words")
    made.add_argument("--engram", type=Path, help="the executable of an engram-proxy to compare with")
    made.add_argument("--json", type=Path, help="write the figures here")
    for name in ("role", "upstream", "bank", "report", "port"):
        made.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.role == "stand-in":
        run_stand_in(int(options.port))
        return 0
    if options.role == "proxy":
        where = Path(options.bank), options.encoder, options.n, Path(options.report)
        run_proxy(int(options.port), options.upstream, *where)
        return 0
    if options.full:
        options.rounds, options.stream, options.seconds = 2000, 10.0, 120.0
    with tempfile.TemporaryDirectory(prefix="membank-bench-") as folder:
        figures = beside(options, Path(folder))
        figures["load"] = load(options, Path(folder))
    CONSOLE.print("clients, proxy and upstream share the machine's cores; one thread encodes")
    write_json(options.json, figures)
    wrong = ("errors", "lost", "crossed", "crossed_in_prompts")
    return 1 if any(figures["load"][name] for name in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
