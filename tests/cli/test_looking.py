"""`membank list`, `show` and `undo`: the same memories and the same shape as by HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.terminals import Membank

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.namespace_memories import NamespaceMemories

START = 1_700_000_000.0


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Membank:
    for name in ("MEMBANK_BANK", "MEMBANK_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        notes = [
            NewMemory(f"Canoe number {n} is green.", created_at=START + n, conversation=f"c{n % 2}") for n in range(7)
        ]
        bank.ingest_many([*notes, NewMemory("Elsewhere.", namespace="work", role="note", source="mail")])
        bank.pin(3)
    return Membank(tmp_path / "bank", capsys)


def test_memories_are_leafed_through(mb: Membank) -> None:
    first = mb("list", "--limit", 4)
    assert first.code == 0 and "Canoe number 6 is green." in first.out and "● " not in first.out
    cursor = first.err.split("--cursor ")[1].strip()
    second = mb("list", "--limit", 4, "--cursor", cursor)
    assert second.out.count("Canoe") == 3 and "●" in second.out and "--cursor" not in second.err
    pages = [json.loads(mb("list", "--json", "-k", 4, *more).out) for more in ([], ["--cursor", cursor])]
    with MemBank(None, mb.bank, read_only=True) as bank:
        mine = NamespaceMemories(bank, "default")
        assert pages == [mine.page(4), mine.page(4, cursor)]


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        (["--conversation", "c1"], 3), (["--pinned"], 1), (["--unpinned"], 6), (["--text", "NUMBER 4"], 1),
        (["--role", "note"], 0), (["--role", "note", "--namespace", "work"], 1), (["--since", "2024-01-01"], 0),
        (["--until", "2024-01-01", "--conversation", "c0"], 4), (["--source", "mail", "-n", "work"], 1),
    ],
)  # fmt: skip
def test_conditions_must_all_hold(mb: Membank, asked: list[str], count: int) -> None:
    assert len(json.loads(mb("list", "--json", *asked).out)["memories"]) == count


def test_what_cannot_be_meant_is_refused(mb: Membank) -> None:
    for asked in (["list", "--cursor", "x"], ["list", "--since", "soon"], ["undo", "abc", "--list"], ["list", "-k", 0]):
        assert mb(*asked).code == 2, asked
    for asked in (["show", 77], ["show", 1, "--namespace", "work"], ["show", 2**63], ["pin", 1, 2**70]):
        refused = mb(*asked)
        assert refused.code == 1 and "there is no memory" in refused.err
    for asked in (["forget", 2**70], ["correct", 2**70, "Canoes."], ["unpin", -(2**70)]):
        assert "there is no memory" in mb(*asked[:1], "--", *asked[1:]).err
    assert mb("undo", "0123456789ab").code == 2


def test_a_memory_is_shown_with_what_it_said_before(mb: Membank) -> None:
    assert mb("correct", 1, "Canoe number 0 is red.").code == 0
    new = json.loads(mb("list", "--text", "is red", "--json").out)["memories"][0]["id"]
    shown = mb("show", new)
    assert "Canoe number 0 is red." in shown.out and "before: Canoe number 0 is green." in shown.out
    told = json.loads(mb("show", new, "--json").out)
    with MemBank(None, mb.bank, read_only=True) as bank:
        assert told == NamespaceMemories(bank, "default").one(new)
    assert json.loads(mb("show", 8, "--json").out)["namespace"] == "work"


def test_changes_are_listed_and_taken_back(mb: Membank) -> None:
    mb("correct", 1, "Canoe number 0 is red.")
    changes = json.loads(mb("undo", "--list", "--json").out)
    assert [one["kind"] for one in changes] == ["correct", "pin"]
    assert changes[1]["id"] in mb("undo", "--list").out
    taken = mb("undo", changes[1]["id"])
    assert taken.code == 0 and "no longer pinned" in taken.out
    again = json.loads(mb("undo", "--json").out)
    assert json.loads(mb("show", again["ids"][0], "--json").out)["text"] == "Canoe number 0 is green."
    assert mb("undo").code == 2
    assert "0 changes" in mb("undo", "--list").err


def test_letters_that_a_terminal_would_obey_are_shown(mb: Membank) -> None:
    with MemBank(WordsAdapter(), mb.bank) as bank:
        bank.ingest("Red \x1b[31mletters\x07 [bold]here[/bold].\nAnd a second line.", role="user\x1b]0;x")
    for asked in (["list"], ["show", 9], ["list", "--json"]):
        shown = mb(*asked)
        assert shown.code == 0 and "\x1b" not in shown.out and "\x07" not in shown.out
    assert "[bold]here[/bold]" in mb("show", 9).out
