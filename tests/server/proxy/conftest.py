"""One proxy and one engine for all tests of a module that need no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.proxies import Running, engine_of, proxied


@pytest.fixture
def running(tmp_path: Path, recall_tiny: Path) -> Iterator[Running]:
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny)) as made:
        yield made
