"""`membank serve` as people start it, for all tests of a module: the clients differ in their namespaces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.client_programs import Served
from support.serve_process import started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, recall_tiny: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    arguments = ("--model", recall_tiny, "--encoder", recall_tiny, "--deadline", 30_000)
    with started(folder, *arguments) as (_, client):
        yield Served(str(client.base_url).rstrip("/"), folder / "bank")


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Waits until something is so, for as long as a busy machine may need."""

    def wait(is_so: Callable[[], bool]) -> bool:
        until = time.monotonic() + 60
        while not is_so():
            if time.monotonic() > until:
                return False
            time.sleep(0.2)
        return True

    return wait
