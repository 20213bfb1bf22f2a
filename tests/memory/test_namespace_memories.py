"""What is looked at and changed from outside is of one namespace, page by page, in one shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.banks import open_bank

from membank_llama.core.errors import InvalidInputError, InvalidQueryError, MemoryNotFoundError
from membank_llama.core.provenance import NAMES
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.ingest_results import IngestResult
from membank_llama.memory.namespace_memories import NamespaceMemories

DAY = 86_400.0
START = 1_700_000_000.0


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        items = [
            NewMemory(f"Note {n} about 100% wool_socks.", created_at=START + n * DAY, conversation=f"c{n % 3}")
            for n in range(23)
        ]
        # several of one moment
        items += [NewMemory(f"Twin {n}.", created_at=START, role="assistant", source="mail") for n in range(5)]
        opened.ingest_many([*items, NewMemory("Their secret.", namespace="theirs")])
        yield opened


def leafed(mine: NamespaceMemories, limit: int, **conditions: object) -> list[int]:
    found: list[int] = []
    cursor = None
    while True:
        page = mine.page(limit, cursor, **conditions)
        assert len(page["memories"]) <= limit
        found += [one["id"] for one in page["memories"]]
        cursor = page["cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 4, 28, 100])
def test_pages_hold_each_memory_once_the_newest_first(bank: MemBank, limit: int) -> None:
    mine = NamespaceMemories(bank, "default")
    found = leafed(mine, limit)
    assert found == leafed(mine, 500) and len(set(found)) == len(found) == 28
    assert found[0] == 23 and found[-5:] == [27, 26, 25, 24, 1]


@pytest.mark.parametrize(
    "among", [{"conversation": "attic"}, {"pinned": True}, {"source": "letter"}, {"ids": frozenset({330, 331})}]
)
def test_a_search_is_made_among_what_fits_and_not_held_against_it(bank: MemBank, among: dict[str, object]) -> None:
    bank.ingest_many(
        [
            *(NewMemory(f"The wool socks of drawer {n} are grey.", conversation="c0") for n in range(300)),
            NewMemory("Grey wool was bought.", conversation="attic", source="letter", pinned=True),
            NewMemory("Grey wool was sold.", namespace="theirs", conversation="attic", source="letter", pinned=True),
        ]
    )
    mine = NamespaceMemories(bank, "default")
    assert "attic" not in {one["conversation"] for one in mine.search("grey wool socks drawer", 200)["memories"]}
    found = mine.search("grey wool socks drawer", among=among)["memories"]
    assert [one["text"] for one in found] == ["Grey wool was bought."]
    assert mine.search("grey wool socks drawer", among={"conversation": "none such"})["memories"] == []


def test_a_page_goes_on_where_it_was_whatever_came_meanwhile(bank: MemBank) -> None:
    mine = NamespaceMemories(bank, "default")
    first = mine.page(10)
    bank.ingest("Just now.")
    bank.forget(first["memories"][3]["id"])
    second = mine.page(10, first["cursor"])
    assert [one["id"] for one in second["memories"]] == [*range(13, 3, -1)]


@pytest.mark.parametrize(
    ("conditions", "count"),
    [
        ({"conversation": "c1"}, 8),
        ({"conversation": ""}, 5),
        ({"role": "assistant"}, 5),
        ({"source": "mail"}, 5),
        ({"text": "100% WOOL_"}, 23),
        ({"text": "100%_wool"}, 0),
        ({"since": START + DAY, "until": START + 3 * DAY}, 2),
        ({"pinned": True}, 0),
        ({"ids": frozenset({1, 2, 29, 99})}, 2),
        ({"conversation": "c0", "since": START + DAY}, 7),
    ],
)
def test_conditions_must_all_hold(bank: MemBank, conditions: dict[str, object], count: int) -> None:
    mine = NamespaceMemories(bank, "default")
    assert len(leafed(mine, 3, **conditions)) == count
    if "ids" not in conditions:
        assert mine.count(**conditions) == count


def test_what_somebody_said_is_told_from_what_else_is_there(tmp_path: Path) -> None:
    roles = ("user", "Human", "assistant", "AI", "tool", "Function", "note", "system")
    metas: tuple[dict[str, object], ...] = (
        {}, {"part": 1}, {"part": None}, {"provenance": "import"}, {"provenance": "model"}, {"provenance": "none"},
        {"provenance": 4}, {"provenance": "person", "part": 2},
    )  # fmt: skip
    items = [
        NewMemory(f"{role} {place} {source}.", meta, role=role, source=source)
        for role in roles
        for place, meta in enumerate(metas)
        for source in (None, "a.md")
    ]
    with open_bank(tmp_path / "bank") as opened:
        opened.ingest_many(items)
        mine = NamespaceMemories(opened, "default")
        for name, kind in NAMES.items():
            wanted = {memory.id for memory in opened.memories() if memory.provenance == kind}
            assert set(leafed(mine, 500, provenance=name)) == wanted and mine.count(provenance=name) == len(wanted)
        with pytest.raises(InvalidQueryError, match="provenance"):
            mine.page(10, provenance="nobody")


def test_a_conversation_is_found_by_its_index(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, asked = bank.store.registry, []
    real = registry.rows
    monkeypatch.setattr(registry, "rows", lambda sql, given=(): asked.append((sql, given)) or real(sql, given))
    assert len(NamespaceMemories(bank, "default").page(50, conversation="c1")["memories"]) == 8
    plan = str(real(f"EXPLAIN QUERY PLAN {asked[0][0]}", asked[0][1]))
    assert "memories_conversation" in plan


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "f_8AAAAAAAAAAAAAAAAAAA", "é", "A" * 400])
def test_a_cursor_of_somebody_else_is_refused(bank: MemBank, cursor: str) -> None:
    with pytest.raises(InvalidQueryError, match="cursor"):
        NamespaceMemories(bank, "default").page(10, cursor)


def test_nothing_of_another_namespace_is_seen_or_changed(bank: MemBank) -> None:
    mine = NamespaceMemories(bank, "default")
    (theirs,) = [memory.id for memory in bank.memories("theirs")]
    for act in (
        lambda: mine.one(theirs),
        lambda: mine.correct(theirs, "Ours."),
        lambda: mine.pin(theirs),
        lambda: mine.forget([1, theirs]),
        lambda: mine.forgettable([theirs]),
    ):
        with pytest.raises(MemoryNotFoundError):
            act()
    other = NamespaceMemories(bank, "theirs")
    other.pin(theirs)
    with pytest.raises(InvalidInputError):
        mine.undo(other.changes()[0]["id"])
    assert mine.changes() == []
    assert leafed(mine, 100, ids=frozenset({theirs})) == []
    assert all("secret" not in one["text"] for one in mine.search("What is the secret?", 20)["memories"])
    assert [one["text"] for one in other.export()] == ["Their secret."]


def test_a_foreign_memory_is_not_even_read(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long one would take longer to read than none does, and tell that it is there."""
    (theirs,) = [memory.id for memory in bank.memories("theirs")]
    registry, read = bank.store.registry, []
    real = registry.rows
    monkeypatch.setattr(registry, "rows", lambda sql, given=(): read.extend(found := real(sql, given)) or found)
    with pytest.raises(MemoryNotFoundError):
        NamespaceMemories(bank, "default").one(theirs)
    assert read == []


def test_what_was_told_is_seen_corrected_forgotten_and_brought_back(bank: MemBank) -> None:
    mine = NamespaceMemories(bank, "default")
    told = mine.create("My canoe is green.", conversation="boats")
    assert told["is_new"] and not mine.create("My canoe is green.")["is_new"]
    corrected = mine.correct(told["id"], "My canoe is red.")
    assert [one["text"] for one in corrected["history"]] == ["My canoe is green."]
    assert mine.one(corrected["id"])["text"] == mine.search("Which colour is the canoe?")["memories"][0]["text"]
    assert [one.id for one in mine.forgettable([corrected["id"]])] == [corrected["id"]]
    change = mine.forget([corrected["id"]])
    with pytest.raises(MemoryNotFoundError):
        mine.one(corrected["id"])
    assert [one["id"] for one in mine.changes()] == [change.id]
    mine.undo(change.id)
    assert [one["id"] for one in mine.changes()] == [corrected["change"]]
    mine.undo(corrected["change"])
    assert [one["text"] for one in mine.page(1)["memories"]] == ["My canoe is green."]
    json.dumps([mine.page(), mine.search("canoe"), mine.conversations(), mine.changes()])


def test_a_correction_names_its_own_change(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not what another hand has done since."""
    mine, real = NamespaceMemories(bank, "default"), bank.correct
    first, second = (mine.create(text)["id"] for text in ("My canoe is green.", "My kayak is blue."))

    def correct(memory_id: int, text: str) -> IngestResult:
        stored = real(memory_id, text)
        real(second, "My kayak is white.")
        return stored

    monkeypatch.setattr(bank, "correct", correct)
    corrected = mine.correct(first, "My canoe is red.")
    (again,) = mine.undo(corrected["change"])["ids"]
    assert mine.plain(again)["text"] == "My canoe is green."


def test_what_would_be_forgotten_is_said_first(bank: MemBank) -> None:
    mine = NamespaceMemories(bank, "default")
    assert len(mine.forgettable(conversation="c1")) == 8
    assert len(mine.forgettable(until=START + 1)) == 6
    for given in ({}, {"ids": [1], "conversation": "c1"}):
        with pytest.raises(InvalidInputError):
            mine.forgettable(**given)
    assert len(leafed(mine, 100)) == 28


def test_conversations_say_when_they_were(bank: MemBank) -> None:
    found = NamespaceMemories(bank, "default").conversations()
    assert [(one["conversation"], one["memories"]) for one in found] == [("c1", 8), ("c0", 8), ("c2", 7)]
    assert found[0]["first"] == START + DAY and found[0]["last"] == START + 22 * DAY
