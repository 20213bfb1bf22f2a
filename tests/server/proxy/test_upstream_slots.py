"""What a llama-server has read outlives it, and whatever goes wrong with that, requests are answered as they were.

The server is a stand-in that fails as a test wants it; llama.cpp's own is asked in tests/servers/test_slots.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from support.asgi_server import serve
from support.fake_slots import FakeSlots
from support.proxies import assistant, user

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.memory.bank import MemBank
from membank_llama.server.proxy import server_slots
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.proxy_memory import ProxyMemory
from membank_llama.server.proxy.slot_files import META, SlotFile, SlotFiles
from membank_llama.server.proxy.upstream import Upstream

LONG = "We spoke about the rivers of the north and the towns along them. " * 26
REPLY = "Noted."


@dataclass
class Fronted:
    client: httpx.Client
    bank: MemBank
    proxy: Proxy
    memory: ProxyMemory

    def figure(self, name: str) -> int:
        lines = self.client.get("/metrics").text.splitlines()
        return int(float(next(line.split()[1] for line in lines if line.startswith(f"membank_slot_{name}_total"))))

    def ask(self, messages: list[dict[str, Any]], namespace: str = "default", **body: Any) -> dict[str, Any]:
        headers = {"x-membank-namespace": namespace}
        asked = {"model": "m", "messages": messages, **body}
        answer = self.client.post("/v1/chat/completions", json=asked, headers=headers)
        assert answer.status_code == 200
        said = answer.json()
        assert said["choices"][0]["message"]["content"] == REPLY
        return dict(said["timings"])


@contextmanager
def fronted(folder: Path, server: FakeSlots) -> Iterator[Fronted]:
    with ExitStack() as stack:
        upstream = Upstream(stack.enter_context(serve(server)))
        upstream.server.look()
        bank = stack.enter_context(MemBank(WordsAdapter(), folder / "bank"))
        memory = ProxyMemory(bank, deadline=30.0)
        proxy = Proxy(upstream, memory, upstream_slots=True)
        client = stack.enter_context(httpx.Client(base_url=stack.enter_context(serve(proxy)), timeout=60))
        yield Fronted(client, bank, proxy, memory)


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def talk(turns: int, about: str = "first") -> list[dict[str, Any]]:
    """What a client sends for its nth turn."""
    said: list[dict[str, Any]] = []
    for turn in range(1, turns + 1):
        said += [user(f"{about} {turn}: {LONG}"), assistant(REPLY)]
    return said[:-1]


def told(front: Fronted, server: FakeSlots, about: str = "first", namespace: str = "default") -> None:
    """Two turns of a conversation, both of them saved."""
    for turns in (1, 2):
        before = len(server.actions("save"))
        front.ask(talk(turns, about), namespace)
        eventually(lambda before=before: len(server.actions("save")) > before)  # type: ignore[misc]
        eventually(lambda: front.figure("saves") == len(server.actions("save")))


def test_a_restarted_server_need_not_read_again(tmp_path: Path) -> None:
    server = FakeSlots()
    with fronted(tmp_path, server) as front:
        told(front, server)
        read = len(server.slots[0].words)
        server.restart()
        timings = front.ask(talk(3))
        assert timings["cache_n"] == read
        assert server.asked[-1]["id_slot"] == server.actions("restore")[0][0]
        assert (front.figure("restores"), front.figure("reused_tokens"), front.figure("failures")) == (1, read, 0)
        # it is warm now, and asked as ever
        assert front.ask(talk(4))["cache_n"] > read
        assert "id_slot" not in server.asked[-1] and len(server.actions("restore")) == 1
        (name,) = server.files
        assert "default" not in name and "proxy-" not in name
    # also where this was restarted with it
    server.restart()
    with fronted(tmp_path, server) as front:
        assert front.ask(talk(5))["cache_n"] >= read
        assert front.figure("restores") == 1


def test_another_namespace_gets_nothing(tmp_path: Path) -> None:
    server = FakeSlots()
    with fronted(tmp_path, server) as front:
        told(front, server, namespace="anna")
        server.restart()
        assert front.ask(talk(3), "bert")["cache_n"] == 0
        assert not server.actions("restore")


def test_never_over_a_warm_slot(tmp_path: Path) -> None:
    server = FakeSlots()
    with fronted(tmp_path, server) as front:
        told(front, server)
        server.restart()
        for number, slot in enumerate(server.slots):
            slot.task, slot.words = number, [f"another {number}"]
        front.ask(talk(3))
        assert not server.actions("restore")
        assert "id_slot" not in server.asked[-1]


def test_two_that_ask_after_a_restart_get_a_slot_each(tmp_path: Path) -> None:
    server = FakeSlots()
    with fronted(tmp_path, server) as front:
        told(front, server, "first")
        told(front, server, "the second")
        server.restart()
        assert front.ask(talk(3, "first"))["cache_n"] > 200
        assert front.ask(talk(3, "the second"))["cache_n"] > 200
        assert len({slot for slot, _ in server.actions("restore")}) == 2
        assert front.ask(talk(4, "first"))["cache_n"] > 300


@pytest.mark.parametrize("own", [{"id_slot": 1}, {"cache_prompt": False}])
def test_a_request_with_a_way_of_its_own_is_left_alone(tmp_path: Path, own: dict[str, Any]) -> None:
    server = FakeSlots()
    with fronted(tmp_path, server) as front:
        told(front, server)
        saved = len(server.done)
        server.restart()
        front.ask(talk(3), **own)
        assert server.asked[-1].get("id_slot") == own.get("id_slot")
        assert len(server.done) == saved


@pytest.mark.parametrize("status", [401, 404, 501])
def test_a_server_that_cannot_is_asked_once(tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture) -> None:
    server = FakeSlots()
    server.refuses = {"save": status}
    with fronted(tmp_path, server) as front:
        front.ask(talk(1))
        eventually(lambda: front.figure("failures") == 1)
        looks = server.looks
        front.ask(talk(2))
        time.sleep(0.5)
        assert len(server.done) == 1 and server.looks == looks
        assert front.figure("saves") == 0
        assert sum(str(status) in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("fault", ["late", 500, "unlisted"])
def test_a_server_that_fails_is_left_alone_for_a_while(
    tmp_path: Path, fault: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeSlots()
    with fronted(tmp_path, server) as front:
        told(front, server)
        server.restart()
        if fault == "late":
            server.late = {"look"}
        else:
            server.refuses = {"look": 404 if fault == "unlisted" else int(fault)}
        looks = server.looks
        # nobody waits for a server that is late
        assert front.ask(talk(3))["cache_n"] == 0
        assert front.ask(talk(4))["cache_n"] > 0
        assert "id_slot" not in server.asked[-1] and front.figure("failures") == 1
        assert server.looks <= looks + 1
        if fault == "unlisted":
            return
        server.late, server.refuses = set(), {}
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + server_slots.PAUSE_SECONDS)
        monkeypatch.setattr(server_slots, "time", later)
        server.restart()
        assert front.ask(talk(5))["cache_n"] > 300


def test_a_file_that_is_gone_is_not_asked_for_again(tmp_path: Path) -> None:
    server = FakeSlots()
    with fronted(tmp_path, server) as front:
        told(front, server)
        server.restart()
        server.files.clear()
        assert front.ask(talk(3))["cache_n"] == 0
        assert "id_slot" not in server.asked[-1] and front.figure("failures") == 1
        eventually(lambda: front.figure("saves") == 3)
        server.restart()
        assert front.ask(talk(4))["cache_n"] > 200


def test_what_is_restored_in_vain_is_not_restored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = FakeSlots()
    server.forgetful = True
    with fronted(tmp_path, server) as front:
        for about in ("first", "the second", "not the third"):
            told(front, server, about)
        for about in ("first", "the second", "not the third"):
            server.restart()
            assert front.ask(talk(3, about))["cache_n"] == 0
        assert len(server.actions("restore")) == 2
        assert (front.figure("restores"), front.figure("failures")) == (0, 2)
        assert sum("no longer" in record.message for record in caplog.records) == 1


def test_a_model_that_looks_back_only_so_far_is_left_alone(tmp_path: Path) -> None:
    server = FakeSlots()
    server.windowed = True
    with fronted(tmp_path, server) as front:
        told(front, server)
        saved = len(server.actions("save"))
        # what was saved is emptied, in the slot that nobody uses
        eventually(lambda: not any(server.files.values()))
        server.restart()
        assert front.ask(talk(3))["cache_n"] == 0
        assert not server.actions("restore")
        time.sleep(0.5)
        eventually(lambda: all(not server.files[file] for _, file in server.actions("save")[saved:]))


@pytest.mark.parametrize(
    ("sizes", "straight"),
    [
        ([(100, 1100)], None),
        ([(100, 1100), (110, 1200)], None),
        ([(100, 1_010), (400, 4_010)], True),
        # a window of 512 of which most layers keep no more, seen from inside and from outside of it
        ([(300, 300_000), (400, 400_000), (1500, 1500 * 166 + 512 * 834)], False),
        ([(1500, 1500 * 166 + 512 * 834), (1600, 1600 * 166 + 512 * 834)], False),
        ([(30_000, 30_000 * 166 + 512 * 834), (30_300, 30_300 * 166 + 512 * 834)], False),
        # a state of one size; and once is enough
        ([(100, 5000), (200, 5000), (300, 15_000)], False),
    ],
)
def test_files_that_hold_all_of_each_token_grow_straight(
    tmp_path: Path, sizes: list[tuple[int, int]], straight: bool | None
) -> None:
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        files = SlotFiles(bank.store.registry)
        for number, (tokens, size) in enumerate(sizes):
            files.add(str(number), SlotFile("default", "m", tokens, size), files.forgets)
            files.drop(str(number))
        assert files.grows_straight("m") is straight
        files.keep()
        assert SlotFiles(bank.store.registry).grows_straight("m") is straight


def test_another_model_gets_no_file_of_this_one(tmp_path: Path) -> None:
    server = FakeSlots()
    with fronted(tmp_path, server) as front:
        told(front, server)
        server.restart()
        server.model = "/another.gguf"
        assert front.ask(talk(3))["cache_n"] == 0
        assert not server.actions("restore")


# -- forgetting


@pytest.mark.parametrize("slots", [1, 2])
def test_forgetting_empties_the_files_of_a_namespace(tmp_path: Path, slots: int) -> None:
    server = FakeSlots(slots)
    with fronted(tmp_path, server) as front:
        told(front, server, "first", "anna")
        told(front, server, "the second", "bert")
        files = {file for _, file in server.actions("save")}
        assert len(files) == 2 and all(server.files.values())
        front.memory.ingest_worker.flush()
        assert front.bank.forget(namespace="anna")
        eventually(lambda: sum(map(bool, server.files.values())) == 1)
        server.restart()
        assert front.ask(talk(3, "first"), "anna")["cache_n"] == 0
        assert not server.actions("restore")
        server.restart()
        assert front.ask(talk(3, "the second"), "bert")["cache_n"] > 200


def test_what_was_forgotten_while_nobody_served_is_not_read(tmp_path: Path) -> None:
    server = FakeSlots()
    with fronted(tmp_path, server) as front:
        told(front, server)
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        bank.forget(namespace="default")
    server.restart()
    with fronted(tmp_path, server) as front:
        (name,) = server.files
        before = len(server.files[name])
        assert front.ask([user("Good morning.")])["cache_n"] == 0
        eventually(lambda: not server.files[name])
        assert before > 200 and not server.actions("restore")


def test_what_was_forgotten_while_it_was_answered_is_not_read(tmp_path: Path) -> None:
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        files = SlotFiles(bank.store.registry)
        name, forgets = files.name_of("anna", "c", "m"), files.forgets
        files.forget({"anna": ["Ana lives in Porto."]})
        assert not files.add(name, SlotFile("anna", "m", 100, 1000), forgets)
        assert files.get(name) is None and files.emptying == name and files.is_urgent(name)
        # it is known after a restart
        assert SlotFiles(bank.store.registry).emptying is None
        files.keep()
        assert SlotFiles(bank.store.registry).emptying == name


def test_a_damaged_list_is_none(tmp_path: Path) -> None:
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        for damaged in ({}, [], {"secret": "zz"}, {"secret": "00", "files": {"a": {}}}, {"secret": "00", "files": 1}):
            bank.store.registry.set_meta(META, damaged)
            assert not SlotFiles(bank.store.registry).any
