"""What the tests of the bank share: small banks with the mock encoder, and things that go wrong on purpose."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.types import NewMemory, Vector
from membank_llama.memory.bank import MemBank
from membank_llama.store.memory_writer import ModelCard
from membank_llama.store.schema import MIGRATIONS, add_functions
from membank_llama.store.store import Store

ROOT = Path(__file__).resolve().parent.parent.parent
DIM = 64

FACTS = (
    "My sister Ana lives in Porto.",
    "The car needs new tyres before winter.",
    "Grandmother bakes bread with rye flour.",
    "The wifi password is written under the router.",
    "Our flight to Lisbon leaves at seven.",
    "The dentist moved to Maple Street.",
)


def open_bank(path: Path, dim: int = DIM, **options: object) -> MemBank:
    """A bank with the mock encoder."""
    return MemBank(MockAdapter(hidden_dim=dim), path, **options)  # type: ignore[arg-type]


def card(dim: int = DIM, name: str = "mock") -> ModelCard:
    return ModelCard(f"{name}-1-{dim}", name, dim)


def open_store(path: Path, dim: int = DIM, **options: object) -> Store:
    return Store(path, card(dim), **options)  # type: ignore[arg-type]


def as_format(path: Path, version: int) -> None:
    """Make a bank what an earlier format left: its tables and its rows, without what came later."""
    old = path.with_name("old.sqlite")
    with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as raw:
        add_functions(raw)
        for statement in (statement for migration in MIGRATIONS[:version] for statement in migration):
            raw.execute(statement)
        raw.execute("DELETE FROM meta")
        raw.execute("ATTACH ? AS now", (str(path / "bank.sqlite"),))
        for table in ("meta", "memories", "pointers"):
            columns = ", ".join(row[1] for row in raw.execute(f"PRAGMA main.table_info({table})"))
            raw.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")
        if version < 5:
            raw.execute("DELETE FROM meta WHERE key IN ('words_secret', 'lifetimes')")
        raw.execute(f"PRAGMA user_version = {version}")
        raw.execute("DETACH now")
    for leftover in path.glob("bank.sqlite*"):
        leftover.unlink()
    old.rename(path / "bank.sqlite")


def unit_vectors(count: int, dim: int = DIM, seed: int = 0) -> Vector:
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def numbered(count: int, namespace: str = "default", start: int = 0) -> list[NewMemory]:
    """Memories with a number and a few words each, all different."""
    words = ("river", "lamp", "violin", "harbour", "ticket", "walnut", "engine", "letter", "garden", "copper")
    return [
        NewMemory(f"note {n}: the {words[n % 10]} beside the {words[n // 10 % 10]}", namespace=namespace)
        for n in range(start, start + count)
    ]


def texts(results: Sequence[object]) -> list[str]:
    return [result.text for result in results]  # type: ignore[attr-defined]


def python(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Another Python process with the package and these helpers importable."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )


def files_with(directory: Path, needle: bytes) -> list[str]:
    """Names of the files below a directory that hold these bytes."""
    return sorted(p.name for p in directory.rglob("*") if p.is_file() and needle in p.read_bytes())


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    """Until something comes about in the background."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()
