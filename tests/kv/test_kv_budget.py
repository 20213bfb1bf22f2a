"""What pieces may take on disk, who may read them, and what goes first."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from support.damage import everything
from support.own_contexts import KEY, pieces_of

from membank_llama.core.errors import BankStorageError, InvalidInputError
from membank_llama.kv.budget import DEFAULT_BYTES, KVBudget, kv_budget
from membank_llama.kv.machine_key import NAME, machine_key
from membank_llama.kv.piece import Piece, digest_of
from membank_llama.kv.piece_store import PieceStore, forget_pieces, open_pieces, pieces_nbytes

GIB = 1 << 30


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("2G", 2 * GIB), ("2g", 2 * GIB), ("500MB", 500 << 20), ("500 MiB", 500 << 20), ("1.5k", 1536), ("7", 7),
        ("1t", 1 << 40), (" 2G ", 2 * GIB), ("off", 0), ("OFF", 0), ("no", 0), ("none", 0), ("0", 0), ("0G", 0),
        ("on", DEFAULT_BYTES), ("", DEFAULT_BYTES), (True, DEFAULT_BYTES), (False, 0), (0, 0), (123, 123),
        (None, DEFAULT_BYTES),
    ],
)  # fmt: skip
def test_sizes(text: str | int | bool | None, nbytes: int) -> None:
    assert kv_budget(text) == KVBudget(nbytes)
    assert bool(kv_budget(text)) is (nbytes > 0)


@pytest.mark.parametrize("text", ["much", "2GG", "-1", "1e9", "2,5G", "G", "1" * 40, "nan", -1, 2.5, "\0", "２Ｇ"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(InvalidInputError, match="KV budget"):
        kv_budget(text)  # type: ignore[arg-type]


def test_the_environment_says_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMBANK_KV", "3M")
    assert kv_budget() == KVBudget(3 << 20)
    assert kv_budget("1M") == KVBudget(1 << 20)
    monkeypatch.setenv("MEMBANK_KV", "off")
    assert open_pieces(tmp_path, None) is None
    assert open_pieces(tmp_path, "1M") is not None
    monkeypatch.setenv("MEMBANK_KV", "much")
    with pytest.raises(InvalidInputError, match="'much'"):
        kv_budget()


# -- what goes first

SIZE = 10_000


def piece(start: int, end: int, ancestors: tuple[str, ...] = (), seed: int = 0, namespace: str = "default") -> Piece:
    tokens = np.arange(seed, seed + end, dtype=np.int32)
    return Piece(namespace, "key", "model", start, digest_of(tokens[:start]), tokens[start:], b"text", ancestors)


def write(store: PieceStore, one: Piece, size: int = SIZE) -> bool:
    return store.write(store.announce(one, np.full(size, 7, np.uint8)), store.epoch())


def chain(store: PieceStore, length: int, seed: int = 0) -> list[Piece]:
    made: list[Piece] = []
    for n in range(length):
        made.append(piece(20 * n, 20 * (n + 1), tuple(one.id for one in made), seed))
        assert write(store, made[-1])
    return made


def starts(store: PieceStore) -> list[int]:
    return sorted(int(path.name[:8]) for path in store.files())


def test_of_a_chain_the_leaves_go_first(tmp_path: Path) -> None:
    chain(pieces_of(tmp_path), 6)
    for left in range(5, -1, -1):
        store = pieces_of(tmp_path, budget=KVBudget((SIZE + 2000) * left))
        store.collect()
        assert starts(store) == [20 * n for n in range(left)]


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    store = pieces_of(tmp_path)
    first, second = chain(store, 3), chain(store, 3, seed=1000)
    store.used([part.stored for part in store.cover("default", "key", np.arange(60, dtype=np.int32))])
    small = pieces_of(tmp_path, budget=KVBudget((SIZE + 2000) * 4))
    small.evict()
    kept = {path.name for path in small.files()}
    assert kept == {one.filename for one in [*first, second[0]]}


def test_writing_makes_room_and_never_takes_more(tmp_path: Path) -> None:
    store = pieces_of(tmp_path, budget=KVBudget(SIZE * 4))
    for seed in range(0, 1000, 100):
        assert write(store, piece(0, 20, seed=seed))
        assert store.nbytes() <= SIZE * 4 + 2000
    assert len(store.files()) == 3


def test_a_piece_larger_than_all_there_may_be_pushes_nothing_out(tmp_path: Path) -> None:
    store = pieces_of(tmp_path, budget=KVBudget(SIZE * 4))
    assert write(store, piece(0, 20))
    assert not write(store, piece(0, 20, seed=100), SIZE * 5)
    assert len(store.files()) == 1
    assert store.cover("default", "key", np.arange(100, 120, dtype=np.int32)) == []


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = pieces_of(tmp_path)
    chain(store, 3)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(100 * GIB, 0, 5 * GIB - 1))
    assert not store.budget.admits(1, store.root)
    store.evict()
    assert starts(store) == [0, 20]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(100 * GIB, 0, GIB))
    assert not write(store, piece(0, 20, seed=100))
    assert starts(store) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10 * GIB, 0, GIB - 1))
    assert not write(store, piece(0, 20, seed=100))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10 * GIB, 0, GIB + SIZE))
    assert write(store, piece(0, 20, seed=100))
    # a share of a large disk is more than anybody needs
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(4000 * GIB, 0, 17 * GIB))
    assert write(store, piece(0, 20, seed=200))


def test_a_disk_that_is_nearly_full_takes_the_new_for_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = pieces_of(tmp_path)
    chain(store, 3)

    def usage(_: Path) -> Disk:
        # a disk of which others leave five gigabytes and what there is now
        return Disk(100 * GIB, 0, 5 * GIB + before - store.nbytes())

    before = store.nbytes()
    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert write(store, piece(0, 20, seed=100))
    assert starts(store) == [0, 0, 20]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    caplog.clear()
    return found


def test_a_disk_that_refuses_ends_nothing_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = pieces_of(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tempfile.mkstemp", refuse)
        for seed in (0, 100, 200):
            assert write(store, piece(0, 20, seed=seed)) is False
        assert store.files() == []
        (line,) = told(caplog)
        assert "No space left" in line
    assert write(store, piece(0, 20))
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert write(store, piece(0, 20, seed=300)) is False
    assert len(told(caplog)) == 1


def test_why_nothing_is_kept_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    small = pieces_of(tmp_path, budget=KVBudget(SIZE - 1))
    assert not write(small, piece(0, 20)) and not write(small, piece(0, 20))
    (line,) = told(caplog)
    assert "--kv" in line
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10 * GIB, 0, GIB - 1))
    assert not write(pieces_of(tmp_path), piece(0, 20))
    (line,) = told(caplog)
    assert "nearly full" in line


def test_nothing_is_left_where_the_bank_is_gone(tmp_path: Path) -> None:
    store = pieces_of(tmp_path / "bank")
    shutil.rmtree(tmp_path / "bank")
    assert write(store, piece(0, 20)) is False
    assert not (tmp_path / "bank").exists()


# -- whose files they are


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_nobody_else_may_read_them(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = pieces_of(tmp_path / "bank")
        chain(store, 2)
        store.forget({"default": ["nothing of it"]})
        machine_key(tmp_path / "cache")
    finally:
        os.umask(before)
    found = [store.root, *store.root.rglob("*"), tmp_path / "cache", tmp_path / "cache" / NAME]
    assert len(found) == 7
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.skipif(os.name == "nt", reason="links need POSIX")
def test_a_linked_kv_is_not_followed(tmp_path: Path) -> None:
    elsewhere = pieces_of(tmp_path / "elsewhere")
    chain(elsewhere, 2)
    before = everything(tmp_path / "elsewhere")
    store = pieces_of(tmp_path / "bank")
    store.root.symlink_to(elsewhere.root)
    assert write(store, piece(0, 20, seed=100)) is False
    assert store.cover("default", "key", np.arange(60, dtype=np.int32)) == []
    assert store.forget({"default": ["text"]}) == 0
    assert store.collect() == {"damaged": 0, "freed_bytes": 0}
    assert (store.files(), store.nbytes(), pieces_nbytes(tmp_path / "bank")) == ([], 0, 0)
    forget_pieces(tmp_path / "bank", {"default": ["text"]})
    assert everything(tmp_path / "elsewhere") == before


def test_collecting_leaves_what_is_not_ours(tmp_path: Path) -> None:
    store = pieces_of(tmp_path)
    chain(store, 2)
    (directory,) = store.directories()
    others = [directory / "photo.jpg", store.root / "notes.txt", directory / "00000000-00000020-x.kv"]
    for path in others:
        path.write_text("precious")
    draft = directory / f".{store.files()[0].name}-abcd1234"
    draft.write_text("begun")
    store.files()[1].write_bytes(b"damaged")
    assert store.collect()["damaged"] == 1
    assert not draft.exists()
    assert starts(store) == [0]
    PieceStore(tmp_path, KVBudget(0), key=KEY).collect()
    assert starts(store) == []
    assert all(path.read_text() == "precious" for path in others)


# -- the key


def test_a_key_is_made_once(tmp_path: Path) -> None:
    key = machine_key(tmp_path / "cache")
    assert len(key) == 32
    assert machine_key(tmp_path / "cache") == key
    assert list((tmp_path / "cache").iterdir()) == [tmp_path / "cache" / NAME]


def test_a_key_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).write_bytes(b"short")
    with pytest.raises(BankStorageError, match="delete it"):
        machine_key(tmp_path)
    monkeypatch.setenv("MEMBANK_CACHE", str(tmp_path))
    assert open_pieces(tmp_path, True) is None


def test_without_links_a_key_is_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert machine_key(tmp_path) == machine_key(tmp_path)


def test_with_another_key_nothing_is_found(tmp_path: Path) -> None:
    chain(pieces_of(tmp_path), 2)
    other = PieceStore(tmp_path, key=bytes(32))
    assert other.cover("default", "key", np.arange(60, dtype=np.int32)) == []
    # nobody can read them any more
    assert other.collect()["damaged"] == 2
