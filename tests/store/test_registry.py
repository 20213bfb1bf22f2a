"""The truth of a bank: memories, pointers of 64 bytes, reference counts, Porter stems."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from membank_llama.core.errors import BankFormatError, BankNotFoundError
from membank_llama.core.types import NewMemory
from membank_llama.store.database import chunks
from membank_llama.store.memory_writer import (
    Places,
    held_activations,
    insert_memories,
    known_texts,
    put_pointers,
    refer,
    seen_again,
)
from membank_llama.store.registry import Registry
from membank_llama.store.removal import delete_memories
from membank_llama.store.row_format import text_hash


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(tmp_path / "bank.sqlite")
    yield opened
    opened.close()


def put(registry: Registry, *items: NewMemory, slot: int = 0, now: float = 100.0) -> list[int]:
    first = Places(registry.db, 0).next_id
    rows = [(first + n, item, text_hash(item.text), slot + n) for n, item in enumerate(items)]
    with registry.transaction() as db:
        insert_memories(registry, db, rows, now)
        registry.bump(db)
    return [row[0] for row in rows]


def words(registry: Registry, *forms: str, namespace: str = "default") -> list[int]:
    (found,) = registry.words.postings(namespace, [forms], 100, registry.lifetimes)
    return [int(memory_id) for memory_id in (found or "").split(",") if memory_id]


def test_a_memory_comes_back_whole(registry: Registry) -> None:
    item = NewMemory(
        "Ana lives in Porto", {"mood": "glad", "n": [1, 2]}, "assistant", "home", "talk-1", 12.5, "a.txt", True, 99.0
    )
    (memory_id,) = put(registry, item, slot=3)
    memory = registry.get([memory_id, 999])[memory_id]
    assert (memory.text, memory.role, memory.namespace, memory.conversation) == (
        item.text,
        "assistant",
        "home",
        "talk-1",
    )
    assert (memory.created_at, memory.source, memory.pinned, memory.expires_at) == (12.5, "a.txt", True, 99.0)
    assert memory.metadata == {"mood": "glad", "n": [1, 2]}
    assert memory.text_hash == text_hash(item.text).hex()
    assert memory.slot == 3


def test_ids_are_never_given_twice(registry: Registry) -> None:
    ids = put(registry, NewMemory("one"), NewMemory("two"))
    delete_memories(registry, ids)
    assert Places(registry.db, 0).next_id == 3
    assert put(registry, NewMemory("three")) == [3]


def test_texts_are_found_within_their_namespace(registry: Registry) -> None:
    (first,) = put(registry, NewMemory("same"), slot=5)
    (other,) = put(registry, NewMemory("same", namespace="work"), slot=5)
    digest, none = text_hash("same"), text_hash("none")
    items = [NewMemory("same"), NewMemory("none"), NewMemory("same", namespace="work")]
    assert known_texts(registry.db, items, [digest, none, digest]) == {
        ("default", digest): (first, 5),
        ("work", digest): (other, 5),
    }
    assert known_texts(registry.db, [NewMemory("same", namespace="empty")], [digest]) == {}


def test_told_again_lives_at_least_as_long(registry: Registry) -> None:
    short, ever = put(registry, NewMemory("short", expires_at=200.0), NewMemory("ever"))
    again = [(short, NewMemory("short", expires_at=150.0)), (ever, NewMemory("ever", expires_at=1.0))]
    seen_again(registry, registry.db, again, 101)
    assert registry.get([short])[short].expires_at == 200.0
    assert registry.get([ever])[ever].expires_at is None
    seen_again(registry, registry.db, [(short, NewMemory("short", pinned=True))], 102)
    told = registry.get([short])[short]
    assert told.expires_at is None
    assert told.pinned
    assert registry.rows("SELECT seen, last_seen, created_at FROM memories WHERE id = ?", (short,)) == [
        (3, 102.0, 100.0)
    ]


def test_pointers_are_64_bytes_and_counted(registry: Registry) -> None:
    records = tuple(bytes([n]) * 64 for n in range(3))
    db = registry.db
    put_pointers(db, [(7, records, 2)])
    assert registry.pointers([7, 8]) == {7: records}
    assert held_activations(db, [records[0][:32], b"x" * 32]) == {(records[0][:32], b""): 7}
    assert registry.next_slot() == 8
    ids = put(registry, NewMemory("a"), slot=7) + put(registry, NewMemory("b"), slot=7)
    refer(db, {7: 1})
    first = delete_memories(registry, ids[:1])
    assert (first.memories, first.slots) == (1, [])
    assert Places(db, 10).free == []
    refer(db, {7: -1})
    second = delete_memories(registry, [*ids, 555])
    assert (second.memories, second.slots) == (1, [7])
    assert Places(db, 10).free == [7]
    assert held_activations(db, [records[0][:32]]) == {}


def test_words_are_stemmed_and_folded(registry: Registry) -> None:
    running, cafe, other = put(
        registry, NewMemory("She was running late"), NewMemory("the Café on the corner"), NewMemory("a blue door")
    )
    assert words(registry, "runs") == [running]
    assert words(registry, "cafes") == [cafe]
    assert sorted(words(registry, "doors", "late")) == [running, other]
    assert words(registry, "green") == []
    assert words(registry, "blue door") == [other], "what is several words must all be there"
    assert words(registry, "?!") == []
    found = registry.words.postings("default", [("run",), ("gone",), ("door",)], 9, 0)
    assert found == [f"{running}", "", f"{other}"]
    assert registry.words.postings("default", [("the", "a")], 1, 0) == [None]
    assert registry.words.postings("default", [], 9, 0) == []


def test_words_are_counted_within_their_namespace(registry: Registry) -> None:
    (mine,) = put(registry, NewMemory("the violin in the attic"))
    put(registry, *(NewMemory(f"violin {n}", namespace="work") for n in range(20)))
    assert registry.words.postings("default", [("violin",)], 5, 0) == [str(mine)]
    assert registry.words.postings("work", [("violin",)], 5, 0) == [None]
    assert registry.words.postings("other", [("violin",)], 5, 0) == [""]


def test_arrivals_and_namespaces(registry: Registry) -> None:
    put(registry, NewMemory("river", created_at=1.0), NewMemory("river bed", created_at=2.0), slot=4)
    first, second = (1, 4, 1.0, 1.0, None, "user", 0, 1, 0, 0), (2, 5, 2.0, 2.0, None, "user", 0, 2, 0, 0)
    assert registry.arrivals("default", 0, 10) == [first, second]
    assert registry.arrivals("default", 0, 1) == [first]
    assert registry.arrivals("default", 1, 10) == [second]
    assert registry.arrivals("work", 0, 10) == []


def test_words_follow_removal(registry: Registry) -> None:
    ids = put(registry, NewMemory("river"), NewMemory("lamp"))
    delete_memories(registry, ids[:1])
    assert words(registry, "river") == []
    assert registry.words.is_sound()
    assert registry.scalar("SELECT count(*) FROM postings") == 1


def test_expired_memories_unless_pinned(registry: Registry) -> None:
    gone, kept, young = put(
        registry,
        NewMemory("gone", expires_at=150.0),
        NewMemory("kept", expires_at=150.0, pinned=True),
        NewMemory("young", expires_at=250.0),
    )
    assert registry.lifetimes_of("default", 0.0, 200.0) == ([gone], [kept], 250.0)
    assert registry.select(namespace=None, conversation=None, before=None, expired_at=200.0) == [gone]
    assert registry.set_pinned(kept, False)
    assert not registry.set_pinned(999, True)
    assert registry.lifetimes_of("default", 0.0, 200.0) == ([gone, kept], [], 250.0)
    assert registry.lifetimes_of("default", 0.0, 300.0) == ([gone, kept, young], [], math.inf)
    assert registry.lifetimes_of("default", 200.0, 240.0) == ([], [], 250.0)


def test_select_joins_conditions(registry: Registry) -> None:
    put(
        registry,
        NewMemory("a", conversation="x", created_at=1.0),
        NewMemory("b", conversation="x", created_at=5.0),
        NewMemory("c", namespace="work", conversation="x", created_at=1.0),
    )
    assert registry.select(namespace=None, conversation="x", before=None) == [1, 2, 3]
    assert registry.select(namespace="default", conversation="x", before=3.0) == [1]


def test_iterate_goes_through_pages_in_order(registry: Registry) -> None:
    put(registry, *(NewMemory(str(n), namespace="even" if n % 2 == 0 else "odd") for n in range(25)))
    assert [m.id for m in registry.iterate(page=4)] == list(range(1, 26))
    assert [m.text for m in registry.iterate("odd", after=20, page=4)] == ["21", "23"]
    assert registry.count() == 25
    assert registry.count("even") == 13
    assert registry.namespaces() == {"even": 13, "odd": 12}
    assert registry.live("odd", 20) == [(22, 21), (24, 23)]


def test_more_ids_than_sqlite_takes_at_once(registry: Registry) -> None:
    assert [len(piece) for _, piece in chunks(range(1100))] == [500, 500, 100]
    put(registry, *(NewMemory(str(n)) for n in range(1100)))
    assert len(registry.get(range(1, 2000))) == 1100
    put_pointers(registry.db, [(n, (bytes(64),) * 3, 1) for n in range(1100)])
    gone = delete_memories(registry, range(1, 1101))
    assert (gone.memories, sorted(gone.slots)) == (1100, list(range(1100)))


def test_generation_and_meta(registry: Registry) -> None:
    start = registry.generation
    put(registry, NewMemory("a"))
    assert registry.generation == start + 1
    registry.set_meta("key", {"a": [1]})
    assert registry.get_meta("key") == {"a": [1]}
    registry.drop_meta("key")
    assert registry.get_meta("key", "none") == "none"


def test_reading_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(BankNotFoundError, match="membank ingest"):
        Registry(tmp_path / "none.sqlite", read_only=True)
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(BankFormatError, match="not a bank"):
        Registry(tmp_path / "empty.sqlite", read_only=True)
    (tmp_path / "noise.sqlite").write_bytes(b"no database at all " * 100)
    for read_only in (True, False):
        with pytest.raises(BankFormatError, match="not a bank"):
            Registry(tmp_path / "noise.sqlite", read_only=read_only)
