"""The activation file: zero-copy reads, growth under old views, damage, and a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from membank_llama.core.errors import (
    BankClosedError,
    BankCorruptError,
    BankFormatError,
    BankNotFoundError,
    BankReadOnlyError,
    BankStorageError,
    InvalidInputError,
)
from membank_llama.core.types import Codes
from membank_llama.store.activations import BUFFER_VERSION, HEADER_BYTES, MemMapBuffer

SLOT = 100


def make_rows(count: int, seed: int = 0) -> Codes:
    return np.random.default_rng(seed).integers(0, 256, (count, SLOT), np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "activations.bin"


def test_what_is_written_is_read(path: Path) -> None:
    rows = make_rows(7)
    with MemMapBuffer(path, SLOT) as buffer:
        assert buffer.n_slots == 0
        assert buffer.view().shape == (0, SLOT)
        buffer.write(0, rows)
        buffer.flush()
        assert buffer.n_slots == 7
        assert (buffer.view() == rows).all()
        assert (buffer.read(3) == rows[3]).all()
        assert (buffer.read(3, 10, 20) == rows[3, 10:20]).all()
        picked = np.array([5, 0, 5])
        assert (buffer.rows(picked) == rows[picked]).all()
        assert (buffer.rows(picked, 90, 100) == rows[picked, 90:]).all()
        assert buffer.rows(np.array([], np.int64), 10, 15).shape == (0, 5)
    assert path.stat().st_size == HEADER_BYTES + 7 * SLOT


def test_scattered_slots_are_written_where_they_belong(path: Path) -> None:
    rows = make_rows(6)
    slots = np.array([4, 5, 6, 1, 0, 9])
    with MemMapBuffer(path, SLOT) as buffer:
        buffer.write_at(slots, rows)
        assert buffer.n_slots == 10
        assert (buffer.rows(slots) == rows).all()
        assert not buffer.rows(np.array([2, 3, 7, 8])).any(), "skipped slots read as zeros"
        buffer.write_at(np.array([5]), make_rows(1, seed=9))
        assert (buffer.read(5) == make_rows(1, seed=9)[0]).all(), "the map shows what was written later"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_only_the_owner_may_read(path: Path) -> None:
    with MemMapBuffer(path, SLOT):
        assert path.stat().st_mode & 0o777 == 0o600


def test_reads_are_copies(path: Path) -> None:
    with MemMapBuffer(path, SLOT) as buffer:
        buffer.write(0, make_rows(5))
        assert not np.shares_memory(buffer.read(2), buffer.view())
        assert not np.shares_memory(buffer.rows(np.array([2])), buffer.view())
        assert not buffer.read(2).flags.writeable


CUT = """
import os, sys
import numpy as np
from membank_llama.store.activations import HEADER_BYTES, MemMapBuffer
from membank_llama.core.errors import BankCorruptError
buffer = MemMapBuffer(sys.argv[1], 5000)
buffer.write(0, np.ones((40, 5000), np.uint8))
assert buffer.rows(np.arange(40)).all()
kept = {"a slot": HEADER_BYTES + 5000, "the header": HEADER_BYTES, "nothing": 0}[sys.argv[2]]
os.truncate(sys.argv[1], kept)
for ask in (lambda: buffer.rows(np.arange(40)), lambda: buffer.rows(np.array([39])), lambda: buffer.read(39)):
    try:
        ask()
    except BankCorruptError as error:
        assert "was cut" in str(error) and "reencode" in str(error), error
    else:
        sys.exit("nothing was said")
if kept > HEADER_BYTES:
    assert buffer.rows(np.array([0])).all() and buffer.read(0).all()
"""


@pytest.mark.parametrize("left", ["a slot", "the header", "nothing"])
def test_a_file_cut_while_it_is_open_is_an_error_and_no_signal(path: Path, left: str) -> None:
    root = Path(__file__).resolve().parent.parent.parent
    command = [sys.executable, "-c", CUT, str(path), left]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, (done.returncode, done.stderr)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_plain_file_is_refused(path: Path, kind: str) -> None:
    target = path.with_name("precious.txt")
    target.write_text("precious")
    path.symlink_to(target) if kind == "link" else os.mkfifo(path)
    for read_only in (True, False):
        with pytest.raises(BankFormatError, match="no plain file"):
            MemMapBuffer(path, SLOT, read_only=read_only)
    assert target.read_text() == "precious"


def test_growth_leaves_old_views_valid(path: Path) -> None:
    rows = make_rows(500)
    with MemMapBuffer(path, SLOT) as buffer:
        buffer.write(0, rows[:3])
        old = buffer.view()
        one = buffer.read(1)
        for first in range(3, 500, 71):
            buffer.write(first, rows[first : first + 71])
            assert (buffer.view() == rows[: first + 71]).all()
        assert len(old) == 3
        assert (old == rows[:3]).all()
        assert (one == rows[1]).all()
        assert not np.shares_memory(old, buffer.view()), "another map, and nothing was copied into it"


def test_views_outlive_close(path: Path) -> None:
    rows = make_rows(4)
    buffer = MemMapBuffer(path, SLOT)
    buffer.write(0, rows)
    view = buffer.view()
    buffer.close()
    buffer.close()
    assert (view == rows).all()
    for use in (buffer.view, buffer.flush, lambda: buffer.read(0), lambda: buffer.write(0, rows)):
        with pytest.raises(BankClosedError, match="open the bank again"):
            use()


def test_half_a_slot_from_a_crash_does_not_count(path: Path) -> None:
    rows = make_rows(6)
    with MemMapBuffer(path, SLOT) as buffer:
        buffer.write(0, rows[:4])
    with path.open("ab") as file:
        file.write(rows[4].tobytes()[:37])
    before = path.read_bytes()
    with MemMapBuffer(path, SLOT) as buffer:
        assert path.read_bytes() == before, "opening changes nothing"
        assert buffer.n_slots == 4
        assert (buffer.view() == rows[:4]).all()
        buffer.write(4, rows[4:])
        assert (buffer.view() == rows).all()


@pytest.mark.parametrize("length", [0, 5, 30, HEADER_BYTES - 1])
def test_a_header_cut_short_by_a_crash_is_made_again(path: Path, length: int) -> None:
    MemMapBuffer(path, SLOT).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    with pytest.raises(BankCorruptError):
        MemMapBuffer(path, SLOT, read_only=True)
    MemMapBuffer(path, SLOT).close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("position", [0, 9, 13, 17, 25, 1000, HEADER_BYTES - 1])
def test_a_damaged_header_is_refused_and_left_alone(path: Path, position: int) -> None:
    with MemMapBuffer(path, SLOT, spec_tag=b"x") as buffer:
        buffer.write(0, make_rows(3))
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(BankCorruptError, match="membank verify"):
        MemMapBuffer(path, SLOT, spec_tag=b"x")
    assert path.read_bytes() == data


def test_another_file_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"dear diary")
    with pytest.raises(BankCorruptError):
        MemMapBuffer(path, SLOT)
    assert path.read_bytes() == b"dear diary"


def test_other_slots_are_refused(path: Path) -> None:
    MemMapBuffer(path, SLOT, spec_tag=b"digits", dims=64).close()
    MemMapBuffer(path, SLOT, spec_tag=b"digits").close()
    with pytest.raises(BankCorruptError, match=r"100 bytes.*expected 101"):
        MemMapBuffer(path, SLOT + 1, spec_tag=b"digits")
    with pytest.raises(BankCorruptError, match="encoding"):
        MemMapBuffer(path, SLOT, spec_tag=b"selection")
    with pytest.raises(BankCorruptError, match="64 dimensions"):
        MemMapBuffer(path, SLOT, spec_tag=b"digits", dims=65)


def test_a_newer_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("membank_llama.store.activations.BUFFER_VERSION", BUFFER_VERSION + 1)
        MemMapBuffer(path, SLOT).close()
    with pytest.raises(BankFormatError, match="upgrade membank-llama"):
        MemMapBuffer(path, SLOT)


def test_reading_only(path: Path) -> None:
    with pytest.raises(BankNotFoundError):
        MemMapBuffer(path, SLOT, read_only=True)
    assert not path.exists()
    rows = make_rows(4)
    with MemMapBuffer(path, SLOT) as writer, MemMapBuffer(path, SLOT, read_only=True) as reader:
        writer.write(0, rows[:2])
        assert (reader.view() == rows[:2]).all()
        writer.write(2, rows[2:])
        assert (reader.read(3) == rows[3]).all(), "a reader sees what is appended later"
        with pytest.raises(BankReadOnlyError):
            reader.write(0, rows)
        reader.flush()


def test_slots_that_are_not_there(path: Path) -> None:
    with MemMapBuffer(path, SLOT) as buffer:
        buffer.write(0, make_rows(2))
        with pytest.raises(BankCorruptError, match="which holds 2"):
            buffer.read(2)
        with pytest.raises(BankCorruptError):
            buffer.rows(np.array([0, 2]))
        for bad in (
            lambda: buffer.read(-1),
            lambda: buffer.rows(np.array([-1])),
            lambda: buffer.write(-1, make_rows(1)),
        ):
            with pytest.raises(InvalidInputError, match="negative"):
                bad()


def test_rows_of_another_shape(path: Path) -> None:
    with MemMapBuffer(path, SLOT) as buffer:
        for rows in (
            np.zeros((1, SLOT - 1), np.uint8),
            np.zeros((1, SLOT), np.int8),
            np.zeros(SLOT, np.uint8),
        ):
            with pytest.raises(InvalidInputError, match="uint8"):
                buffer.write_at(np.array([0]), rows)  # type: ignore[arg-type]
        assert buffer.n_slots == 0
    for slot_bytes, tag in ((0, b""), (2**32, b""), (10, b"x" * 17)):
        with pytest.raises(InvalidInputError):
            MemMapBuffer(path, slot_bytes, spec_tag=tag)


def test_no_place_for_the_file(tmp_path: Path) -> None:
    with pytest.raises(BankNotFoundError):
        MemMapBuffer(tmp_path / "missing" / "a.bin", SLOT)
    with pytest.raises(BankStorageError) as caught:
        MemMapBuffer(tmp_path, SLOT)
    assert isinstance(caught.value.__cause__, OSError)


def test_readers_beside_a_writer(path: Path) -> None:
    rows = make_rows(3000)
    done = threading.Event()
    with MemMapBuffer(path, SLOT) as buffer, ThreadPoolExecutor(3) as pool:

        def look() -> int:
            rounds = 0
            while not done.is_set():
                rounds += 1
                view = buffer.view()
                assert (view == rows[: len(view)]).all()
                if len(view):
                    assert (buffer.read(len(view) - 1) == rows[len(view) - 1]).all()
            return rounds

        looking = [pool.submit(look) for _ in range(3)]
        for first in range(0, 3000, 10):
            buffer.write(first, rows[first : first + 10])
        done.set()
        assert all(future.result() > 0 for future in looking)
        assert (buffer.view() == rows).all()


FULL_DISK = """
import resource, signal, sys
import numpy as np
from membank_llama.store.activations import HEADER_BYTES, MemMapBuffer
from membank_llama.core.errors import BankStorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rows = np.arange(1000, dtype=np.uint8).reshape(10, 100)
buffer = MemMapBuffer(sys.argv[1], 100)
buffer.write(0, rows)
resource.setrlimit(resource.RLIMIT_FSIZE, (HEADER_BYTES + 1250, resource.RLIM_INFINITY))
try:
    buffer.write(10, rows)
except BankStorageError as error:
    assert isinstance(error.__cause__, OSError), error.__cause__
    assert "may not grow" in str(error), error
else:
    sys.exit("the write was not refused")
assert (buffer.view()[:10] == rows).all()
buffer.write(3, rows[:1])
assert (buffer.read(3) == rows[0]).all()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
buffer.write(10, rows)
buffer.flush()
assert (buffer.view()[10:] == rows).all()
buffer.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
def test_a_full_disk_is_an_error_and_the_file_stays_usable(path: Path) -> None:
    root = Path(__file__).resolve().parent.parent.parent
    env = {**os.environ, "PYTHONPATH": str(root)}
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], env=env, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    with MemMapBuffer(path, SLOT, read_only=True) as buffer:
        assert buffer.n_slots == 20
