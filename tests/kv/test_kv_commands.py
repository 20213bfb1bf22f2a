"""`membank kv ls`, `gc` and `verify`, and what else tells of KV state in the terminal."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from support.banks import open_bank
from support.own_contexts import Opened
from support.terminals import Membank, membank

from membank_llama.cli import terminal
from membank_llama.kv.piece_store import PieceStore

TEXT = "Once upon a time there was a little girl called Lily, who lived in a house by the sea with her \x1b[31mdog. "


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Membank:
    for name in ("MEMBANK_BANK", "MEMBANK_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    open_bank(tmp_path / "bank").close()
    return Membank(tmp_path / "bank", capsys)


@pytest.fixture
def store(mb: Membank, opened: Opened, stories_chatml_gguf: Path) -> PieceStore:
    """Two turns of one namespace, one of another."""
    store = PieceStore(mb.bank)
    context = opened(stories_chatml_gguf, store)
    first = context.tokens(TEXT)
    context.read(first)
    context.keep(first)
    whole = first + context.tokens("One day the ball rolled into the water.")[1:]
    context.evaluate(whole[len(first) :], len(first))
    context.keep(whole)
    context.read(first, "work")
    context.keep(first, "work")
    return store


def test_a_bank_without_any(mb: Membank) -> None:
    assert "0 pieces" in mb("kv", "ls").out
    assert json.loads(mb("kv", "ls", "--json").out) == []
    assert mb("kv", "verify").code == 0
    assert json.loads(mb("kv", "gc", "--json").out) == {"damaged": 0, "freed_bytes": 0}
    assert not (mb.bank / "kv").exists()


def test_a_bank_that_is_not_there(mb: Membank, tmp_path: Path) -> None:
    other = Membank(tmp_path / "nowhere", mb.capsys)
    for command in ("ls", "gc", "verify"):
        assert other("kv", command).code != 0
    assert not other.bank.exists()


def test_ls(mb: Membank, store: PieceStore) -> None:
    done = mb("kv", "ls")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 120
    for word in ("used", "namespace", "model", "tokens", "size", "ends with"):
        assert word in lines[0]
    assert len(lines) == 5 and "3 pieces" in done.err + done.out
    assert any("work" in line for line in lines) and "into the water" in done.out
    # what a text holds changes no terminal
    assert "\x1b" not in done.out
    rows = json.loads(mb("kv", "ls", "--json").out)
    assert sorted((row["namespace"], row["begin"]) for row in rows)[0] == ("default", 0)
    assert {row["model"] for row in rows} == {"stories260K-chatml"}
    assert sum(row["nbytes"] for row in rows) == store.nbytes()


@pytest.mark.parametrize("columns", [80, 120])
def test_what_is_cut_short_is_the_text_alone(mb: Membank, store: PieceStore, columns: int) -> None:
    shown = membank("--bank", mb.bank, "kv", "ls", COLUMNS=str(columns), MEMBANK_CACHE=os.environ["MEMBANK_CACHE"])
    lines = shown.out.splitlines()[1:4]
    for path in store.files():
        begin, end = (int(part) for part in path.name.split("-")[:2])
        size = terminal.size(path.stat().st_size)
        assert any(f" {begin}-{end} " in line and f" {size} " in line for line in lines), lines
    assert all("stories260K-chatml" in line and len(line.rstrip()) <= columns for line in lines)


def test_verify(mb: Membank, store: PieceStore) -> None:
    done = mb("kv", "verify")
    assert done.code == 0 and "3 pieces checked" in done.err + done.out
    assert json.loads(mb("kv", "verify", "--json").out) == {"ok": True, "checked": 3, "problems": []}
    damaged = store.files()[0]
    data = bytearray(damaged.read_bytes())
    # its last byte is one of its cells
    data[-1] ^= 1
    damaged.write_bytes(data)
    done = mb("kv", "verify")
    assert done.code == 1 and damaged.name in re.sub(r"\s", "", done.err + done.out)
    found = mb("kv", "verify", "--json")
    assert found.code == 1
    told = json.loads(found.out)
    assert (told["ok"], told["checked"], len(told["problems"])) == (False, 3, 1)
    # it is told of and not touched
    assert damaged.exists()


def test_what_a_chat_deletes_meanwhile_is_not_damaged(
    mb: Membank, store: PieceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = PieceStore.files

    def files(self: PieceStore) -> list[Path]:
        found = listed(self)
        if found:
            found[0].unlink()
        return found

    monkeypatch.setattr(PieceStore, "files", files)
    assert mb("kv", "verify").code == 0
    assert json.loads(mb("kv", "gc", "--json").out)["damaged"] == 0


def test_gc(mb: Membank, store: PieceStore) -> None:
    damaged = store.files()[0]
    size = damaged.stat().st_size
    damaged.write_bytes(b"damaged")
    done = mb("kv", "gc", "--json")
    assert json.loads(done.out) == {"damaged": 1, "freed_bytes": 7}
    assert len(store.files()) == 2
    assert size > 7
    done = mb("kv", "gc", "--kv", "1")
    assert done.code == 0 and "freed" in done.err + done.out
    assert store.files() == []


def test_gc_off_deletes_all_of_it(mb: Membank, store: PieceStore) -> None:
    assert mb("kv", "gc").code == 0
    assert len(store.files()) == 3
    assert mb("kv", "gc", "--kv", "off").code == 0
    assert store.files() == [] and store.directories() == []


def test_gc_of_nonsense(mb: Membank, store: PieceStore) -> None:
    done = mb("kv", "gc", "--kv", "much")
    assert done.code == 2 and "KV budget" in done.err
    assert len(store.files()) == 3


def test_stats_tell_of_it(mb: Membank, store: PieceStore) -> None:
    assert json.loads(mb("stats", "--json").out)["kv_bytes"] == store.nbytes()
    assert "membank kv ls" in mb("stats").out


def test_forgetting_in_the_terminal(mb: Membank, store: PieceStore) -> None:
    with open_bank(mb.bank) as bank:
        memory = bank.ingest("The ball rolled into the water.").memory_id
    done = mb("forget", memory, "--yes")
    assert done.code == 0, done.err
    # the two that begin ahead of it stay
    assert sorted(path.name[:8] for path in store.files()) == ["00000000", "00000000"]


def test_as_a_program(tmp_path: Path) -> None:
    shown = membank("kv", "--help")
    assert shown.code == 0
    assert all(word in shown.out for word in ("ls", "gc", "verify"))
