"""`membank serve` as people start it: a process of its own, for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MEMBANK_MODELS": str(folder / "own-models"),
        "OLLAMA_MODELS": str(folder / "no-ollama"),
        "HOME": str(folder),
        "COLUMNS": "100",
    }


@contextmanager
def started(folder: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    port = free_port()
    log = (folder / "serve.log").open("w+", encoding="utf-8")
    command = [sys.executable, "-m", "membank_llama", "serve", "--port", str(port), "--threads", "1"]
    command += ["--bank", str(folder / "bank"), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment(folder))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    client.get("/")
                    break
                except httpx.ConnectError:
                    assert process.poll() is None, (folder / "serve.log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield process, client
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        log.close()
