"""llama.cpp's own llama-server, where `make servers` has built it or it is installed, and processes of it for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.serve_process import free_port

VARIABLE = "MEMBANK_LLAMA_SERVER"
NAME = "llama-server.exe" if os.name == "nt" else "llama-server"
START_SECONDS = 120


def installed() -> Path:
    """Where `make servers` puts it."""
    return Path.home() / ".cache" / "membank-servers" / NAME


def llama_server() -> Path | None:
    """The binary: the one named in the environment, the one in the cache, or the one on the path."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    if installed().is_file():
        return installed()
    found = shutil.which(NAME)
    return None if found is None else Path(found)


@contextmanager
def serving(binary: Path, folder: Path, *arguments: object, port: int | None = None) -> Iterator[str]:
    """A llama-server with these arguments, on one thread; gives its address once it is ready."""
    port = port or free_port()
    command = [str(binary), "--host", "127.0.0.1", "--port", str(port), "--threads", "1", "--no-warmup"]
    # whose models it would list is no business of a test; and /slots is to show the prompts
    hidden = {"LLAMA_CACHE": str(folder / "cache"), "HOME": str(folder)}
    environment = {**os.environ, **hidden, "LLAMA_SERVER_SLOTS_DEBUG": "1"}
    with (folder / f"llama-server-{port}.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen([*command, *map(str, arguments)], stdout=log, stderr=log, env=environment)
        try:
            _wait(process, port, Path(log.name))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > until:
            said = log.read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"llama-server did not start:\n{said[-4000:]}")
        time.sleep(0.05)
