"""A bank that several processes have open: all of them write, all of them see it, and one takes the holder's place."""

from __future__ import annotations

import gc
import inspect
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from support.banks import DIM, FACTS, files_with, numbered, open_bank, python, texts, wait_for

from membank_llama import MemBank, MockAdapter, open_shared
from membank_llama.core.errors import (
    BankClosedError,
    BankLockedError,
    EmptyTextError,
    InvalidInputError,
    InvalidTextError,
    MemoryNotFoundError,
    ModelError,
    ModelMismatchError,
)
from membank_llama.core.types import NewMemory
from membank_llama.memory.prompt_block import Block
from membank_llama.memory.sharing.forwarded import FORWARDED
from membank_llama.memory.sharing.shared_bank import SharedBank
from membank_llama.memory.transcript_file import ChatTranscript
from membank_llama.recall.signals import Weights

HAND = """
    import json, sys
    from support.banks import DIM
    from membank_llama import MockAdapter, open_shared
    with open_shared(MockAdapter(hidden_dim=DIM), sys.argv[1]) as bank:
        print("open", flush=True)
        for line in sys.stdin:
            name, *given = json.loads(line)
            done = getattr(bank, name)(*given) if callable(getattr(bank, name)) else getattr(bank, name)
            print(json.dumps([r.text for r in done] if name == "recall" else repr(done)), flush=True)
"""


class Hand:
    """Another process that has the bank open."""

    def __init__(self, process: Popen[str]) -> None:
        self.process = process

    def __call__(self, name: str, *given: Any) -> Any:
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("no pipes")
        self.process.stdin.write(json.dumps([name, *given]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        return json.loads(line)


@contextmanager
def another(path: Path) -> Iterator[Hand]:
    with python(HAND, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield Hand(process)
        finally:
            process.communicate()


def shared(path: Path, **options: Any) -> SharedBank:
    bank = open_shared(MockAdapter(hidden_dim=DIM), path, **options)
    assert isinstance(bank, SharedBank)
    return bank


def test_two_processes_write_and_see_what_the_other_wrote(tmp_path: Path) -> None:
    with shared(tmp_path) as bank, another(tmp_path) as hand:
        assert bank.holds
        assert hand("holds") == "False"
        hand("ingest", FACTS[0])
        bank.ingest(FACTS[1])
        assert texts(bank.recall("Where does my sister Ana live?", 1)) == [FACTS[0]]
        assert hand("recall", "When does the car need new tyres?", 1) == [FACTS[1]]
        hand("pin", 1)
        assert bank.get(1).pinned
        hand("correct", 1, "My sister Ana lives in Faro.")
        assert [version["text"] for version in bank.history(3)] == [FACTS[0]]
        hand("forget", [2, 3])
        assert bank.count() == 0
        assert hand("recall", "Where does my sister Ana live?", 1) == []
        assert not files_with(tmp_path, b"sister Ana")
        assert bank.verify().ok


def test_the_next_to_write_takes_the_place_of_a_holder_that_ends(tmp_path: Path) -> None:
    with another(tmp_path) as first, shared(tmp_path) as bank:
        assert not bank.holds
        bank.ingest(FACTS[0])
        first.process.communicate()
        assert texts(bank.recall("Where does my sister Ana live?", 1)) == [FACTS[0]]
        assert not bank.holds
        bank.ingest(FACTS[1])
        assert bank.holds
        with another(tmp_path) as second:
            second("ingest", FACTS[2])
            assert sorted(memory.text for memory in bank.memories()) == sorted(FACTS[:3])
        assert texts(bank.recall("When does the car need new tyres?", 1)) == [FACTS[1]]
        assert bank.verify().ok
    assert not list(tmp_path.glob("hands.*"))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_nothing_is_lost_where_the_holder_is_killed(tmp_path: Path) -> None:
    """Killed at any moment while another process writes, one text after the other."""
    items = numbered(120)
    with another(tmp_path) as hand, shared(tmp_path) as bank:
        killer = threading.Timer(0.15, hand.process.kill)
        killer.start()
        for item in items:
            bank.ingest(item.text)
        killer.join()
        hand.process.wait()
        bank.ingest("and one more")
        assert bank.holds
        assert [memory.text for memory in bank.memories()] == [*(item.text for item in items), "and one more"]
        assert bank.verify().ok


EIGHT = """
    import os, sys
    from support.banks import DIM
    from membank_llama import MockAdapter, open_shared
    children = []
    for number in range(8):
        child = os.fork()
        if child:
            children.append(child)
            continue
        with open_shared(MockAdapter(hidden_dim=DIM), sys.argv[1]) as bank:
            for n in range(50):
                bank.ingest(f"process {number} says its sentence number {n}")
        os._exit(0)
    for child in children:
        print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_eight_processes_write_at_once_and_all_of_it_is_there(tmp_path: Path) -> None:
    with python(EIGHT, tmp_path / "bank") as processes:
        out, err = processes.communicate()
    assert (out, err) == ("0\n" * 8, "")
    with open_bank(tmp_path / "bank") as bank:
        assert bank.count() == 400
        assert bank.verify().ok
    assert not list((tmp_path / "bank").glob("hands.*"))


def test_every_method_gives_what_it_gives_where_the_bank_is_held(tmp_path: Path) -> None:
    said = ({"role": "user", "content": "Where is Ana?"}, {"role": "assistant", "content": "In Porto."})
    with shared(tmp_path / "bank") as held, shared(tmp_path / "bank") as bank:
        assert not bank.holds
        told: list[tuple[str, int, int]] = []
        stored = bank.ingest_many(
            (NewMemory(text, {"at": (1, 2), "$odd": None}, created_at=1e9 + 0.1) for text in FACTS),
            batch_size=4,
            progress=lambda *done: told.append(done),
        )
        assert [one.is_new for one in stored] == [True] * 6
        assert stored[0].ptr_ids == held.ingest(FACTS[0]).ptr_ids
        assert [done for _, done, _ in told] == [4, 6]
        assert held.get(1).first_told_at == 1e9 + 0.1
        assert held.get(1).metadata == {"at": [1, 2], "$odd": None}
        change = bank.hide([2])
        assert change == held.changes()[0]
        assert bank.count() == 5
        assert bank.undo().ids == (2,)
        bank.tell_again([NewMemory(FACTS[2], created_at=1e9 + 50)])
        assert held.get(3).created_at == 1e9 + 50
        weights = Weights(words=0.5)
        bank.tune(weights)
        assert held.weights() == weights == bank.weights()
        assert bank.forget(number for number in (4, 5, 5)) == 2
        assert held.count() == 4
        assert bank.gc()["freed_slots"] == 2
        bank.flush()
        bank.rebuild_indexes()
        chat = ChatTranscript("talk", "default", "m.gguf", 1.0, 2.0, said, {0: (Block("b", 3, (1,), {2: "no"}), 1.5)})
        bank.chats.save(chat)
        assert held.chats.find("default").messages == said
        assert held.chats.find("default").blocks[0][0].ids == (1,)


def test_every_method_that_writes_is_handed_over() -> None:
    """Whoever adds one to the bank adds it to the table, or says in the shared bank what becomes of it."""
    signs = ("check_writable(", ".transaction(", ".set_meta(", ".set_pinned(", ".set_metadata(", "_store.remove(")
    writing = {
        name
        for name, method in inspect.getmembers(MemBank, inspect.isfunction)
        if not name.startswith("_") and any(sign in inspect.getsource(method) for sign in signs)
    }
    assert writing >= {"forget", "hide", "ingest_many", "tune"}
    assert writing <= FORWARDED.keys() | vars(SharedBank).keys(), sorted(writing - FORWARDED.keys())
    assert {name for name in FORWARDED if hasattr(MemBank, name)} <= vars(SharedBank).keys()


def test_a_chat_that_is_on_its_way_brings_nothing_forgotten_back(tmp_path: Path) -> None:
    said = tuple(
        {"role": role, "content": text}
        for text in (FACTS[0], FACTS[1])
        for role, text in (("user", text), ("assistant", "I see."))
    )
    with shared(tmp_path) as held, shared(tmp_path) as bank:
        bank.ingest(FACTS[0])
        held.forget(1)
        bank.chats.save(ChatTranscript("talk", "default", "m.gguf", 1.0, 2.0, said, {}))
        assert [message["content"] for message in held.chats.find("default").messages] == [FACTS[1], "I see."]
    assert not files_with(tmp_path, b"sister Ana")


def test_errors_are_those_of_the_holder(tmp_path: Path) -> None:
    with shared(tmp_path) as held, shared(tmp_path) as bank:
        for wrong in (held, bank):
            with pytest.raises(MemoryNotFoundError, match="no memory 7 in"):
                wrong.pin(7)
            with pytest.raises(MemoryNotFoundError, match="no memory 7 in"):
                wrong.correct(7, "x")
            with pytest.raises(InvalidInputError, match="name ids, a namespace"):
                wrong.forget()
            with pytest.raises(EmptyTextError):
                wrong.ingest(" ")
            with pytest.raises(InvalidTextError):
                wrong.ingest("half \ud800")
            with pytest.raises(InvalidInputError, match="metadata"):
                wrong.ingest("x", {"at": object()})
            with pytest.raises(TypeError):
                wrong.tell_again(3)  # type: ignore[arg-type]
        with pytest.raises(BankLockedError, match="only there"):
            bank.ingest_many(["x"], beside=lambda db: None)
        with pytest.raises(BankLockedError, match="moved to another model only by"):
            bank.reencode()
        with pytest.raises(InvalidInputError, match="cannot be handed"):
            bank.tune(object())  # type: ignore[arg-type]
        assert held.count() == 0
        held.ingest("the line is whole after all of that")
        assert bank.count() == 1
    with pytest.raises(BankClosedError):
        bank.ingest("x")
    with pytest.raises(BankClosedError):
        bank.pin(1)


def test_whoever_only_tells_needs_no_model(tmp_path: Path) -> None:
    def none_is_loaded() -> MockAdapter:
        raise AssertionError("a model is loaded")

    with shared(tmp_path) as held:
        with open_shared(none_is_loaded, tmp_path) as bank:
            bank.ingest(FACTS[0])
            bank.correct(1, "My sister Ana lives in Faro.")
        assert texts(held.recall("Where does Ana live?", 1)) == ["My sister Ana lives in Faro."]
        with pytest.raises(ModelMismatchError, match="made by mock"):
            open_shared(MockAdapter(hidden_dim=32), tmp_path)
    loaded = []
    with open_shared(lambda: loaded.append(1) or MockAdapter(hidden_dim=DIM), tmp_path) as bank:
        bank.ingest(FACTS[1])
    assert loaded == [1]


def test_a_model_is_loaded_where_the_holder_ends(tmp_path: Path) -> None:
    held = shared(tmp_path)
    loaded = []
    with open_shared(lambda: loaded.append(1) or MockAdapter(hidden_dim=DIM), tmp_path) as bank:
        bank.ingest(FACTS[0])
        held.close()
        bank.ingest(FACTS[1])
        bank.ingest(FACTS[2])
        assert loaded == [1]
        assert texts(bank.recall("When does the car need new tyres?", 1)) == [FACTS[1]]


def test_a_holder_without_a_model_is_waited_for(tmp_path: Path) -> None:
    """A command that only forgets holds the bank for a moment, while a chat tells something."""
    with shared(tmp_path) as bank:
        bank.ingest(FACTS[0])
    forgetting = open_shared(None, tmp_path)
    with shared(tmp_path) as bank:
        ending = threading.Timer(0.2, forgetting.close)
        ending.start()
        bank.ingest(FACTS[1])
        ending.join()
        assert bank.holds
        with open_shared(None, tmp_path) as other:
            other.ingest(FACTS[2])
        assert bank.count() == 3
    with open_shared(None, tmp_path) as bare, open_shared(None, tmp_path) as other:
        with pytest.raises(ModelError, match="without a model"):
            other.ingest("nobody can encode this")
        assert bare.count() == 3


def test_a_holder_that_serves_nobody_is_named(tmp_path: Path) -> None:
    with open_bank(tmp_path) as plain:
        plain.ingest(FACTS[0])
        with pytest.raises(
            BankLockedError, match=r"being written by process \d+ .* lets nobody else in.*read_only=True"
        ):
            shared(tmp_path)
    with shared(tmp_path) as bank:
        with pytest.raises(BankLockedError, match="open_shared"):
            open_bank(tmp_path)
        assert bank.count() == 1


def test_readers_see_it_and_others_only_read(tmp_path: Path) -> None:
    with shared(tmp_path) as held:
        held.ingest(FACTS[0])
        with MemBank(MockAdapter(hidden_dim=DIM), tmp_path, read_only=True) as reader, shared(tmp_path) as bank:
            bank.ingest(FACTS[1])
            assert texts(reader.recall("When does the car need new tyres?", 1)) == [FACTS[1]]


def test_nothing_listens_for_a_bank_that_nobody_has_any_more(tmp_path: Path) -> None:
    bank = shared(tmp_path)
    bank.ingest(FACTS[0])
    assert (tmp_path / "hands.json").exists()
    del bank
    gc.collect()
    wait_for(lambda: not list(tmp_path.glob("hands.*")))


FORGETFUL = """
    import sys
    from support.banks import DIM
    from membank_llama import MockAdapter, open_shared
    bank = open_shared(MockAdapter(hidden_dim=DIM), sys.argv[1])
    bank.ingest("nobody closes this one")
    print(bank.holds)
"""


def test_a_process_that_ends_without_a_word_leaves_nothing_behind(tmp_path: Path) -> None:
    with python(FORGETFUL, tmp_path) as process:
        out, err = process.communicate()
    assert (out, err, process.returncode) == ("True\n", "", 0)
    assert not list(tmp_path.glob("hands.*"))
    with shared(tmp_path) as bank:
        assert bank.count() == 1


def test_threads_that_write_while_the_holder_changes(tmp_path: Path) -> None:
    first = shared(tmp_path)
    with shared(tmp_path) as bank:
        numbers = iter(range(4))

        def write() -> None:
            own = next(numbers)
            for n in range(25):
                bank.ingest(f"thread {own} says its sentence number {n}")

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        first.close()
        for thread in threads:
            thread.join()
        assert bank.count() == 100
        assert bank.holds
        assert bank.verify().ok


def test_whoever_must_hold_the_bank_is_made_way_for(tmp_path: Path) -> None:
    """As a server does that is started while a chat is open; the chat goes on, and takes the bank again afterwards."""
    with shared(tmp_path) as bank:
        bank.ingest(FACTS[0])
        before = bank.chats
        with shared(tmp_path, join=False) as server:
            assert server.holds
            assert not bank.holds
            assert bank.chats is not before
            assert bank.ingest(FACTS[1]).is_new
            assert server.ingest_many([FACTS[2]], beside=lambda db: None)[0].is_new
            assert texts(bank.recall("Who bakes bread with rye flour?", 1)) == [FACTS[2]]
            with pytest.raises(BankLockedError, match="being written by process"):
                shared(tmp_path, join=False)
        bank.forget(1)
        assert bank.holds
        assert sorted(memory.text for memory in bank.memories()) == sorted(FACTS[1:3])
        assert texts(bank.recall("When does the car need new tyres?", 1)) == [FACTS[1]]
        assert bank.verify().ok
    with open_bank(tmp_path) as after:
        assert after.count() == 2
        assert after.verify().ok


def test_nothing_is_lost_while_a_bank_changes_hands_again_and_again(tmp_path: Path) -> None:
    with shared(tmp_path) as bank:
        numbers = iter(range(3))

        def write() -> None:
            own = next(numbers)
            for n in range(40):
                bank.ingest(f"thread {own} says its sentence number {n}")

        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        for n in range(5):
            with shared(tmp_path, join=False) as server:
                server.ingest(f"the server was here {n} times")
        for thread in threads:
            thread.join()
        assert bank.count() == 125
        assert len(texts(bank.recall("the server was here 3 times", 1))) == 1
    with open_bank(tmp_path) as after:
        assert after.count() == 125
        assert after.verify().ok
