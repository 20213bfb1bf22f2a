"""Whoever keeps copies of memories beside the bank hears of their texts before they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from membank_llama import MemBank
from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.core.errors import BankStorageError


def test_every_way_of_forgetting_tells_the_texts(tmp_path: Path) -> None:
    told: list[Mapping[str, Sequence[str]]] = []
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        first = bank.ingest("Ana lives in Porto.").memory_id
        second = bank.ingest("The cat is called Miro.", namespace="home").memory_id
        bank.ingest("This expires at once.", expires_at=1.0)
        bank.store.on_forget.append(told.append)
        bank.forget([first, second])
        third = bank.ingest("The car is red.").memory_id
        bank.correct(third, "The car is blue.")
        bank.gc()
        bank.forget(namespace="nobody")
    assert told == [
        {"default": ["Ana lives in Porto."], "home": ["The cat is called Miro."]},
        {"default": ["The car is red."]},
        {"default": ["This expires at once."]},
    ]


def test_a_copy_that_cannot_be_deleted_stops_the_removal(tmp_path: Path) -> None:
    def refuse(_: Mapping[str, Sequence[str]]) -> None:
        raise BankStorageError("the disk refused")

    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        first = bank.ingest("Ana lives in Porto.").memory_id
        bank.store.on_forget.append(refuse)
        with pytest.raises(BankStorageError, match="refused"):
            bank.forget(first)
        assert bank.get(first).text == "Ana lives in Porto."
