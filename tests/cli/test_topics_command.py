"""`membank topics`, and `membank recall --topic`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.terminals import Membank

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank

GARDEN = [f"garden garden roses compost bed {n}" for n in range(10)]
BOAT = [f"boat boat rudder harbour berth {n}" for n in range(10)]
MARKED = "[red]\x1b[31mboat boat rudder harbour[/red]"


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Membank:
    for name in ("MEMBANK_BANK", "MEMBANK_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    with MemBank(WordsAdapter(hidden_dim=64), tmp_path / "bank") as bank:
        bank.ingest_many([*GARDEN, *BOAT, MARKED])
        bank.ingest_many([NewMemory("a note on its own", namespace="work")])
    return Membank(tmp_path / "bank", capsys)


def test_topics_are_shown_with_an_example_each(mb: Membank) -> None:
    shown = mb("topics")
    assert shown.code == 0, shown.err
    assert "garden" in shown.out
    assert "rudder" in shown.out
    assert "\x1b" not in shown.out
    assert "21 memories" in shown.err
    assert "1 topic" in mb("topics", "--namespace", "work").err
    assert "0 topics" in mb("topics", "--namespace", "nobody").err


def test_topics_as_json(mb: Membank) -> None:
    found = json.loads(mb("topics", "--json").out)
    assert sum(topic["memories"] for topic in found) <= 21
    for topic in found:
        assert topic["memories"] == len(topic["ids"])
        assert topic["example"]["id"] in topic["ids"]
        assert topic["oldest"] <= topic["newest"]
    assert json.loads(mb("topics", "--json", "-k", 1).out) == found[:1]


def test_they_can_be_seen_while_another_process_writes(mb: Membank) -> None:
    with MemBank(WordsAdapter(hidden_dim=64), mb.bank) as bank:
        bank.forget([memory.id for memory in bank.memories() if "garden" in memory.text])
        shown = mb("topics")
    assert shown.code == 0, shown.err
    assert "garden" not in shown.out


def test_recall_within_a_topic(mb: Membank) -> None:
    found = json.loads(mb("recall", "roses", "--topic", "Boat", "--json", "-k", 30).out)
    assert found
    assert all("boat" in result["text"] for result in found)
    (topic, *_) = json.loads(mb("topics", "--json").out)
    by_id = json.loads(mb("recall", "roses", "--topic", topic["id"], "--json", "-k", 30).out)
    assert {result["memory_id"] for result in by_id} <= set(topic["ids"])


def test_a_topic_that_is_none(mb: Membank) -> None:
    done = mb("recall", "roses", "--topic", "thermodynamics")
    assert done.code == 2
    assert done.out == ""
    assert "there are: " in done.err
    assert "garden" in done.err


def test_no_bank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Membank(tmp_path / "none", capsys)("topics")
    assert done.code == 1
    assert "there is no bank" in done.err
