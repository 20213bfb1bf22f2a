"""When `forget` returns, no file of the bank holds anything of what was forgotten."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from support.banks import FACTS, files_with, numbered, open_bank, python, texts
from support.terminals import membank

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import BankStorageError
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.store import database, index_set, removal
from membank_llama.store.activations import MemMapBuffer

SECRET = "Dr Xylofrabble keeps an office in Quindlemarsh, phone 9931774402."
WORDS = (b"xylofrabbl", b"Xylofrabble", b"quindlemarsh", b"Quindlemarsh", b"9931774402")


@pytest.fixture(autouse=True)
def _small_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    # so that a few hundred vectors are in a graph
    monkeypatch.setattr(index_set, "TAIL_LIMIT", 50)


def traces(bank: MemBank, ids: Sequence[int]) -> list[bytes]:
    """What the files hold of the vectors of some memories, long ones' passages among them."""
    store = bank.store
    found = []
    for memory_id in ids:
        parts = store.registry.rows("SELECT slot FROM passages WHERE memory_id = ?", (memory_id,))
        slots = np.array([bank.get(memory_id).slot, *(slot for (slot,) in parts)], np.int64)
        codes = store.codes(slots, 0)
        width = store.indexes.get("default").dim
        rows = store.hierarchy.index_rows(store.codes(slots, 2), width).astype(np.float32)
        found += [row[8:40].tobytes() for row in codes] + [row.tobytes() for row in rows]
    return found


def left(path: Path, needles: Sequence[bytes]) -> list[tuple[bytes, list[str]]]:
    return [(needle[:20], where) for needle in needles if (where := files_with(path, needle))]


@pytest.mark.parametrize("saved", ["loaded", "on disk alone", "never"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_nothing_is_left(tmp_path: Path, saved: str, calibrated: bool) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(numbered(300 if calibrated else 120))
        secret = bank.ingest(SECRET, {"clinic": "Quindlemarsh"}).memory_id
        bank.ingest_many([*FACTS, *numbered(20, start=400)])
        if saved != "never":
            bank.flush()
        needles = traces(bank, [secret])
        assert len(left(tmp_path, needles)) >= 1, "they were there"
        if saved == "loaded":
            assert bank.forget(secret) == 1
            assert left(tmp_path, [*WORDS, *needles]) == []
            assert bank.verify().ok, bank.verify().problems
    if saved != "loaded":
        with open_bank(tmp_path) as bank:
            assert bank.forget(secret) == 1
            assert left(tmp_path, [*WORDS, *needles]) == []
    assert left(tmp_path, [*WORDS, *needles]) == [], "nor when it is closed"
    with open_bank(tmp_path) as bank:
        assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
        assert "Xyl" not in " ".join(texts(bank.recall("Xylofrabble Quindlemarsh", 10)))
        assert bank.verify().ok, bank.verify().problems
        bank.flush()
    assert left(tmp_path, [*WORDS, *needles]) == [], "nor when indexes are saved again"


def test_nothing_of_a_long_memory_either(tmp_path: Path) -> None:
    text = " ".join(f"Paragraph {n} about the zorblatt{n}." for n in range(400))
    with open_bank(tmp_path) as bank:
        bank.ingest_many(numbered(100))
        long = bank.ingest(text).memory_id
        bank.flush()
        needles = traces(bank, [long])
        assert len(needles) > 4
        bank.forget(long)
        assert left(tmp_path, [*needles, b"zorblatt", b"Paragraph 77"]) == []


def test_what_another_namespace_holds_too_stays_there(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        mine = bank.ingest(SECRET, namespace="mine").memory_id
        bank.ingest(SECRET, namespace="theirs")
        assert bank.forget(mine) == 1
        assert texts(bank.recall("Quindlemarsh office", 1, namespace="theirs")) == [SECRET]
        assert bank.recall("Quindlemarsh office", 1, namespace="mine") == []
        assert bank.verify().ok


def test_nothing_is_left_in_a_vector_file_that_is_being_made(tmp_path: Path) -> None:
    """A re-encoding that was interrupted holds vectors in the next activation file."""

    class Interrupted(MockAdapter):
        batches = 0

        def model_id(self) -> str:
            return "other-1-64"

        def encode_batch(self, texts):  # type: ignore[no-untyped-def]
            self.batches += 1
            if self.batches > 3:
                raise KeyboardInterrupt
            return super().encode_batch(texts)

    with open_bank(tmp_path) as bank:
        secret = bank.ingest(SECRET).memory_id
        bank.ingest_many(numbered(200))
        with pytest.raises(KeyboardInterrupt):
            bank.reencode(Interrupted(hidden_dim=64))
        assert len(list(tmp_path.glob("activations-*"))) == 2
        needles = traces(bank, [secret])
    with open_bank(tmp_path) as bank:
        bank.forget(secret)
        assert left(tmp_path, [*WORDS, *needles]) == []


def test_however_pages_were_moved_about(tmp_path: Path) -> None:
    """SQLite zeroes what it frees, but leaves copies where it moves rows between pages."""
    rng = random.Random(7)

    def told(n: int) -> NewMemory:
        filler = " ".join(rng.choice(("oak", "pine", "birch", "alder")) for _ in range(rng.choice((3, 30, 200, 700))))
        return NewMemory(f"unique{n}word {filler} tail{n}end")

    with open_bank(tmp_path) as bank:
        ids = [result.memory_id for result in bank.ingest_many([told(n) for n in range(160)])]
        names = dict(zip(ids, range(160), strict=True))
        count = 160
        while ids:
            some = [ids.pop(rng.randrange(len(ids))) for _ in range(min(len(ids), rng.choice((1, 1, 2, 5, 30))))]
            bank.forget(some)
            gone = [f"unique{names[i]}word".encode() for i in some] + [f"tail{names[i]}end".encode() for i in some]
            assert left(tmp_path, gone) == []
            if rng.random() < 0.3:
                more = [result.memory_id for result in bank.ingest_many([told(count + n) for n in range(3)])]
                names |= {memory_id: count + n for n, memory_id in enumerate(more)}
                ids, count = [*ids, *more], count + 3
        assert bank.stats()["memories"] == 0


def test_a_text_is_found_wherever_it_lies_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "PIECE", 64)
    rng = random.Random(1)
    needles = [b"zanzibar", b"zan", b"quagga-and-a-longer-one"]
    for _ in range(200):
        parts = [rng.choice([*needles, bytes(rng.choices(b"abcxyz.", k=rng.randrange(1, 40)))]) for _ in range(30)]
        (tmp_path / "file").write_bytes(data := b"|".join(parts))
        with FileIO(tmp_path / "file") as file:
            assert removal._counts(file, needles) == [data.count(needle) for needle in needles]


KILLED = """
import sys, time
from support.banks import open_bank
from membank_llama.store.activations import MemMapBuffer
from membank_llama.store.store import Store
def stop(*_, **__):
    print("here", flush=True)
    time.sleep(60)
bank = open_bank(sys.argv[1])
if sys.argv[3] == "before anything is overwritten":
    Store._erase = stop
elif sys.argv[3] == "before activations are":
    MemMapBuffer.write_at = stop
else:
    from membank_llama.store import removal
    removal._empty_log = stop
bank.forget(int(sys.argv[2]))
"""


@pytest.mark.parametrize(
    "where", ["before anything is overwritten", "before activations are", "before the log is emptied"]
)
def test_a_kill_in_between_is_made_up_for_at_the_next_start(tmp_path: Path, where: str) -> None:
    path = tmp_path / "bank"
    with open_bank(path) as bank:
        bank.ingest_many(numbered(120))
        secret = bank.ingest(SECRET).memory_id
        bank.flush()
        needles = traces(bank, [secret])
    with python(KILLED, path, secret, where) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert left(path, [*WORDS, *needles]), "it was killed in time"
    with open_bank(path) as bank:
        assert left(path, [*WORDS, *needles]) == []
        assert bank.stats()["memories"] == 120
        assert bank.verify().ok, bank.verify().problems


def test_a_disk_that_refuses_is_told_and_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        secret = bank.ingest(SECRET).memory_id
        needles = traces(bank, [secret])
        with monkeypatch.context() as failing:

            def refuse(self: MemMapBuffer, *_: object) -> None:
                raise BankStorageError("the disk is failing")

            failing.setattr(MemMapBuffer, "write_at", refuse)
            with pytest.raises(BankStorageError, match=r"forgotten and no recall finds them.*opened next"):
                bank.forget(secret)
        assert bank.recall("Xylofrabble", 1)[0].text != SECRET
        # the slot may be another's by then: that one is left alone
        later = bank.ingest("A heron stands in the river.").memory_id
        assert bank.forget(1) == 1
    with open_bank(tmp_path) as bank:
        assert left(tmp_path, [*WORDS, *needles]) == []
        assert bank.get(later).text == "A heron stands in the river."
        assert bank.verify().ok, bank.verify().problems


def test_a_reader_that_does_not_let_go_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    with open_bank(tmp_path) as bank, open_bank(tmp_path, read_only=True) as reader:
        bank.ingest_many(FACTS)
        secret = bank.ingest(SECRET).memory_id
        rows = reader.store.registry.db.conn.execute("SELECT text FROM memories")
        rows.fetchone()
        with pytest.raises(BankStorageError, match="its log cannot be emptied"):
            bank.forget(secret)
        rows.close()
        bank.forget(1)
        assert left(tmp_path, WORDS) == []


def test_the_command_keeps_its_word(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        secret = bank.ingest(SECRET).memory_id
        bank.recall("Xylofrabble")
    done = membank("--bank", tmp_path, "forget", secret, "--yes")
    assert done.code == 0, done.err
    assert left(tmp_path, WORDS) == []


BESIDE = """
import sqlite3, sys
beside = sqlite3.connect(sys.argv[1])
print(beside.execute("SELECT count(*) FROM memories").fetchone()[0])
beside.close()
"""


def test_another_program_that_closes_the_database_takes_nothing_along(tmp_path: Path) -> None:
    """What is looked for in the file must not cost SQLite its locks: the log would be deleted while it is written."""
    with open_bank(tmp_path) as bank, open_bank(tmp_path, read_only=True) as reader:
        bank.ingest_many(numbered(3))
        bank.forget(1)
        with python(BESIDE, tmp_path / "bank.sqlite") as process:
            assert process.communicate()[0] == "2\n"
        bank.ingest("told after that")
        assert reader.count() == 3
        bank.forget(2)
        reader.close()
        with python(BESIDE, tmp_path / "bank.sqlite") as process:
            assert process.communicate()[0] == "2\n"
        bank.ingest("and after that")
        with open_bank(tmp_path, read_only=True) as after:
            assert after.count() == 3
    descriptors = Path("/proc/self/fd")
    opened = [os.path.realpath(one) for one in descriptors.iterdir()] if descriptors.exists() else []
    assert str(tmp_path / "bank.sqlite") not in opened
