"""One writer a bank, and who it is."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import pytest
from support.banks import python

from membank_llama.core.errors import BankLockedError
from membank_llama.store.lock import LOCK_NAME, NOTE_NAME, WriterLock

HOLD = """
    import sys
    from pathlib import Path
    from membank_llama.store.lock import WriterLock
    lock = WriterLock(Path(sys.argv[1]))
    lock.acquire()
    print("held", flush=True)
    sys.stdin.readline()
    lock.release()
"""


def test_a_second_writer_of_this_process_is_refused(tmp_path: Path) -> None:
    first, second = WriterLock(tmp_path), WriterLock(tmp_path)
    first.acquire()
    with pytest.raises(BankLockedError, match=f"process {os.getpid()}"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    assert not (tmp_path / NOTE_NAME).exists()


def test_another_process_is_named_with_its_id(tmp_path: Path) -> None:
    with python(HOLD, tmp_path) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(BankLockedError, match=rf"process {holder.pid} .*read_only=True"):
            WriterLock(tmp_path).acquire()
        holder.communicate("go\n")
    lock = WriterLock(tmp_path)
    lock.acquire()
    lock.release()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    with python(HOLD, tmp_path) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        holder.kill()
        holder.communicate()
    # its note is still there and proves nothing
    assert json.loads((tmp_path / NOTE_NAME).read_text())["pid"] == holder.pid
    lock = WriterLock(tmp_path)
    lock.acquire()
    assert json.loads((tmp_path / NOTE_NAME).read_text())["pid"] == os.getpid()
    lock.release()


def test_a_damaged_note_does_not_hide_the_lock(tmp_path: Path) -> None:
    first = WriterLock(tmp_path)
    first.acquire()
    (tmp_path / NOTE_NAME).write_text("[1")
    with pytest.raises(BankLockedError, match="another process"):
        WriterLock(tmp_path).acquire()
    first.release()


def test_release_without_acquire_and_twice(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    lock.release()
    lock.acquire()
    lock.release()
    lock.release()
    other = WriterLock(tmp_path)
    other.acquire()
    with pytest.raises(BankLockedError):
        lock.acquire()
    other.release()


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_lock_and_note_are_private(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    lock.acquire()
    for name in (LOCK_NAME, NOTE_NAME):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    lock.release()
