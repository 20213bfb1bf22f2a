"""A small bank behind a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.bank_clients import bank_client
from support.banks import open_bank
from support.proxies import Running, engine_of, proxied

from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank

START = 1_700_000_000.0
DAY = 86_400.0


def told(folder: Path) -> MemBank:
    bank = open_bank(folder / "bank")
    notes = [
        NewMemory(f"Note {n} is about socks.", created_at=START + n * DAY, conversation=f"c{n % 2}") for n in range(8)
    ]
    bank.ingest_many([*notes, NewMemory("Theirs is a secret.", namespace="theirs", conversation="hidden talk")])
    return bank


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with told(tmp_path) as opened:
        yield opened


@pytest.fixture
def client(bank: MemBank) -> Iterator[httpx.Client]:
    with bank_client(bank) as made:
        yield made


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a bank that no test of a module changes."""
    with told(tmp_path_factory.mktemp("steady")) as opened, bank_client(opened) as made:
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`membank serve`, in front of an engine without models."""
    folder = tmp_path_factory.mktemp("proxied")
    with proxied(folder, engine_of(folder)) as made:
        yield made
