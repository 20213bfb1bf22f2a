"""A browser for a file of tests of the page: its loop is not left running for others (support/pages.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.pages import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened
