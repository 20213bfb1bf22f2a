"""What `membank serve` costs: time to first byte, streaming, and many clients at once.

python benchmarks/proxy.py [--full] [--encoder GGUF] [--engram ADDRESS] [--json FILE]

Three processes: a stand-in for Ollama that answers at once, the proxy in front of it, and the clients here. Requests
to the bare stand-in and through the proxy alternate, so that a busy machine slows both. The encoder's time is taken in
the proxy, around the adapter, and shown apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from bankbench import CONSOLE, sentences, table, write_json

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.llama_cpp import LlamaCppAdapter
from membank_llama.adapters.mock import MockAdapter
from membank_llama.bank import MemBank
from membank_llama.proxy.app import Proxy
from membank_llama.proxy.memory import ProxyMemory
from membank_llama.proxy.polite import PoliteAdapter
from membank_llama.proxy.server import configured
from membank_llama.proxy.upstream import Upstream
from membank_llama.types import NewMemory, Vector

WORDS = 20
TOKEN_RATE = 200
WARM_UP = 40


# -- the other processes


class Timed(ModelAdapter):
    """An encoder whose questions are timed; what is learned is encoded on other threads."""

    def __init__(self, inner: ModelAdapter) -> None:
        self._inner = inner
        self.times: list[float] = []

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
                self.times.append(time.perf_counter() - start)

    def encode_batch(self, texts: Any) -> Vector:
        return self._inner.encode_batch(texts)


async def stand_in(scope: Any, receive: Any, send: Any) -> None:
    """Answers as Ollama does: as many pieces as asked for, at a rate, or at once."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    asked = json.loads(body or b"{}")
    options = asked.get("options") or {}
    count, rate = int(options.get("num_predict", 1)), float(options.get("rate", 0))
    openai = scope["path"].startswith("/v1/")
    kind = b"text/event-stream" if openai else b"application/x-ndjson"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    start = time.perf_counter()
    for number in range(count):
        if rate and (late := start + number / rate - time.perf_counter()) > 0:
            await asyncio.sleep(late)
        await send({"type": "http.response.body", "body": _piece(openai, f" word{number}"), "more_body": True})
    await send({"type": "http.response.body", "body": _last(openai), "more_body": False})


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
    uvicorn.run(stand_in, host="127.0.0.1", port=port, log_level="error", lifespan="off")


def run_proxy(port: int, upstream: str, bank: Path, encoder: Path | None, count: int, report: Path) -> None:
    inner: ModelAdapter = MockAdapter(384) if encoder is None else LlamaCppAdapter(encoder, n_threads=1)
    adapter = Timed(inner)
    with MemBank(PoliteAdapter(adapter), bank) as opened:
        if opened.store.registry.count() < count:
            texts = sentences(count, WORDS, seed=3)
            opened.ingest_many([NewMemory(f"{number} {text}") for number, text in enumerate(texts)])
            opened.flush()
        opened.recall("good morning", 1)
        adapter.times.clear()
        memory = ProxyMemory(opened, deadline=5.0)
        server = uvicorn.Server(configured(Proxy(Upstream(upstream), memory), "127.0.0.1", port))
        signal.signal(signal.SIGTERM, lambda *_: None)
        server.run()
    report.write_text(json.dumps(adapter.times), encoding="utf-8")
    inner.close()


# -- measuring


@contextmanager
def process(port: int, *arguments: object) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    command = [sys.executable, __file__, *map(str, arguments), "--port", str(port)]
    started = subprocess.Popen(command, env=os.environ)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            if started.poll() is not None:
                raise SystemExit(f"{arguments[1]} ended at its start")
            try:
                httpx.get(url + "/membank/status", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url, started
    finally:
        started.terminate()
        started.wait(120)


def first_byte(client: httpx.Client, text: str, path: str = "/api/chat", **headers: str) -> float:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True}
    start = time.perf_counter()
    with client.stream("POST", path, json=body, headers=headers) as response:
        pieces = response.iter_raw()
        next(pieces)
        spent = time.perf_counter() - start
        for _ in pieces:
            pass
    return spent


def paired(clients: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Times to the first byte, one of each client after the other, over and over."""
    questions = sentences(rounds + WARM_UP, 12, seed=11)
    times: dict[str, list[float]] = {name: [] for name in clients}
    for number, question in enumerate(questions):
        for name, ask in clients.items():
            spent = ask(f"{question} {number}?")
            if number >= WARM_UP:
                times[name].append(1000 * spent)
    return times


def shown(values: list[float]) -> list[str]:
    return [f"{statistics.median(values):.2f}", f"{np.percentile(values, 95):.2f}"]


def streamed(client: httpx.Client, count: int, rate: float) -> float:
    """Pieces a second."""
    options = {"num_predict": count, "rate": rate}
    body = {"model": "m", "messages": [{"role": "user", "content": f"count {time.time()}"}], "options": options}
    start = time.perf_counter()
    with client.stream("POST", "/api/chat", json=body) as response:
        for _ in response.iter_raw():
            pass
    return count / (time.perf_counter() - start)


async def _one(url: str, number: int, until: float, told: list[str]) -> tuple[int, int, list[float]]:
    errors, degraded, times = 0, 0, []
    headers = {"X-Membank-Namespace": f"client{number}"}
    async with httpx.AsyncClient(base_url=url, timeout=120, headers=headers) as client:
        turn = 0
        while time.perf_counter() < until:
            text = f"Secret {turn} of client {number} is {number * 100_000 + turn}."
            start = time.perf_counter()
            try:
                body = {"model": "m", "messages": [{"role": "user", "content": text}]}
                response = await client.post("/api/chat", json=body)
                if response.status_code == 200:
                    told.append(text)
                    degraded += response.headers["x-membank"] == "degraded"
                else:
                    errors += 1
            except httpx.HTTPError:
                errors += 1
            times.append(1000 * (time.perf_counter() - start))
            turn += 1
    return errors, degraded, times


async def crowd(url: str, clients: int, seconds: float) -> tuple[int, int, list[float], dict[int, list[str]]]:
    """Errors, answers without memory, times in ms, and what each client told."""
    told: dict[int, list[str]] = {number: [] for number in range(clients)}
    until = time.perf_counter() + seconds
    done = await asyncio.gather(*(_one(url, number, until, told[number]) for number in range(clients)))
    errors, degraded, times = zip(*done, strict=True)
    return sum(errors), sum(degraded), [one for of_client in times for one in of_client], told


def lost_and_crossed(bank: Path, told: dict[int, list[str]]) -> tuple[int, int]:
    held: dict[str, set[str]] = {}
    with MemBank(None, bank) as opened:
        for memory in opened.memories():
            held.setdefault(memory.namespace, set()).add(memory.text)
    lost = crossed = 0
    for number, texts in told.items():
        lost += len(set(texts) - held.get(f"client{number}", set()))
        mine = f"of client {number} "
        crossed += sum("of client" in text and mine not in text for text in held.get(f"client{number}", set()))
    return lost, crossed


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {"memories": options.n}
    encoder = ["--encoder", options.encoder] if options.encoder else []
    report = folder / "encoder.json"
    with ExitStack() as stack:
        bare, _ = stack.enter_context(process(options.base, "--role", "stand-in"))
        arguments = ("--upstream", bare, "--bank", folder / "bank", "--n", options.n, "--report", report)
        url, _ = stack.enter_context(process(options.base + 1, "--role", "proxy", *arguments, *encoder))
        plain, through = (stack.enter_context(httpx.Client(base_url=base, timeout=60)) for base in (bare, url))
        clients: dict[str, Any] = {
            "bare": lambda text: first_byte(plain, text),
            "memory off": lambda text: first_byte(through, text, **{"X-Membank": "off"}),
            "membank": lambda text: first_byte(through, text),
        }
        if options.engram:
            other = stack.enter_context(httpx.Client(base_url=options.engram, timeout=60))
            clients["engram-proxy"] = lambda text: first_byte(other, text)
        times = paired(clients, options.rounds)
        figures["first_byte_ms"] = {name: shown(values) for name, values in times.items()}
        rates = {}
        for name, count, rate in (("200 a second", 1000, TOKEN_RATE), ("as fast as it can", 20_000, 0)):
            pairs = [(streamed(plain, count, rate), streamed(through, count, rate)) for _ in range(3)]
            rates[name] = [statistics.median(column) for column in zip(*pairs, strict=True)]
        figures["streamed"] = rates
    # one question is encoded for each request, in their order; the first are the warm-up's
    encoding = 1000 * np.array(json.loads(report.read_text(encoding="utf-8"))[WARM_UP : WARM_UP + options.rounds])
    show_times(figures, times, encoding)
    rows = [[name, f"{a:,.0f}", f"{b:,.0f}", f"{b / a:.3f}"] for name, (a, b) in rates.items()]
    table("Streamed pieces a second", ["upstream's rate", "bare", "through the proxy", "ratio"], rows)
    return figures


def show_times(figures: dict[str, Any], times: dict[str, list[float]], encoding: Any) -> None:
    figures["encoder_ms"] = shown(encoding.tolist())
    rows = [[name, *shown(values)] for name, values in times.items()]
    rows.append(["of it, the encoder", *figures["encoder_ms"]])
    added = np.array(times["membank"]) - np.array(times["bare"])
    rows.append(["added, pair by pair", *shown(added.tolist())])
    apart = added - encoding
    figures["added_ms"] = shown(added.tolist())
    figures["added_without_encoder_ms"] = shown(apart.tolist())
    rows.append(["added, the encoder apart", *figures["added_without_encoder_ms"]])
    table(f"Time to first byte, {figures['memories']:,} memories", ["", "p50 ms", "p95 ms"], rows)


def load(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    bank = folder / "crowd"
    with ExitStack() as stack:
        bare, _ = stack.enter_context(process(options.base + 2, "--role", "stand-in"))
        arguments = ("--upstream", bare, "--bank", bank, "--n", 0, "--report", folder / "crowd.json")
        url, _ = stack.enter_context(process(options.base + 3, "--role", "proxy", *arguments))
        start = time.perf_counter()
        errors, degraded, times, told = asyncio.run(crowd(url, options.clients, options.seconds))
        spent = time.perf_counter() - start
    lost, crossed = lost_and_crossed(bank, told)
    sent = sum(map(len, told.values()))
    rows = [
        ["clients, each in a namespace", str(options.clients)],
        ["seconds", f"{spent:.0f}"],
        ["requests", f"{len(times):,}"],
        ["requests a second", f"{len(times) / spent:,.0f}"],
        ["p50 / p95 ms", " / ".join(shown(times))],
        ["errors", str(errors)],
        ["answered without memory, late", str(degraded)],
        ["memories told", f"{sent:,}"],
        ["lost", str(lost)],
        ["in another's namespace", str(crossed)],
    ]
    table("Many at once", ["", ""], rows)
    return {
        "errors": errors,
        "lost": lost,
        "crossed": crossed,
        "told": sent,
        "requests": len(times),
        "ms": shown(times),
    }


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--n", type=int, default=10_000, help="memories in the namespace that is asked")
    made.add_argument("--rounds", type=int, default=200, help="requests of each kind")
    made.add_argument("--clients", type=int, default=64)
    made.add_argument("--seconds", type=float, default=10, help="of many clients at once")
    made.add_argument("--full", action="store_true", help="1,000 rounds, 120 seconds")
    made.add_argument("--encoder", type=Path, help="a GGUF that encodes; default: hashed words")
    made.add_argument("--engram", help="the address of an engram-proxy in front of the stand-in, to compare with")
    made.add_argument("--base", type=int, default=18_080, help="the first of four ports")
    made.add_argument("--json", type=Path, help="write the figures here")
    for name in ("role", "upstream", "bank", "report", "port"):
        made.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.role == "stand-in":
        run_stand_in(int(options.port))
        return 0
    if options.role == "proxy":
        paths = Path(options.bank), options.encoder, options.n, Path(options.report)
        run_proxy(int(options.port), options.upstream, *paths)
        return 0
    if options.full:
        options.rounds, options.seconds = 1000, 120.0
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
        figures["load"] = load(options, Path(folder))
    CONSOLE.print("clients, proxy and upstream share the machine's processors; one thread encodes")
    write_json(options.json, figures)
    crowd_figures = figures["load"]
    return 1 if crowd_figures["errors"] or crowd_figures["lost"] or crowd_figures["crossed"] else 0


if __name__ == "__main__":
    sys.exit(main())
