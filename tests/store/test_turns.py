"""Keys of turns are kept with the bank for a while, and found again by an index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.banks import open_bank

from membank_llama.memory.bank import MemBank
from membank_llama.store.turns import KEPT_SECONDS, TurnTable


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        yield opened


def test_turns_are_found_by_key(bank: MemBank) -> None:
    table = TurnTable(bank.store.registry)
    keys = [number.to_bytes(16, "big") for number in range(1200)]
    table.add(("c", key, depth) for depth, key in enumerate(keys, 1))
    assert table.find([b"unknown"]) == {} == table.find([])
    found = table.find(keys)
    assert [found[key].depth for key in keys] == list(range(1, 1201))
    assert (table.depth("c"), table.depth("other")) == (1200, 0)


def test_the_salt_stays_and_old_turns_go(bank: MemBank) -> None:
    table = TurnTable(bank.store.registry)
    salt = table.open()
    table.add([("c", b"new", 1), ("c", b"old", 2)])
    with bank.store.registry.transaction() as db:
        db.execute("UPDATE turns SET seen = ? WHERE key = ?", (time.time() - KEPT_SECONDS - 1, b"old"))
    assert TurnTable(bank.store.registry).open() == salt and len(salt) == 16
    assert set(table.find([b"new", b"old"])) == {b"new"}


def test_a_damaged_salt_is_made_anew(bank: MemBank) -> None:
    table = TurnTable(bank.store.registry)
    salt = table.open()
    with bank.store.registry.transaction() as db:
        db.execute("UPDATE meta SET value = '7' WHERE key = 'turns_salt'")
    assert table.open() != salt
