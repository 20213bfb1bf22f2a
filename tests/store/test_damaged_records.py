"""Records and fields of a kind that none of ours has: told with an error of ours, never taken for true."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from support.banks import FACTS, open_bank
from support.damage import change, copy_of, make_bank, record, use_it_all

from membank_llama.core.errors import BankCorruptError, BankError, InvalidInputError
from membank_llama.store.schema import migrate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bank(tmp_path_factory.mktemp("made") / "bank", 20)


@pytest.fixture
def bank(tmp_path: Path, made: Path) -> Path:
    return copy_of(made, tmp_path / "bank")


@pytest.mark.parametrize(
    ("key", "value"),
    [("model", {"id": "mock"}), ("model", 7), ("model", {"id": 1, "name": "m", "dim": 64}),
     ("model", {"id": "m", "name": "m", "dim": 10**12}), ("model", {"id": "m", "name": "m", "dim": 64, "x": 1}),
     ("hgns", 5), ("hgns", {}), ("hgns", {"codec": "axes", "dim": 10**9, "k": 10, "gradient_levels": 3}),
     ("hgns", {"format": 1, "codec": "digits", "dim": 64, "k": 6, "gradient_levels": 10**9, "bytes": [256, 64, 21]}),
     ("hgns", {"format": 1, "codec": "digits", "dim": "64", "k": 6, "gradient_levels": 4, "bytes": [256, 64, 21]}),
     ("calibrated_at", "x"), ("calibrated_at", -1), ("weights", [1]), ("weights", {"dense": 1e999}), ("weights", 5),
     ("rewrite", 9), ("activations", [])],
)  # fmt: skip
def test_records_of_another_kind_are_errors_of_ours(bank: Path, key: str, value: object) -> None:
    record(bank, key, value)
    use_it_all(bank)
    for options in ({"read_only": True}, {}):
        try:
            with open_bank(bank, **options) as opened:
                opened.recall("sister")
        except (BankError, InvalidInputError):
            pass


@pytest.fixture(scope="module")
def with_axes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bank(tmp_path_factory.mktemp("made") / "bank")


@pytest.mark.parametrize(
    "shapes", [[[10**12]] * 7, [[-1]] * 7, "abc", [[2]] * 7, [], None, [[64], [64, 64]], [[[64]]] * 7]
)
def test_axes_of_absurd_shape_are_refused(tmp_path: Path, with_axes: Path, shapes: object) -> None:
    bank = copy_of(with_axes, tmp_path / "bank")
    head = json.dumps(shapes).encode()
    body = len(head).to_bytes(4, "little") + head
    blob = b"MBKAXES1" + hashlib.sha256(body).digest() + body
    with contextlib.closing(sqlite3.connect(bank / "bank.sqlite")) as raw:
        spec = json.loads(raw.execute("SELECT value FROM meta WHERE key = 'hgns'").fetchone()[0])
    record(bank, "hgns", {**spec, "axes": "0" * 32})
    change(bank, "DELETE FROM axes", ("INSERT INTO axes VALUES ('x', ?)", (blob,)))
    with pytest.raises(BankCorruptError, match="reencode"):
        open_bank(bank)
    with open_bank(bank, repair=True) as opened:
        assert opened.reencode() > 0
        assert opened.verify().ok


FIELDS = {
    "metadata": ["{", "[1]", "7", None, b"\xff"], "role": [5, b"user", None], "created_at": ["x", None, 9e999, b"1"],
    "text_hash": [None, "x", b""], "namespace": [b"default", 7], "slot": [-1, 1 << 40, "x", None, 2.5, b"1"],
    "conversation": [b"c", 5], "text": [b"bytes", 5, None], "pinned": ["x", None], "expires_at": ["x", b"1"],
    "asks": ["x", None, b"1"], "speaker": [b"x", 5],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in FIELDS.items() for value in values])
def test_fields_of_another_kind_are_errors_of_ours(bank: Path, field: str, value: object) -> None:
    with contextlib.closing(sqlite3.connect(bank / "bank.sqlite", isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER IF EXISTS memories_fts_update")
        # a damaged page keeps no constraint either
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE name = 'memories'")
        raw.execute("PRAGMA writable_schema = RESET")
        raw.execute(f"UPDATE memories SET {field} = ? WHERE id = 1", (value,))
    _restore_schema(bank)
    with contextlib.suppress(BankError), open_bank(bank) as opened:
        assert not opened.verify().ok
        with contextlib.suppress(BankError):
            found = [result.text for result in opened.recall("sister Ana", 1)]
            assert field == "namespace" or found == [FACTS[0]]
        if field != "slot":
            with pytest.raises(BankError):
                list(opened.memories())
            with pytest.raises(BankError, match="hide"):
                opened.rebuild_indexes()
    with contextlib.suppress(BankError), open_bank(bank, read_only=True) as opened:
        assert not opened.verify().ok
    use_it_all(bank)


def _restore_schema(bank: Path) -> None:
    """Give a tampered bank the schema of a whole one."""
    with contextlib.closing(sqlite3.connect(":memory:")) as made:
        made.isolation_level = None
        migrate(made, "here")
        names = "SELECT name, sql FROM sqlite_master WHERE name IN ('memories', 'memories_fts_update')"
        right = dict(made.execute(names))
    with contextlib.closing(sqlite3.connect(bank / "bank.sqlite", isolation_level=None)) as raw:
        if "memories_fts_update" in right:
            raw.execute(right["memories_fts_update"])
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'memories'", (right["memories"],))
        raw.execute("PRAGMA writable_schema = RESET")
