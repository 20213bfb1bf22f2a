"""Bad input and bad disks: an error of the package's own that says what to do, and a bank that is whole after it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.banks import DIM, FACTS, ROOT, numbered, open_bank, texts

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import (
    BankCorruptError,
    BankFormatError,
    BankStorageError,
    EmptyTextError,
    InvalidInputError,
    InvalidQueryError,
    InvalidTextError,
    MembankError,
    ModelError,
    TextTooLongError,
)
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MAX_TEXT_BYTES, MemBank
from membank_llama.store.schema import VERSION


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    """A bank that must be as it was when the test is over."""
    with open_bank(tmp_path / "bank") as opened:
        opened.ingest_many(FACTS)
        yield opened
        whole(opened)
    with open_bank(tmp_path / "bank") as again:
        whole(again)


def whole(bank: MemBank, count: int = len(FACTS)) -> None:
    report = bank.verify()
    assert report.ok, report.problems
    assert bank.stats()["memories"] == count
    assert FACTS[0] in texts(bank.recall("Where does my sister live?", 3))


def refused(kind: type[MembankError], advice: str, use: Callable[[], object]) -> None:
    with pytest.raises(kind) as caught:
        use()
    assert isinstance(caught.value, MembankError)
    assert advice in str(caught.value), str(caught.value)


BAD_TEXTS = [
    ("", EmptyTextError, "give it words"),
    (" \n\t\u00a0\u2003", EmptyTextError, "give it words"),
    ("a" * 1_000_000, TextTooLongError, "Split it"),
    ("é" * (MAX_TEXT_BYTES // 2 + 1), TextTooLongError, "membank ingest FILE"),
    ("before\0after", InvalidTextError, "position 6; remove it"),
    ("half \ud83d of a pair", InvalidTextError, "surrogatepass"),
    ("other half \ude00", InvalidTextError, "position 11"),
    (b"bytes", InvalidTextError, "decode bytes first"),
    (b"\xff\xfe", InvalidTextError, "decode bytes first"),
    (None, InvalidTextError, "must be str, not NoneType"),
    (7, InvalidTextError, "must be str, not int"),
]


@pytest.mark.parametrize(("text", "kind", "advice"), BAD_TEXTS)
def test_texts_that_cannot_be_remembered(bank: MemBank, text: str, kind: type[MembankError], advice: str) -> None:
    refused(kind, advice, lambda: bank.ingest(text))
    refused(kind, advice, lambda: bank.ingest_many(["fine", NewMemory(text)]))
    refused(kind, advice, lambda: bank.integrate(text) if kind is not TextTooLongError else bank.ingest(text))


@pytest.mark.parametrize(("text", "kind", "advice"), [bad for bad in BAD_TEXTS if bad[1] is not TextTooLongError])
def test_questions_that_cannot_be_asked(bank: MemBank, text: str, kind: type[MembankError], advice: str) -> None:
    refused(kind, advice, lambda: bank.recall(text))


def test_a_very_long_question_is_asked_all_the_same(bank: MemBank) -> None:
    assert bank.recall("Where does my sister live? " * 40_000, 1)


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        ({"namespace": ""}, "default one"),
        ({"namespace": None}, "namespace must be str"),
        ({"namespace": "\ud800"}, "surrogatepass"),
        ({"role": None}, "role must be str"),
        ({"role": "\udfff"}, "surrogatepass"),
        ({"conversation": 5}, "conversation must be str"),
        ({"source": b"x"}, "source must be str"),
        ({"source": "\ud800"}, "surrogatepass"),
        ({"created_at": float("nan")}, "finite number"),
        ({"expires_at": float("inf")}, "finite number"),
        ({"created_at": "yesterday"}, "seconds since 1970"),
        ({"created_at": 1758344479729000000}, "not milli- or nanoseconds"),
        ({"created_at": 1758344479729}, "not milli- or nanoseconds"),
        ({"expires_at": -1e12}, "no year from 1 to 9999"),
        ({"metadata": {"a": object()}}, "plain values"),
        ({"metadata": {"a": "\ud800"}}, "plain values"),
        ({"metadata": {("a", "b"): 1}}, "plain values"),
        ({"metadata": "text"}, "plain values"),
    ],
)
def test_labels_that_cannot_be_stored(bank: MemBank, labels: dict[str, object], advice: str) -> None:
    refused(InvalidInputError, advice, lambda: bank.ingest("fine", **labels))  # type: ignore[arg-type]


def test_text_of_emoji_alone_is_remembered_and_found(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        result = bank.ingest("🦊🌲🦊")
        assert result.is_new
        assert bank.get(result.memory_id).text == "🦊🌲🦊"
        assert bank.recall("🦊🌲🦊", 1)[0].memory_id == result.memory_id
        whole(bank, len(FACTS) + 1)


def test_text_of_every_kind_comes_back_as_it_was(tmp_path: Path) -> None:
    odd = [
        "'; DROP TABLE memories; --",
        "a\r\nb\x1b[31m",
        "e\u0301 and \u00e9",
        "\u202eright to left",
        "👩‍👩‍👧",
        "x" * 60_000,
    ]
    with open_bank(tmp_path) as bank:
        for text in odd:
            bank.ingest(text, namespace="'\"; --", conversation="%_")
        assert [memory.text for memory in bank.memories()] == odd
        assert bank.verify().ok


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"top_k": 0}, "at least 1"),
        ({"top_k": -5}, "at least 1"),
        ({"top_k": 2.5}, "whole number"),
        ({"top_k": "3"}, "whole number"),
        ({"levels": (7,)}, "0 (full), 1 and 2"),
        ({"levels": ()}, "0 (full), 1 and 2"),
        ({"since": 9.0, "until": 3.0}, "swap them"),
        ({"since": float("nan")}, "seconds since 1970"),
        ({"until": "now"}, "seconds since 1970"),
    ],
)
def test_impossible_questions(bank: MemBank, wrong: dict[str, object], advice: str) -> None:
    refused(InvalidQueryError, advice, lambda: bank.recall("sister", **wrong))  # type: ignore[arg-type]


# -- directories that are no bank, or not ours


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    refused(BankFormatError, "a bank is a directory", lambda: open_bank(path))
    refused(MembankError, "membank ingest", lambda: open_bank(path, read_only=True))
    refused(BankStorageError, "choose a directory", lambda: open_bank(path / "below"))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("content", [b"no database" * 1000, b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 4080])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_that_is_none(tmp_path: Path, content: bytes, read_only: bool) -> None:
    (tmp_path / "bank.sqlite").write_bytes(content)
    with pytest.raises((BankFormatError, BankCorruptError), match=r"another|copy|membank"):
        open_bank(tmp_path, read_only=read_only)
    assert (tmp_path / "bank.sqlite").read_bytes() == content
    assert {p.name for p in tmp_path.iterdir()} <= {"bank.sqlite", "writer.lock"}


def test_a_bank_of_a_newer_format(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        bank.store.registry.rows("PRAGMA user_version = 999")
    for read_only in (False, True):
        refused(BankFormatError, "pip install -U membank-llama", lambda ro=read_only: open_bank(tmp_path, read_only=ro))
    database = sqlite(tmp_path)
    assert database.execute("PRAGMA user_version").fetchone() == (999,)
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.close()
    with open_bank(tmp_path) as bank:
        whole(bank)


def test_activations_of_a_newer_format(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        spec = bank.store.registry.get_meta("hgns")
        bank.store.registry.set_meta("hgns", spec | {"format": 99})
    for read_only in (False, True):
        refused(BankFormatError, "upgrade", lambda ro=read_only: open_bank(tmp_path, read_only=ro))
    database = sqlite(tmp_path)
    assert database.execute("SELECT count(*) FROM memories").fetchone() == (len(FACTS),)
    database.close()


def sqlite(path: Path):  # type: ignore[no-untyped-def]
    import sqlite3

    return sqlite3.connect(path / "bank.sqlite", isolation_level=None)


# -- activations that are damaged


@pytest.mark.parametrize("damage", ["deleted", "truncated", "emptied", "header"])
def test_activations_lost_and_made_again(tmp_path: Path, damage: str) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many([*FACTS, *numbered(50)])
        bank.rebuild_indexes()
    path = tmp_path / "activations-1.bin"
    data = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes({"truncated": data[: len(data) // 2], "emptied": b"", "header": b"x" + data[1:]}[damage])
    for read_only in (False, True):
        refused(BankCorruptError, "membank reencode", lambda ro=read_only: open_bank(tmp_path, read_only=ro))
    with open_bank(tmp_path, repair=True) as bank:
        assert len(list(bank.memories())) == len(FACTS) + 50, "the texts were never in danger"
        assert bank.reencode() == len(FACTS) + 50
        whole(bank, len(FACTS) + 50)
    with open_bank(tmp_path) as bank:
        whole(bank, len(FACTS) + 50)


def test_a_flipped_bit_is_reported_and_mended(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        offset = bank.store.buffer.offset(3) + 4 * DIM + 5
    path = tmp_path / "activations-1.bin"
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)
    with open_bank(tmp_path) as bank:
        (problem,) = bank.verify().problems
        assert problem == "slot 3, level 1: bytes do not match their SHA-256; membank reencode mends it"
        assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
        assert bank.reencode() == len(FACTS)
        whole(bank)


def test_an_interrupted_repair_can_be_repeated(tmp_path: Path) -> None:
    class Stops(MockAdapter):
        def encode_batch(self, texts: object) -> object:  # type: ignore[override]
            raise ModelError("the model is gone")

    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
    (tmp_path / "activations-1.bin").unlink()
    with MemBank(Stops(DIM), tmp_path, repair=True) as bank, pytest.raises(ModelError):
        bank.reencode()
    refused(BankCorruptError, "membank reencode", lambda: open_bank(tmp_path))
    with open_bank(tmp_path, repair=True) as bank:
        bank.reencode()
        whole(bank)


# -- disks


def mounting() -> list[str] | None:
    """How to run a command with mounts of its own, where this machine allows it."""
    if shutil.which("unshare") is None:
        return None
    for command in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        probe = [*command, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return command
    return None


MOUNTING = mounting()
needs_mounts = pytest.mark.skipif(MOUNTING is None, reason="needs unshare and the right to mount a tmpfs")

PRELUDE = """
import os, shutil, subprocess, sys
from pathlib import Path
from support.banks import DIM, FACTS, numbered, open_bank, texts
from membank_llama.core.errors import *
disk = Path(sys.argv[1])

def whole(bank, count=None):
    report = bank.verify()
    assert report.ok, report.problems
    assert count is None or bank.stats()["memories"] == count, bank.stats()
    assert FACTS[0] in texts(bank.recall("Where does my sister live?", 3))

def refused(kind, advice, use):
    try:
        use()
    except kind as error:
        assert advice in str(error), error
    else:
        raise AssertionError(f"no {kind.__name__}")

def fill(leave=0):
    with open(disk / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))
"""


def run_on_disk(disk: Path, code: str, size: str = "8m") -> None:
    """Run code in a process that sees a small tmpfs at `disk`."""
    disk.mkdir()
    mount = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        [*(MOUNTING or []), "sh", "-c", mount, "sh", size, str(disk), sys.executable, PRELUDE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))},
    )
    assert done.returncode == 0, done.stderr + done.stdout


@needs_mounts
def test_a_read_only_disk(tmp_path: Path) -> None:
    run_on_disk(
        tmp_path / "disk",
        """
        with open_bank(disk / "bank") as bank:
            bank.ingest_many([*FACTS, *numbered(60)])
            bank.flush()
            shutil.copytree(disk / "bank", disk / "unclosed")
            shutil.copytree(disk / "bank", disk / "cut off")
            (disk / "cut off" / "bank.sqlite-shm").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        refused(BankStorageError, "read_only=True", lambda: open_bank(disk / "bank"))
        refused(BankStorageError, "choose a directory", lambda: open_bank(disk / "new"))
        for name in ("bank", "unclosed"):
            with open_bank(disk / name, read_only=True) as bank:
                whole(bank, 66)
                refused(BankReadOnlyError, "read_only=True", lambda: bank.ingest("x"))
        # its newest memories would be missing, so it is not opened at all
        refused(BankStorageError, "Copy the directory", lambda: open_bank(disk / "cut off", read_only=True))
        """,
    )


@needs_mounts
def test_a_full_disk(tmp_path: Path) -> None:
    run_on_disk(
        tmp_path / "disk",
        """
        with open_bank(disk / "bank") as bank:
            bank.ingest_many([*FACTS, *numbered(60)])
            for leave in (0, 4096, 40960, 131072):
                fill(leave)
                before = {memory.text for memory in bank.memories()}
                start = bank.stats()["memories"] + 10_000
                refused(BankStorageError, "ree some space", lambda: bank.ingest_many(numbered(9000, start=start)))
                kept = bank.stats()["memories"]
                assert before <= {memory.text for memory in bank.memories()}
                whole(bank, kept)
                (disk / "filler").unlink()
                assert bank.ingest(f"there is room again {leave}").is_new
                whole(bank, kept + 1)
        with open_bank(disk / "bank") as bank:
            whole(bank, kept + 1)
        """,
    )


@needs_mounts
def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    run_on_disk(
        tmp_path / "disk",
        """
        fill()
        refused(BankStorageError, "ree some space", lambda: open_bank(disk / "bank"))
        for leave in (4096, 12288, 40960, 65536):
            (disk / "filler").unlink()
            fill(leave)
            try:
                open_bank(disk / "bank").close()
            except BankStorageError:
                pass
        (disk / "filler").unlink()
        with open_bank(disk / "bank") as bank:
            bank.ingest_many(FACTS)
            whole(bank, 6)
        fill()
        # everything may still be read and asked, whatever there is no room for
        with open_bank(disk / "bank", read_only=True) as bank:
            assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
        """,
    )


@needs_mounts
def test_upkeep_on_a_full_disk(tmp_path: Path) -> None:
    run_on_disk(
        tmp_path / "disk",
        """
        with open_bank(disk / "bank") as bank:
            bank.ingest_many([*FACTS, *numbered(2000)], batch_size=500)
            bank.flush()
            bank.forget(range(10, 500))
            left = bank.stats()["memories"]
            fill(65536)
            refused(BankStorageError, "ree some space", bank.gc)
            whole(bank, left)
            assert len(list((disk / "bank").glob("activations-*"))) == 1, "the half-made file is gone"
            bank.flush()
            whole(bank, left)
            refused(BankStorageError, "ree some space", bank.reencode)
            whole(bank, left)
            (disk / "filler").unlink()
            assert bank.reencode() <= left
            bank.forget([500])
            bank.gc()
            bank.flush()
            whole(bank, left - 1)
        with open_bank(disk / "bank") as bank:
            whole(bank, left - 1)
        """,
        "32m",
    )


LIMITED = """
import resource, signal
with open_bank(disk / "bank") as bank:
    bank.ingest_many([*FACTS, *numbered(60)])
    size = max(path.stat().st_size for path in (disk / "bank").iterdir())
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, limits[1]))
    refused(BankStorageError, "", lambda: bank.ingest_many(numbered(9000, start=1000)))
    kept = bank.stats()["memories"]
    whole(bank, kept)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert bank.ingest("there is room again").is_new
    whole(bank, kept + 1)
with open_bank(disk / "bank") as bank:
    whole(bank, kept + 1)
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))},
    )
    assert done.returncode == 0, done.stderr
