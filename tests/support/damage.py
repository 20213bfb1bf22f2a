"""What tests of damaged and of strangers' banks share: ways to change a bank behind its back, and to use all of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
import zlib
from pathlib import Path

from membank_llama.core.errors import MembankError
from membank_llama.store.row_format import row_checksum
from support.banks import FACTS, numbered, open_bank


def make_bank(path: Path, count: int = 300) -> Path:
    """A bank with everything in it: removed memories, a saved index, and from 256 memories on axes."""
    with open_bank(path) as bank:
        bank.ingest_many([*FACTS, *numbered(count)])
        bank.forget([2, 3])
        bank.flush()
    return path


def copy_of(made: Path, path: Path) -> Path:
    return Path(shutil.copytree(made, path))


def change(bank: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    with contextlib.closing(sqlite3.connect(bank / "bank.sqlite", isolation_level=None)) as raw:
        for statement in statements:
            raw.execute(*((statement,) if isinstance(statement, str) else statement))


def record(bank: Path, key: str, value: object) -> None:
    """Write a record as we do, checksum and all: a stranger can."""
    row = (key, json.dumps(value))
    change(bank, ("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (*row, row_checksum(*row))))


def use_it_all(path: Path) -> None:
    """Everything that a person may do with a bank; what is refused is refused with an error of ours."""
    for options in ({"read_only": True}, {}, {"repair": True}):
        try:
            with open_bank(path, **options) as bank:
                for use in (
                    lambda bank=bank: bank.recall("sister"),
                    lambda bank=bank: bank.verify(),
                    lambda bank=bank: bank.ingest("hello there"),
                    lambda bank=bank: bank.gc(),
                    lambda bank=bank: bank.rebuild_indexes(),
                    lambda bank=bank: bank.reencode(),
                ):
                    with contextlib.suppress(MembankError):
                        use()
        except MembankError:
            pass


def everything(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def sign(graph: Path, **changes: object) -> None:
    """The note that a stranger writes to a graph."""
    path = graph.with_suffix(".json")
    note = {**json.loads(path.read_text()), "crc32": zlib.crc32(graph.read_bytes()), **changes}
    note.pop("check")
    note["check"] = hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()[:16]
    path.write_text(json.dumps(note))
