"""`membank serve` in a process of its own, while it is attacked: who else is kept waiting, and how large it becomes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

FROZEN_SECONDS = 1.0
"""What another client may be kept waiting, on a machine that does nothing else."""
MOST_MEGABYTES = 1024


@dataclass
class Siege:
    """A server under attack. `slowest`: seconds that another client waited for ``GET /api/version`` at most."""

    url: str
    process: subprocess.Popen[bytes]
    slowest: float = 0.0
    answers: list[int] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def megabytes(self) -> int:
        """The most memory that the server has had."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(text.split("VmHWM:")[1].split()[0]) // 1024

    @contextmanager
    def watched(self) -> Iterator[None]:
        """ChatRequest as another client, all the while."""
        over = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=self.url, timeout=120) as client:
                while not over.is_set():
                    begun = time.monotonic()
                    with suppress(httpx.HTTPError):
                        self.answers.append(client.get("/api/version").status_code)
                    self.slowest = max(self.slowest, time.monotonic() - begun)
                    time.sleep(0.02)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield
        finally:
            over.set()
            asking.join()

    def ask(self, path: str, body: Any, timeout: float = 60, headers: dict[str, str] | None = None) -> int:
        """Send one request; its status, 0 where the connection broke, -1 where nobody waited for it any more."""
        content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        try:
            return httpx.post(self.url + path, content=content, timeout=timeout, headers=headers).status_code
        except httpx.TimeoutException:
            return -1
        except httpx.HTTPError:
            return 0

    def chat(self, *messages: dict[str, Any], model: str = "recall-tiny", timeout: float = 60, **more: Any) -> int:
        """ChatRequest for an answer of a few tokens."""
        options = {"num_predict": 4, "temperature": 0, **more.pop("options", {})}
        asked = {"model": model, "messages": list(messages), "stream": False, "options": options, **more}
        return self.ask("/api/chat", asked, timeout)

    def unharmed(self) -> None:
        """The server lives, answered others in time, and stayed small."""
        assert self.alive, "the server has ended"
        assert self.slowest < _patience(), f"another client waited {self.slowest:.1f} s"
        assert self.megabytes() < MOST_MEGABYTES
        assert self.answers.count(200) == len(self.answers)


def _patience() -> float:
    """On a machine where more is at work than there are processors, everybody waits."""
    return FROZEN_SECONDS * max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


def said(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


@contextmanager
def besieged(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> Iterator[Siege]:
    """`membank serve` with these arguments."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    homes = {"HOME": str(folder), "MEMBANK_MODELS": str(folder / "models"), "OLLAMA_MODELS": str(folder / "ollama")}
    command = [sys.executable, "-m", "membank_llama", "serve", "--port", str(port), "--threads", "1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--bank", str(folder / "bank"), *arguments],
            env={**os.environ, **homes, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", **(environment or {})},
            stdout=log,
            stderr=log,
        )
        siege = Siege(f"http://127.0.0.1:{port}", process)
        try:
            for _ in range(600):
                assert siege.alive, (folder / "log").read_text(encoding="utf-8")[-2000:]
                with suppress(httpx.HTTPError):
                    httpx.get(siege.url, timeout=10)
                    break
                time.sleep(0.1)
            yield siege
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()
