"""What is asked in one pass reaches what it reaches one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.recall.relevance_gate import COHORT

TOLD = (
    "My sister Ana opens the museum in Porto at nine.",
    "Which planet has rings?",
    "Copper is dear this quarter; prices rose by five percent.",
    "The printer is behind the bakery, and the paper beside it.",
    "I boil my egg for four minutes.",
    "Bees dance. " + "The river is calm and the ferry was late, as the fog was thick. " * 60,
)


@pytest.fixture(params=["hashed", "words alone"])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemBank]:
    with MemBank(MockAdapter(384), tmp_path / "bank") as told:
        items = [NewMemory(text, conversation=f"c{place // 3}") for place, text in enumerate(TOLD)]
        told.ingest_many([*items, NewMemory("The court met in a village with two bridges.", expires_at=1.0)])
        if request.param == "hashed":
            yield told
            return
    with MemBank(None, tmp_path / "bank") as read:
        yield read


def test_a_pass_over_all_sentences_reaches_what_each_reaches_alone(bank: MemBank) -> None:
    engine = bank._engine
    together = list(engine._unrelated("default"))
    alone = [engine._reached(place, "default") for place in range(len(COHORT))]
    assert together == pytest.approx(alone, abs=1e-4)
    assert len({round(one, 3) for one in together}) > 3, "they reach something, and not all the same"


def test_an_empty_namespace_reaches_nothing(bank: MemBank) -> None:
    assert list(bank._engine._unrelated("another")) == [0.0] * len(COHORT)
