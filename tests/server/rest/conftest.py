"""A small bank behind a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.bank_clients import bank_client
from support.banks import open_bank

from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank

START = 1_700_000_000.0
DAY = 86_400.0


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        opened.ingest_many(
            [
                NewMemory(f"Note {n} is about socks.", created_at=START + n * DAY, conversation=f"c{n % 2}")
                for n in range(8)
            ]
            + [NewMemory("Theirs is a secret.", namespace="theirs", conversation="hidden talk")]
        )
        yield opened


@pytest.fixture
def client(bank: MemBank) -> Iterator[httpx.Client]:
    with bank_client(bank) as made:
        yield made
