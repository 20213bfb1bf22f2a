"""Whom a question is about, among those who speak."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.banks import open_bank

from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.recall.speakers import asks_for_replies, mentions_in, without_names
from membank_llama.store.namespace_snapshot import NamespaceSnapshot


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        yield opened


def snapshot_of(bank: MemBank, *roles: str) -> NamespaceSnapshot:
    bank.ingest_many([NewMemory(f"A word of {role}.", role=role) for role in roles])
    return bank.store.snapshots.get("default")


def asked(text: str, snapshot: NamespaceSnapshot) -> set[str]:
    numbers = mentions_in(text, snapshot).about
    return {name for name, number in snapshot.speakers.items() if number in numbers}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("What did Ana bake?", ["Ana"]),
        ("What is Ana's cake made of?", ["Ana"]),
        ("Is it the boys' or James’ cake?", ["James"]),
        ("What did Jon tell Ana?", ["Ana", "Jon Smith"]),
        ("Does Jon Smith bake?", ["Jon Smith"]),
        ("What did ana bake?", []),
        ("Is Anabel here?", []),
        ("Did the user bake?", []),
    ],
)
def test_names_in_a_question(bank: MemBank, text: str, named: list[str]) -> None:
    assert list(mentions_in(text, snapshot_of(bank, "Ana", "Jon Smith", "James", "user")).names) == named


@pytest.mark.parametrize(
    ("text", "whose"),
    [
        ("What is the dog called?", set()),
        ("What is my dog called?", {"user"}),
        ("Where did I leave it?", {"user"}),
        ("What did you suggest for dinner?", {"assistant"}),
        ("Which book did you recommend to me?", {"assistant"}),
        ("What was your advice on sleep?", {"assistant"}),
        ("What did Ana tell me?", {"Ana"}),
        ("What did Ana tell Jon?", set()),
        ("What do you think?", set()),
    ],
)
def test_whose_words_a_question_is_about(bank: MemBank, text: str, whose: set[str]) -> None:
    assert asked(text, snapshot_of(bank, "user", "assistant", "Ana", "Jon")) == whose


def test_names_in_other_letters(bank: MemBank) -> None:
    snapshot = snapshot_of(bank, "Jürgen", "小明", "मीरा", "Ana")
    assert mentions_in("What did Ju\u0308rgen bake?", snapshot).names == ("Jürgen",)
    assert mentions_in("小明喜欢什么？", snapshot).names == ("小明",)
    assert mentions_in("मीरा कहाँ है?", snapshot).names == ("मीरा",)
    assert mentions_in("What did Ju\u0308rgen bake?", snapshot).words == {"jurgen"}
    assert without_names("What did Ju\u0308rgen bake?", ["Jürgen"]) == "What did bake?"


def test_a_transcript_writes_its_roles_large(bank: MemBank) -> None:
    bank.ingest_many(["User: what shall we eat?", "Assistant: try the soup."])
    snapshot = bank.store.snapshots.get("default")
    assert asked("What did you suggest?", snapshot) == {"Assistant"}
    assert asked("What did I ask?", snapshot) == {"User"}
    assert snapshot.names == []


def test_where_one_side_speaks_that_says_nothing(bank: MemBank) -> None:
    snapshot = snapshot_of(bank, "user")
    assert asked("What is my dog called?", snapshot) == set()
    assert asked("What did you suggest?", snapshot) == set()


def test_telling_speakers_apart(bank: MemBank) -> None:
    assert not snapshot_of(bank, "user", "assistant", "Ana").tells_speakers_apart
    assert snapshot_of(bank, "Jon").tells_speakers_apart


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("What did Ana bake on Sunday?", "What did bake on Sunday?"),
        ("Ana's cake: who ate it?", "cake: who ate it?"),
        ("Ana, who ate the cake?", "who ate the cake?"),
        ("Does Jon Smith bake?", "Does bake?"),
        ("Is Anabel baking?", "Is Anabel baking?"),
        ("Who is Ana?", "Who is Ana?"),
        ("Who bakes?", "Who bakes?"),
    ],
)
def test_a_question_without_the_names(bank: MemBank, text: str, rest: str) -> None:
    names = mentions_in(text, snapshot_of(bank, "Ana", "Jon Smith")).names
    assert without_names(text, names) == rest if names else rest == text


def test_a_name_is_text_and_no_pattern(bank: MemBank) -> None:
    snapshot = snapshot_of(bank, "A.*", "B(")
    assert mentions_in("What of A and B?", snapshot).names == ()
    assert without_names("What of Apples?", ["A.*", "B("]) == "What of Apples?"


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("What did you suggest for dinner?", True),
        ("I was looking back at our previous conversation about ferries. Which line was it?", True),
        ("What was the name of the tool we talked about?", True),
        ("What is my boat called?", False),
        ("Which conversation partner do I have?", False),
    ],
)
def test_what_asks_for_what_was_answered(text: str, asks: bool) -> None:
    assert asks_for_replies(text) is asks
