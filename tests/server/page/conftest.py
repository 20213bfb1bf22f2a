"""One browser for all that is tested of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.pages import chromium


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened
