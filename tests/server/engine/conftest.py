"""One engine for all tests of a module that need no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.engines import running


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, recall_tiny: Path) -> Iterator[httpx.Client]:
    with running(tmp_path_factory.mktemp("store"), recall_tiny) as (_, client):
        yield client
