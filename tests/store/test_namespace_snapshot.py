"""Who is in a namespace, kept in memory and in step with the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.banks import FACTS, numbered, open_bank, open_store, texts, unit_vectors

from membank_llama.core.types import NewMemory
from membank_llama.store.namespace_snapshot import ALONE, NamespaceSnapshot
from membank_llama.store.snapshot_keeper import PAUSE, NamespaceSnapshots
from membank_llama.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def listed(store: Store, namespace: str = "default") -> dict[int, int]:
    snapshot = store.snapshots.get(namespace)
    return dict(zip(snapshot.ids.tolist(), snapshot.slots.tolist(), strict=True))


def test_it_follows_what_is_added_and_removed(store: Store) -> None:
    assert listed(store) == {}
    for start in range(0, 600, 60):
        store.add(numbered(60, start=start), unit_vectors(start + 60)[start:])
        assert listed(store) == dict(store.registry.live("default"))
    store.remove([3, 5, 600])
    assert listed(store) == dict(store.registry.live("default"))
    store.add(numbered(1, start=900), unit_vectors(901)[900:])
    assert listed(store) == dict(store.registry.live("default"))
    assert len(store.snapshots.get("default")) == 598


def test_a_roster_in_hand_does_not_change(store: Store) -> None:
    store.add(numbered(5), unit_vectors(5))
    before = store.snapshots.get("default")
    store.add(numbered(5, start=5), unit_vectors(10)[5:])
    store.remove([1])
    assert before.ids.tolist() == [1, 2, 3, 4, 5]
    assert store.snapshots.get("default").ids.tolist() == list(range(2, 11))


def test_rows_and_times(store: Store) -> None:
    store.add(numbered(5), unit_vectors(5), now=10.0)
    store.add(numbered(5, start=5), unit_vectors(10)[5:], now=20.0)
    snapshot = store.snapshots.get("default")
    assert snapshot.rows(np.array([0, 2, 9, 11, 500])).tolist() == [1, 8]
    assert snapshot.seen(None, None) is None
    assert snapshot.ids[snapshot.seen(20.0, None)].tolist() == [6, 7, 8, 9, 10]
    assert snapshot.ids[snapshot.seen(10.0, 20.0)].tolist() == [1, 2, 3, 4, 5]
    assert snapshot.ids[snapshot.seen(None, 20.0, {2, 4, 999})].tolist() == [1, 3, 5]
    assert snapshot.ids[snapshot.seen(None, 20.0, {2}, {1, 2, 9, 999})].tolist() == [1]
    assert not snapshot.seen(None, None, (), ()).any()
    assert store.snapshots.get("empty").rows(np.array([1])).tolist() == []


def test_a_name_that_nobody_stored_under_takes_no_room(store: Store) -> None:
    store.add(numbered(2), unit_vectors(2))
    for n in range(100):
        assert len(store.snapshots.get(f"made up {n}")) == 0
        assert len(store.indexes.get(f"made up {n}")) == 0
    assert list(listed(store)) == [1, 2]
    assert list(store.snapshots._kept) == ["default"]
    assert store.indexes.stats() == {}


def test_what_another_process_removed_is_dropped_when_found_gone(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank, open_bank(tmp_path, read_only=True) as reader:
        bank.ingest_many([*(f"{text} Again {n}." for n in range(20) for text in FACTS[:1]), *FACTS])
        assert len(reader.recall("sister", 20)) == 20
        bank.forget(range(1, 21))
        assert FACTS[0] in texts(reader.recall("sister", 1))
        assert len(reader.recall("sister", 20)) == len(FACTS)
        assert not set(range(1, 21)) & set(reader.store.snapshots.get("default").ids.tolist())


def test_slots_are_read_anew_after_packing(store: Store) -> None:
    from membank_llama.store.maintenance import compact

    store.add(numbered(9), unit_vectors(9))
    assert listed(store)
    store.remove([1, 2, 3])
    compact.collect(store)
    assert listed(store) == dict(store.registry.live("default")) == {n + 4: n for n in range(6)}


def test_snapshots_of_a_closed_bank_are_not_needed(store: Store) -> None:
    snapshots = NamespaceSnapshots(store.registry)
    snapshots.drop("default", [1, 2])
    snapshots.clear()
    assert len(snapshots.get("default")) == 0


# -- sessions and neighbours


def tell(store: Store, *talks: str | None, times: list[float] | None = None, namespace: str = "default") -> list[int]:
    """A memory for each conversation named, a minute apart; returns their ids."""
    start = store.registry.scalar("SELECT coalesce(max(id), 0) FROM memories")
    items = [
        NewMemory(
            f"said {start + n}",
            namespace=namespace,
            conversation=talk,
            created_at=60.0 * (start + n) if times is None else times[n],
        )
        for n, talk in enumerate(talks)
    ]
    return [stored.memory_id for stored in store.add(items, unit_vectors(len(items), seed=start))]


def around(snapshot: NamespaceSnapshot, distance: int) -> list[int]:
    """For each memory, in order, the id of its neighbour; 0 where there is none."""
    rows = snapshot.neighbours(np.arange(len(snapshot)), distance)
    return [int(snapshot.ids[row]) if row >= 0 else 0 for row in rows]


def test_interleaved_talks_have_neighbours_of_their_own(store: Store) -> None:
    tell(store, "a", "b", "a", None, "b", "a", None)
    snapshot = store.snapshots.get("default")
    assert around(snapshot, 1) == [3, 5, 6, 0, 0, 0, 0]
    assert around(snapshot, -1) == [0, 0, 1, 0, 2, 3, 0]
    assert around(snapshot, 2) == [6, 0, 0, 0, 0, 0, 0]
    assert around(snapshot, -2) == [0, 0, 0, 0, 0, 1, 0]
    assert around(snapshot, 3) == around(snapshot, 50) == [0] * 7
    first, second = snapshot.session[0], snapshot.session[1]
    assert snapshot.session.tolist() == [first, second, first, ALONE, second, first, ALONE]
    assert first != second


def test_neighbours_of_no_row_are_none(store: Store) -> None:
    tell(store, "a", "a")
    assert store.snapshots.get("default").neighbours(np.array([-1, 0]), 1).tolist() == [-1, 1]


def test_a_talk_goes_on_with_what_comes_later(store: Store) -> None:
    tell(store, "a", "b")
    assert around(store.snapshots.get("default"), 1) == [0, 0]
    tell(store, "b", "a")
    assert around(store.snapshots.get("default"), 1) == [4, 3, 0, 0]


def test_a_pause_begins_a_new_session(store: Store) -> None:
    times = [0.0, PAUSE - 1, 2 * PAUSE - 1, 2 * PAUSE, 0.5]
    tell(store, *["a"] * 5, times=times)
    snapshot = store.snapshots.get("default")
    # what is told late, of long ago, is no neighbour of today either
    assert around(snapshot, 1) == [2, 0, 4, 0, 0]
    sessions = snapshot.session.tolist()
    assert sessions[0] == sessions[1] != sessions[2] == sessions[3] != sessions[4]


def test_pieces_of_one_source_are_neighbours(store: Store) -> None:
    items = [NewMemory(f"piece {n}", source=source) for n, source in enumerate(("x.md", "y.md", "x.md", None))]
    store.add(items, unit_vectors(4))
    assert around(store.snapshots.get("default"), 1) == [3, 0, 0, 0]


def test_talks_of_two_namespaces_have_nothing_to_do_with_each_other(store: Store) -> None:
    tell(store, "a")
    tell(store, "a", namespace="work")
    tell(store, "a")
    assert around(store.snapshots.get("default"), 1) == [3, 0]
    assert around(store.snapshots.get("work"), 1) == [0]


def test_neighbours_close_ranks_over_what_is_gone(store: Store) -> None:
    tell(store, "a", "b", "a", "a", "b", None)
    assert around(store.snapshots.get("default"), 1) == [3, 5, 4, 0, 0, 0]
    store.remove([3])
    snapshot = store.snapshots.get("default")
    assert snapshot.ids.tolist() == [1, 2, 4, 5, 6]
    assert around(snapshot, 1) == [4, 5, 0, 0, 0]
    assert around(snapshot, -1) == [0, 0, 1, 2, 0]
    tell(store, "a", "b")
    assert around(store.snapshots.get("default"), 1) == [4, 5, 7, 8, 0, 0, 0]


@pytest.mark.parametrize("gone", [[4], [3, 4], [1], [1, 3, 4], [2, 3]])
def test_what_is_kept_in_memory_is_what_would_be_read_anew(store: Store, gone: list[int]) -> None:
    tell(store, "a", "b", "a", "a", "b")
    store.snapshots.get("default")
    store.remove(gone)
    tell(store, "a", "b")
    kept, anew = store.snapshots.get("default"), NamespaceSnapshots(store.registry).get("default")
    assert kept.ids.tolist() == anew.ids.tolist()
    for distance in (-2, -1, 1, 2):
        assert around(kept, distance) == around(anew, distance)
    same = kept.session[:, np.newaxis] == kept.session
    assert (same == (anew.session[:, np.newaxis] == anew.session)).all()


def test_the_neighbours_of_a_roster_in_hand_do_not_change(store: Store) -> None:
    tell(store, "a", "a", "b")
    before = store.snapshots.get("default")
    assert around(before, 1) == [2, 0, 0]
    tell(store, *["a", "b"] * 200)
    assert around(store.snapshots.get("default"), 1)[:3] == [2, 4, 5]
    assert around(before, 1) == [2, 0, 0]
    store.remove([1])
    assert around(before, 1) == [2, 0, 0]
    assert around(before, -1) == [0, 1, 0]
    assert before.names == []


def test_one_by_one_or_all_at_once_is_the_same(store: Store) -> None:
    talks = ["a", "b", None, "a", "a", "b", None, "b"] * 40
    for talk in talks:
        tell(store, talk)
        store.snapshots.get("default")
    kept, anew = store.snapshots.get("default"), NamespaceSnapshots(store.registry).get("default")
    for name in ("ids", "slots", "created", "session", "before", "after", "speaker", "asks"):
        assert getattr(kept, name).tolist() == getattr(anew, name).tolist(), name


def test_who_speaks_keeps_a_number(store: Store) -> None:
    store.add([NewMemory("a", role="Ana"), NewMemory("b"), NewMemory("c", role="Ana")], unit_vectors(3))
    snapshot = store.snapshots.get("default")
    assert snapshot.speaker.tolist() == [0, 1, 0]
    assert snapshot.names == ["Ana"]
    store.remove([1, 3])
    store.add([NewMemory("d", role="Ana")], unit_vectors(1, seed=9))
    assert store.snapshots.get("default").speaker.tolist() == [1, 0]


def test_rebuilding_reads_anew_what_a_damaged_index_had_hidden(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        assert texts(bank.recall("sister Ana", 1)) == [FACTS[0]]
        bank.store.snapshots.drop("default", [1])
        assert FACTS[0] not in texts(bank.recall("sister Ana", 3))
        bank.rebuild_indexes()
        assert texts(bank.recall("sister Ana", 1)) == [FACTS[0]]
