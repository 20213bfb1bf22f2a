"""What becomes of a bank, and of what was forgotten in it, where the process that holds it is another one now."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.banks import DIM, FACTS, files_with, open_bank, python

from membank_llama import MockAdapter, open_shared
from membank_llama.core.errors import BankLockedError
from membank_llama.memory.sharing import meeting_point, shared_bank
from membank_llama.memory.sharing.holder_call import SILENT_SECONDS, patience_with
from membank_llama.memory.sharing.shared_bank import SharedBank
from membank_llama.store.bank_files import size_of

MADE_WAY = """
    import sys
    from support.banks import DIM
    from membank_llama import MockAdapter, open_shared
    with open_shared(MockAdapter(hidden_dim=DIM), sys.argv[1]) as bank:
        bank.ingest(sys.argv[2])
        print("open", flush=True)
        sys.stdin.readline()
"""


def shared(path: Path, **options: bool) -> SharedBank:
    bank = open_shared(MockAdapter(hidden_dim=DIM), path, **options)
    assert isinstance(bank, SharedBank)
    return bank


def test_a_chat_that_made_way_and_ends_takes_nothing_of_the_server_along(tmp_path: Path) -> None:
    """It still has the database open for writing, and must not take itself for the last when something was forgotten
    by the server meanwhile."""
    with python(MADE_WAY, tmp_path, FACTS[0]) as chat:
        assert chat.stdout is not None
        assert chat.stdout.readline() == "open\n"
        with shared(tmp_path, join=False) as server:
            server.ingest(FACTS[1])
            server.forget(1)
            _, err = chat.communicate("\n")
            assert (chat.returncode, err) == (0, "")
            server.ingest(FACTS[2])
            with open_bank(tmp_path, read_only=True) as reader:
                assert sorted(memory.text for memory in reader.memories()) == sorted(FACTS[1:3])


def test_where_nothing_can_listen_nobody_waits_to_be_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    monkeypatch.setattr(meeting_point, "LONGEST_SOCKET_PATH", 4)
    with shared(tmp_path / "bank") as bank:
        assert bank.ingest(FACTS[0]).is_new
        assert patience_with(bank.path) == SILENT_SECONDS
        with pytest.raises(BankLockedError, match="which lets nobody else in"):
            shared(bank.path)
    assert not list(private.iterdir())


def test_whoever_cannot_make_way_serves_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_bank, "GIVING_UP_SECONDS", 0.01)
    with shared(tmp_path) as bank:
        with bank._writes.one(), ThreadPoolExecutor(1) as another:
            # a write of this thread runs for long
            assert not another.submit(bank.give_up).result()
        with shared(tmp_path) as other:
            assert not other.holds
            assert other.ingest(FACTS[0]).is_new
        assert bank.holds


def test_a_bank_that_is_closed_while_it_makes_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = shared(tmp_path)

    @contextmanager
    def closed_meanwhile(_: float) -> Iterator[None]:
        bank.close()
        raise TimeoutError
        yield

    monkeypatch.setattr(bank._writes, "none", closed_meanwhile)
    assert not bank.give_up()
    assert not list(tmp_path.glob("hands.*"))


def test_what_is_hidden_is_finished_by_whoever_holds_the_bank_next(tmp_path: Path) -> None:
    """Where a bank changes hands in the seconds in which it can be brought back, it still can."""
    with shared(tmp_path) as bank:
        bank.ingest_many(FACTS[:2])
        change = bank.hide([1], 1000)
        with shared(tmp_path, join=False) as server:
            assert [one.id for one in server.changes()] == [change.id]
            bank.undo(change.id)
            assert server.count() == 2
            bank.hide([2], 1000)
    assert not files_with(tmp_path, FACTS[1].encode())


READER = """
    import sys
    from membank_llama import open_shared
    with open_shared(None, sys.argv[1]) as bank:
        print(bank.count(), flush=True)
        sys.stdin.readline()
"""


def test_nothing_is_left_in_the_log_where_the_last_to_close_only_read(tmp_path: Path) -> None:
    """A copy of the bank could not be opened on a disk that is only read."""
    bank = shared(tmp_path)
    bank.ingest(FACTS[0])
    with python(READER, tmp_path) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "1\n"
        bank.ingest(FACTS[1])
        bank.close()
        reader.communicate("\n")
    assert not size_of(tmp_path / "bank.sqlite-wal")
    with open_bank(tmp_path, read_only=True) as after:
        assert after.count() == 2
