"""Who may use the holder's socket, where it lies, and what a client that is mad, slow or a stranger can do: nothing."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.banks import DIM, FACTS, open_bank, python

from membank_llama import MockAdapter, open_shared
from membank_llama.core.errors import BankError, BankFormatError, BankLockedError, InvalidInputError
from membank_llama.memory.sharing import frames, hands_server, holder_call, meeting_point
from membank_llama.memory.sharing.frames import receive, send
from membank_llama.memory.sharing.holder_call import call_holder
from membank_llama.memory.sharing.meeting_point import MeetingPoint, find
from membank_llama.memory.sharing.shared_bank import SharedBank

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sockets and modes are POSIX")


def shared(path: Path, **options: Any) -> SharedBank:
    bank = open_shared(MockAdapter(hidden_dim=DIM), path, **options)
    assert isinstance(bank, SharedBank)
    return bank


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for longer than it takes to see that nobody is waited for."""
    monkeypatch.setattr(frames, "FRAME_SECONDS", 0.3)
    monkeypatch.setattr(hands_server, "GREETING_WAIT", 0.3)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[SharedBank]:
    with shared(tmp_path / "bank") as bank:
        bank.ingest(FACTS[0])
        yield bank


def there(bank: SharedBank) -> MeetingPoint:
    point = find(bank.path)
    assert point is not None
    return point


def still_serves(bank: SharedBank) -> bool:
    """Whether one who knows how is served, and the bank is whole."""
    with open_shared(None, bank.path) as other:
        new = other.ingest(secrets.token_hex(8)).is_new
        return new and bank.verify().ok


def proven(bank: SharedBank) -> socket.socket:
    """A connection over which everything may be asked."""
    point = there(bank)
    line = point.connect(5)
    send(line, {"membank": 1, "nonce": "n"})
    greeting = receive(line)
    assert point.proves("holder", "n", greeting["proof"])
    send(line, {"proof": point.proof("joiner", greeting["nonce"])})
    return line


NONSENSE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"",
    b"\x00",
    struct.pack(">I", 0xFFFFFFFF) + b"x" * 4096,
    struct.pack(">I", 64) + b'{"half": ',
    struct.pack(">I", 4) + b"null",
    struct.pack(">I", 2) + b"{}",
    struct.pack(">I", 900) + b"[" * 900,
    struct.pack(">I", 4) + b"\xff\xfe\xfd\xfc",
    struct.pack(">I", 14) + b'{"nonce": [1]}',
)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("data", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_ends_its_own_connection_alone(held: SharedBank, data: bytes) -> None:
    with there(held).connect(5) as line:
        line.sendall(data)
        assert still_serves(held)
        line.settimeout(5)
        with suppress(ConnectionError):
            while line.recv(1 << 16):
                pass


ASKED: tuple[Any, ...] = (
    {},
    {"call": "close", "given": {}},
    {"call": "__init__", "given": {}},
    {"call": ["pin"], "given": {}},
    {"call": "pin"},
    {"call": "pin", "given": [1]},
    {"call": "pin", "given": {"memory_id": {"$SharedBank": {}}}},
    {"call": "pin", "given": {"memory_id": {"$map": 3}}},
    {"call": "pin", "given": {"memory_id": {"a": "b"}}},
    {"call": "forget", "given": {"ids": "all", "namespace": 1}},
    {"call": "ingest_many", "given": {"items": [{"$NewMemory": {"text": {"$set": []}}}]}},
    {"call": "save_chat", "given": {"chat": "../../chat"}},
    {"call": "gc", "given": {"progress": 1}, "progress": True},
)


@pytest.mark.parametrize("asked", ASKED, ids=range(len(ASKED)))
def test_calls_that_make_no_sense_are_errors(held: SharedBank, asked: Any) -> None:
    with proven(held) as line:
        send(line, asked)
        assert receive(line, seconds=5)["error"]
    assert held.count() == 1
    assert still_serves(held)


@pytest.mark.usefixtures("impatient")
def test_a_thousand_connections_keep_nobody_out(held: SharedBank) -> None:
    point = there(held)
    with ExitStack() as stack:
        for _ in range(1000):
            with suppress(OSError):
                stack.enter_context(point.connect(0.2))
        assert still_serves(held)
        assert len(held._server._threads) <= 2 * hands_server.MOST_CONNECTIONS  # type: ignore[union-attr]


def test_whoever_does_not_know_the_key_is_told_nothing(held: SharedBank) -> None:
    wrong = MeetingPoint(b"another", path=there(held).path)
    with wrong.connect(5) as line:
        send(line, {"membank": 1, "nonce": "n"})
        greeting = receive(line)
        assert not wrong.proves("holder", "n", greeting["proof"])
        send(line, {"proof": wrong.proof("joiner", greeting["nonce"])})
        with pytest.raises(frames.BrokenLineError):
            send(line, {"call": "forget", "given": {"ids": [1]}})
            receive(line, seconds=5)
    assert held.count() == 1


@pytest.mark.usefixtures("impatient")
def test_one_who_does_not_listen_holds_nobody_up(held: SharedBank) -> None:
    """It asks for long work and its progress, reads nothing, and the work gets done."""
    held.ingest_many(f"text number {n}" for n in range(200))
    with proven(held) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        send(
            line,
            {
                "call": "ingest_many",
                "given": {"items": [f"more of {n}" for n in range(300)], "batch_size": 1},
                "progress": True,
            },
        )
        assert still_serves(held)
        held.close()
    with open_bank(held.path) as again:
        assert again.verify().ok


def test_what_is_too_long_is_refused_before_it_is_sent(held: SharedBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MOST_BYTES_A_FRAME", 4096)
    with open_shared(None, held.path) as other:
        with pytest.raises(InvalidInputError, match="too much to hand over"):
            other.ingest("long " * 2000)
        assert other.ingest("short").is_new


def test_an_answer_that_is_too_long_even_to_be_refused_costs_no_thread(
    held: SharedBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proven(held) as line, monkeypatch.context() as narrow:
        narrow.setattr(frames, "MOST_BYTES_A_FRAME", 16)
        line.sendall(struct.pack(">I", 30) + b'{"call":"ready-not","given":0}')
        with pytest.raises(frames.BrokenLineError):
            receive(line, 1024, seconds=5)
    for _ in range(2):
        assert still_serves(held)


def test_a_holder_that_is_stopped_is_told_from_one_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with python(HOLD, tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        bank = shared(tmp_path)
        holder.send_signal(signal.SIGSTOP)
        try:
            with monkeypatch.context() as impatient, pytest.raises(BankLockedError, match="does not answer"):
                impatient.setattr(holder_call, "GREETING_SECONDS", 0.3)
                bank.ingest(FACTS[1])
        finally:
            holder.send_signal(signal.SIGCONT)
        bank.ingest(FACTS[1])
        bank.close()
        holder.communicate("go\n")


# -- where it listens


HOLD = """
    import sys
    from support.banks import DIM
    from membank_llama import MockAdapter, open_shared
    with open_shared(MockAdapter(hidden_dim=DIM), sys.argv[1]) as bank:
        bank.ingest("held")
        print("held", flush=True)
        sys.stdin.readline()
"""


def modes(bank: Path) -> set[int]:
    return {stat.S_IMODE((bank / name).stat().st_mode) for name in ("hands.sock", "hands.json")}


@pytest.mark.parametrize("name", ["bank", "a & 'b'", "банк"])
def test_it_listens_in_the_bank_for_this_user_alone(tmp_path: Path, name: str) -> None:
    before = os.umask(0)
    try:
        with shared(tmp_path / name) as bank:
            assert modes(bank.path) == {0o600}
            assert stat.S_ISSOCK((bank.path / "hands.sock").lstat().st_mode)
            assert still_serves(bank)
    finally:
        os.umask(before)
    assert not list((tmp_path / name).glob("hands.*"))


def test_a_relative_path_and_a_link_lead_to_the_same_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("bank")
    with shared(Path("bank")) as bank, shared(tmp_path / "link") as other, shared(tmp_path / "bank") as third:
        other.ingest(FACTS[0])
        third.ingest(FACTS[1])
        assert bank.count() == 2


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / ("deep " * 20) / ("deeper " * 20)
    with shared(path) as bank:
        point = there(bank)
        assert point.path is not None
        assert stat.S_IMODE(point.path.parent.stat().st_mode) == 0o700
        assert not (path / "hands.sock").exists()
        assert still_serves(bank)
    assert not point.path.parent.exists()


def test_by_a_port_where_there_are_no_unix_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands_server, "listen", partial(meeting_point.listen, unix=False))
    monkeypatch.setattr(holder_call, "find", partial(find, unix=False))
    with shared(tmp_path) as bank:
        note = json.loads((tmp_path / "hands.json").read_text(encoding="utf-8"))
        assert not (tmp_path / "hands.sock").exists()
        assert stat.S_IMODE((tmp_path / "hands.json").stat().st_mode) == 0o600
        assert still_serves(bank)
        with socket.create_connection(("127.0.0.1", note["port"])) as line:
            send(line, {"membank": 1, "nonce": "n"})
            receive(line)
            send(line, {"proof": "no"})
            with pytest.raises(frames.BrokenLineError):
                receive(line, seconds=5)


def test_what_a_killed_holder_left_is_taken_away(tmp_path: Path) -> None:
    long = tmp_path / ("deep " * 30)
    for path in (tmp_path / "bank", long):
        with python(HOLD, path) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            left = find(path)
            assert left is not None
            assert left.path is not None
            holder.kill()
            holder.communicate()
        assert left.path.exists()
        with shared(path) as bank:
            assert bank.holds
            assert still_serves(bank)
            assert path == long or left.path.exists()
        assert not left.path.exists()
        assert path == tmp_path / "bank" or not left.path.parent.exists()


# -- a stranger's bank


def test_a_note_that_came_with_a_bank_leads_nowhere(tmp_path: Path) -> None:
    """It may name any port and any socket: nobody knocks there, whoever holds the bank."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    knocked: list[str] = []
    with ExitStack() as stack:
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        path = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        path.bind(os.fspath(elsewhere / "hands.sock"))
        path.listen()
        for one in (port, path):
            one.settimeout(0.1)
        bank = tmp_path / "bank"
        with open_bank(bank) as plain:
            for named in ({"port": port.getsockname()[1]}, {"socket": os.fspath(elsewhere / "hands.sock")}):
                note = {"protocol": 1, "key": "00" * 32, **named}
                (bank / "hands.json").write_text(json.dumps(note), encoding="utf-8")
                with pytest.raises(BankLockedError):
                    shared(bank)
            assert plain.count() == 0
        with open_bank(bank):
            assert not (bank / "hands.json").exists()
        for one in (port, path):
            with suppress(TimeoutError):
                one.accept()[0].close()
                knocked.append(str(one))
        assert not knocked
        with shared(bank) as held:
            assert still_serves(held)


def test_links_in_the_place_of_the_socket_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine", encoding="utf-8")
    for name in ("hands.sock", "hands.json"):
        bank = tmp_path / f"bank of {name}"
        open_bank(bank).close()
        (bank / name).symlink_to(target)
        with pytest.raises(BankFormatError, match=name):
            shared(bank)
        with pytest.raises(BankError):
            open_bank(bank)
    assert target.read_text(encoding="utf-8") == "mine"


def test_a_child_process_leaves_its_parents_socket_alone(tmp_path: Path) -> None:
    with shared(tmp_path) as bank:
        child = os.fork()
        if not child:
            with suppress(BaseException):
                bank._server.close()  # type: ignore[union-attr]
            os._exit(0)
        os.waitpid(child, 0)
        assert still_serves(bank)


def test_threads_and_files_are_gone_after_closing(tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    descriptors = Path("/proc/self/fd")
    open_files = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    for _ in range(3):
        with shared(tmp_path) as bank, shared(tmp_path) as other:
            other.ingest(secrets.token_hex(8))
            call_holder(bank.path, holder_call.READY, {})
    assert {thread.name for thread in threading.enumerate()} <= before
    assert not open_files or len(list(descriptors.iterdir())) <= open_files
