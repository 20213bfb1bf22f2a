"""Indexes of a bank: loaded, caught up, rebuilt, and never a memory lost for it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support.banks import numbered, open_store, unit_vectors, wait_for

from membank_llama.core.types import Progress, Vector
from membank_llama.store import index_set
from membank_llama.store.maintenance import compact
from membank_llama.store.store import Store

COUNT = 300


@pytest.fixture(autouse=True)
def _small_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    # so that a few hundred memories go through everything a hundred thousand do
    monkeypatch.setattr(index_set, "TAIL_LIMIT", 50)


def fill(store: Store, count: int = COUNT, start: int = 0, namespace: str = "default") -> Vector:
    vectors = unit_vectors(start + count)[start:]
    store.add(numbered(count, namespace, start), vectors)
    return vectors


def saved(path: Path) -> list[str]:
    return sorted(p.suffix for p in (path / "index").iterdir())


def nearest(store: Store, vector: Vector, namespace: str = "default") -> int:
    return int(store.indexes.get(namespace).search(vector, 1)[0][0])


def drained(store: Store) -> None:
    store.indexes.drain()
    store.indexes.save()


def test_saved_on_close_and_loaded_on_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(tmp_path)
    vectors = fill(store)
    store.indexes.get("default")
    drained(store)
    store.close()
    assert saved(tmp_path) == [".hnsw", ".json"]
    with caplog.at_level(logging.WARNING, "membank_llama"):
        store = open_store(tmp_path)
        index = store.indexes.get("default")
    assert (index.graph_count, index.tail_count, index.unsaved) == (COUNT, 0, False)
    assert [nearest(store, vector) for vector in vectors[:20]] == list(range(1, 21))
    assert caplog.records == []
    store.close()


def test_behind_is_caught_up(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    fill(store)
    store.indexes.get("default")
    drained(store)
    store.close()
    store = open_store(tmp_path)
    # without a loaded index these are known to the registry alone
    later = fill(store, 20, COUNT)
    store.remove([3, 4])
    store.close()
    store = open_store(tmp_path)
    index = store.indexes.get("default")
    assert (index.graph_count, index.tail_count, index.dead_count) == (COUNT, 20, 2)
    assert nearest(store, later[0]) == COUNT + 1
    assert not {3, 4} & set(index.search(unit_vectors(4)[2], 100)[0].tolist())
    store.close()


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete graph", "delete note", "garbage note"])
def test_damaged_or_missing_is_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    store = open_store(tmp_path)
    vectors = fill(store)
    store.indexes.get("default")
    drained(store)
    path = store.indexes.path_of("default")
    store.close()
    if damage == "flip":
        data = bytearray(path.read_bytes())
        data[1000] ^= 4
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "garbage note":
        path.with_suffix(".json").write_bytes(b"\xff\xfe")
    else:
        (path if damage == "delete graph" else path.with_suffix(".json")).unlink()
    with caplog.at_level(logging.WARNING, "membank_llama"):
        # whoever opens it with a progress bar waits no longer than others
        store = open_store(tmp_path, progress=lambda *_: None)
        assert [nearest(store, vector) for vector in vectors[:20]] == list(range(1, 21))
    wait_for(lambda: store.indexes.get("default").graph_count == COUNT)
    assert ("rebuilt" in caplog.text) == (not damage.startswith("delete"))
    store.close()
    store = open_store(tmp_path)
    assert store.indexes.get("default").tail_count == 0
    store.close()


def test_the_tail_is_merged_in_the_background(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    vectors = fill(store)
    assert nearest(store, vectors[-1]) == COUNT
    index = store.indexes.get("default")
    wait_for(lambda: index.tail_count == 0)
    assert index.graph_count == COUNT
    assert nearest(store, vectors[-1]) == COUNT
    more = fill(store, 100, COUNT)
    wait_for(lambda: index.tail_count == 0)
    assert nearest(store, more[0]) == COUNT + 1
    store.close()


def test_many_removals_make_a_new_graph(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    vectors = fill(store)
    store.indexes.get("default")
    store.indexes.drain()
    store.remove(range(1, 101))
    wait_for(lambda: store.indexes.stats()["default"] == {"graph": COUNT - 100, "tail": 0, "removed": 0})
    assert nearest(store, vectors[100]) == 101
    store.close()


def test_purge_leaves_nothing_of_removed_vectors(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    fill(store)
    fill(store, 60, COUNT, "work")
    for namespace in ("default", "work"):
        store.indexes.get(namespace)
    drained(store)
    store.remove([1, 2, *range(COUNT + 1, COUNT + 61)])
    assert store.indexes.purge() == 2
    assert store.indexes.get("default").dead_count == 0
    store.close()
    assert saved(tmp_path) == [".hnsw", ".json"]
    store = open_store(tmp_path)
    assert store.indexes.get("default").graph_count == COUNT - 2
    store.close()


def test_rebuild_makes_every_namespace_anew(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    vectors = fill(store)
    fill(store, 60, COUNT, "work")
    store.indexes.rebuild()
    assert saved(tmp_path) == [".hnsw", ".hnsw", ".json", ".json"]
    assert store.indexes.stats() == {
        "default": {"graph": COUNT, "tail": 0, "removed": 0},
        "work": {"graph": 60, "tail": 0, "removed": 0},
    }
    assert nearest(store, vectors[5]) == 6
    store.close()


def test_namespaces_have_indexes_of_their_own(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    vectors = fill(store, 60)
    fill(store, 60, 60, "../odd name\n")
    assert set(store.indexes.get("../odd name\n").search(vectors[0], 100)[0].tolist()) == set(range(61, 121))
    drained(store)
    assert all(p.parent == tmp_path / "index" for p in tmp_path.rglob("*.hnsw"))
    store.close()


def test_a_disk_that_refuses_the_index_is_logged_and_closes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(tmp_path)
    vectors = fill(store)
    path = store.indexes.path_of("default")
    path.mkdir()
    with caplog.at_level(logging.WARNING, "membank_llama"):
        store.indexes.drain()
        store.close()
    assert "could not save the index" in caplog.text
    assert [p.name for p in (tmp_path / "index").iterdir()] == [path.name]
    path.rmdir()
    store = open_store(tmp_path)
    assert nearest(store, vectors[4]) == 5
    store.close()


def test_a_reader_follows_what_another_bank_object_writes(tmp_path: Path) -> None:
    writer = open_store(tmp_path)
    fill(writer)
    reader = open_store(tmp_path, read_only=True)
    assert nearest(reader, unit_vectors(COUNT)[8]) == 9
    later = fill(writer, 70, COUNT)
    assert nearest(reader, later[60]) == COUNT + 61
    wait_for(lambda: reader.indexes.get("default").tail_count == 0)
    assert nearest(reader, later[60]) == COUNT + 61
    assert not saved(tmp_path), "a reader fills a graph of its own and saves nothing"
    reader.close()
    writer.close()


def test_closed_more_than_once_the_graph_is_saved_once_and_whole(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    fill(store)
    indexes = store.indexes
    indexes.rebuild()
    held = len(indexes.get("default"))
    store.close()
    saved = indexes.path_of("default").read_bytes()
    store.close()
    indexes.close()
    assert indexes.path_of("default").read_bytes() == saved
    again = open_store(tmp_path)
    assert len(again.indexes.get("default")) == held > 0
    again.close()


def test_progress_counts_up(tmp_path: Path) -> None:
    steps: list[int] = []
    progress: Progress = lambda label, done, total: steps.append(done)  # noqa: E731
    store = open_store(tmp_path)
    fill(store)
    store.indexes.rebuild(progress)
    assert steps == sorted(steps)
    assert steps[-1] == COUNT
    store.close()


def test_an_index_is_read_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing gives slots another meaning between the look at the registry and that at the vectors."""
    store = open_store(tmp_path)
    vectors = fill(store, 120)
    store.remove(range(1, 21))
    original, packed = store.registry.live, [False]

    def live(*given: Any) -> Any:
        rows = original(*given)
        if not packed[0]:
            packed[0] = True
            compact.collect(store)
        return rows

    monkeypatch.setattr(store.registry, "live", live)
    store.indexes.close(save=False)
    store.reload()
    assert [nearest(store, vectors[n]) for n in range(20, 120)] == list(range(21, 121))
    assert packed[0]
    store.close()
