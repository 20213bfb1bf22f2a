"""Who is in a namespace, kept in memory and in step with the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from banking import FACTS, numbered, open_bank, open_store, texts, unit_vectors

from membank_llama.roster import Rosters
from membank_llama.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def listed(store: Store, namespace: str = "default") -> dict[int, int]:
    roster = store.rosters.get(namespace)
    return dict(zip(roster.ids.tolist(), roster.slots.tolist(), strict=True))


def test_it_follows_what_is_added_and_removed(store: Store) -> None:
    assert listed(store) == {}
    for start in range(0, 600, 60):
        store.add(numbered(60, start=start), unit_vectors(start + 60)[start:])
        assert listed(store) == dict(store.registry.live("default"))
    store.remove([3, 5, 600])
    assert listed(store) == dict(store.registry.live("default"))
    store.add(numbered(1, start=900), unit_vectors(901)[900:])
    assert listed(store) == dict(store.registry.live("default"))
    assert len(store.rosters.get("default")) == 598


def test_a_roster_in_hand_does_not_change(store: Store) -> None:
    store.add(numbered(5), unit_vectors(5))
    before = store.rosters.get("default")
    store.add(numbered(5, start=5), unit_vectors(10)[5:])
    store.remove([1])
    assert before.ids.tolist() == [1, 2, 3, 4, 5]
    assert store.rosters.get("default").ids.tolist() == list(range(2, 11))


def test_rows_and_times(store: Store) -> None:
    store.add(numbered(5), unit_vectors(5), now=10.0)
    store.add(numbered(5, start=5), unit_vectors(10)[5:], now=20.0)
    roster = store.rosters.get("default")
    assert roster.rows(np.array([0, 2, 9, 11, 500])).tolist() == [1, 8]
    assert roster.within(None, None) is None
    assert roster.ids[roster.within(20.0, None)].tolist() == [6, 7, 8, 9, 10]
    assert roster.ids[roster.within(10.0, 20.0)].tolist() == [1, 2, 3, 4, 5]
    assert store.rosters.get("empty").rows(np.array([1])).tolist() == []


def test_namespaces_know_of_each_other(store: Store) -> None:
    store.add(numbered(2), unit_vectors(2))
    assert store.rosters.get("default").alone
    store.add(numbered(2, "work"), unit_vectors(4)[2:])
    assert not store.rosters.get("default").alone
    assert list(listed(store, "work")) == [3, 4]
    store.remove([3, 4])
    assert store.rosters.get("default").alone


def test_what_another_process_removed_is_dropped_when_found_gone(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank, open_bank(tmp_path, read_only=True) as reader:
        bank.ingest_many([*(f"{text} Again {n}." for n in range(20) for text in FACTS[:1]), *FACTS])
        assert len(reader.recall("sister", 20)) == 20
        bank.forget(range(1, 21))
        assert FACTS[0] in texts(reader.recall("sister", 1))
        assert len(reader.recall("sister", 20)) == len(FACTS)
        assert not set(range(1, 21)) & set(reader.store.rosters.get("default").ids.tolist())


def test_slots_are_read_anew_after_packing(store: Store) -> None:
    from membank_llama import upkeep

    store.add(numbered(9), unit_vectors(9))
    assert listed(store)
    store.remove([1, 2, 3])
    upkeep.collect(store)
    assert listed(store) == dict(store.registry.live("default")) == {n + 4: n for n in range(6)}


def test_rosters_of_a_closed_bank_are_not_needed(store: Store) -> None:
    rosters = Rosters(store.registry)
    rosters.drop([1, 2])
    rosters.clear()
    assert len(rosters.get("default")) == 0
