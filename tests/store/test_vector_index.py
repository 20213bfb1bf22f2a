"""One namespace's graph and tail: nearest neighbours, removal, saving and damage."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from support.banks import DIM, unit_vectors

from membank_llama.core.errors import BankCorruptError
from membank_llama.store.vector_index import VectorIndex


def filled(count: int, *, merged: int | None = None, seed: int = 0) -> VectorIndex:
    index = VectorIndex(DIM)
    index.add(range(1, count + 1), unit_vectors(count, seed=seed))
    index.merge(count if merged is None else merged)
    return index


def exact(count: int, query: np.ndarray, k: int, gone: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
    scores = unit_vectors(count) @ query
    order = [i + 1 for i in np.argsort(-scores).tolist() if i + 1 not in gone]
    return order[:k]


@pytest.mark.parametrize("merged", [0, 130, 300])
def test_graph_and_tail_together_find_the_nearest(merged: int) -> None:
    index = filled(300, merged=merged)
    assert (index.graph_count, index.tail_count, len(index)) == (merged, 300 - merged, 300)
    for query in unit_vectors(10, seed=9):
        ids, scores = index.search(query, 5)
        assert ids.tolist() == exact(300, query, 5)
        assert np.allclose(scores, (unit_vectors(300) @ query)[ids - 1], atol=1e-5)
        assert (np.diff(scores) <= 0).all()


def test_fewer_than_asked_for_and_none() -> None:
    query = unit_vectors(1)[0]
    assert [part.tolist() for part in VectorIndex(DIM).search(query, 5)] == [[], []]
    assert sorted(filled(3, merged=2).search(query, 50)[0].tolist()) == [1, 2, 3]


def test_merging_bit_by_bit_loses_nothing() -> None:
    index = filled(200, merged=0)
    index.add(range(201, 251), unit_vectors(250)[200:])
    while index.merge(7):
        assert len(index) == 250
    assert index.labels() == set(range(1, 251))
    assert index.upto == index.last_id == 250


@pytest.mark.parametrize("merged", [0, 100, 200])
def test_removed_ids_are_never_returned(merged: int) -> None:
    index = filled(200, merged=merged)
    gone = set(range(1, 201, 2))
    index.remove([*gone, 5000])
    assert len(index) == 100
    for query in unit_vectors(10, seed=9):
        for k in (1, 5, 100, 150):
            ids = index.search(query, k)[0].tolist()
            assert len(ids) == min(k, 100)
            assert not set(ids) & gone
    index.merge(1000)
    assert index.labels() == set(range(2, 201, 2))


def test_all_removed() -> None:
    index = filled(50, merged=30)
    index.remove(range(1, 51))
    assert len(index) == 0
    assert index.search(unit_vectors(1)[0], 5)[0].tolist() == []


def test_what_is_here_already_is_not_added_twice() -> None:
    index = filled(10, merged=5)
    index.add(range(6, 13), unit_vectors(12)[5:])
    assert len(index) == 12
    index.remove([12])
    index.add([12], unit_vectors(1))
    assert len(index) == 11
    assert sorted(index.search(unit_vectors(1)[0], 50)[0].tolist()) == list(range(1, 12))


def test_saved_and_loaded(tmp_path: Path) -> None:
    index = filled(120, merged=100)
    index.remove([7, 110])
    path = tmp_path / "a.hnsw"
    index.save(path, generation=42, tag="t")
    assert not index.unsaved
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.hnsw", "a.json"]
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
    loaded, generation = VectorIndex.load(path, tag="t")
    assert (generation, loaded.upto, loaded.graph_count, loaded.dead_count) == (42, 100, 100, 1)
    assert loaded.labels() == set(range(1, 101)) - {7}
    for query in unit_vectors(10, seed=9):
        ids = loaded.search(query, 5)[0].tolist()
        assert ids == exact(100, query, 5, {7})
    loaded.add(range(101, 121), unit_vectors(120)[100:])
    loaded.merge(1000)
    assert loaded.labels() == set(range(1, 121)) - {7}


def test_an_empty_index_is_not_saved(tmp_path: Path) -> None:
    VectorIndex(DIM).save(tmp_path / "a.hnsw", generation=1, tag="t")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        VectorIndex.load(tmp_path / "a.hnsw", tag="t")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change_note(path: Path, **values: object) -> None:
    note = path.with_suffix(".json")
    note.write_text(json.dumps(json.loads(note.read_text()) | values))


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: path.with_suffix(".json").write_text("[]"),
        lambda path: change_note(path, format=99),
        lambda path: change_note(path, tag="other"),
        lambda path: change_note(path, count="many"),
    ],
)
def test_damage_is_noticed(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "a.hnsw"
    filled(100).save(path, generation=1, tag="t")
    damage(path)  # type: ignore[operator]
    with pytest.raises(BankCorruptError):
        VectorIndex.load(path, tag="t")


def test_vectors_of_another_encoding_are_refused(tmp_path: Path) -> None:
    filled(10).save(tmp_path / "a.hnsw", generation=1, tag="t")
    assert VectorIndex.load(tmp_path / "a.hnsw", tag="t")[0].dim == DIM
    with pytest.raises(BankCorruptError, match="other vectors"):
        VectorIndex.load(tmp_path / "a.hnsw", tag="another")


def test_searching_while_another_thread_adds_merges_and_removes() -> None:
    index = filled(200)
    vectors = unit_vectors(2000)
    done = threading.Event()
    failures: list[BaseException] = []

    def search() -> None:
        try:
            while not done.is_set():
                ids = index.search(vectors[0], 20)[0].tolist()
                assert len(ids) == len(set(ids)) == 20
                assert 1 in ids
        except BaseException as exc:
            failures.append(exc)

    def count() -> None:
        try:
            while not done.is_set():
                # whole steps of adding and removing, whatever a merge is doing
                assert (len(index) - 200) % 50 in {0, *range(14, 50)}
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    counter = threading.Thread(target=count)
    counter.start()
    threads.append(counter)
    for start in range(200, 2000, 50):
        index.add(range(start + 1, start + 51), vectors[start : start + 50])
        index.merge(40)
        index.remove([start + 3])
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(index) == 2000 - 36
