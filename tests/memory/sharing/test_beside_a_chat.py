"""Commands and a second chat while a chat has the bank open: each works, and each sees what the other did."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.banks import DIM, FACTS, files_with, python, texts
from support.serve_process import started
from support.terminals import Membank, environment, membank

from membank_llama import Llama, MemBank, MockAdapter, open_shared
from membank_llama.cli.chat_session import ChatSession, ReplyOptions
from membank_llama.core.errors import BankLockedError, MemoryNotFoundError
from membank_llama.memory.sharing.shared_bank import SharedBank

OPTIONS = {"n_ctx": 512, "n_threads": 1, "n_threads_batch": 1, "verbose": False}
COLD = {"max_tokens": 8, "temperature": 0.0}


def chatting(model: Path, bank: Path) -> Llama:
    return Llama(str(model), memory=bank, encoder=MockAdapter(hidden_dim=DIM), **OPTIONS)


def never() -> bool:
    return False


def nowhere(piece: str) -> None:
    pass


def session(llm: Llama) -> ChatSession:
    return ChatSession(llm, ReplyOptions(temperature=0.0, max_tokens=8))


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Membank:
    return Membank(tmp_path / "bank", capsys)


def test_commands_work_while_a_chat_is_open(mb: Membank, tmp_path: Path, stories_chatml_gguf: Path) -> None:
    llm = chatting(stories_chatml_gguf, mb.bank)
    bank = llm.memory.bank
    try:
        notes = tmp_path / "notes.jsonl"
        notes.write_text("\n".join(json.dumps({"text": text}) for text in FACTS), encoding="utf-8")
        done = mb("ingest", notes)
        assert done.code == 0, done.err
        assert "6 memories new" in done.out
        assert texts(bank.recall("Where does my sister Ana live?", 1)) == [FACTS[0]]
        assert mb("pin", 1).code == 0
        assert bank.get(1).pinned
        assert mb("unpin", 1).code == 0
        assert mb("correct", 1, "My sister Ana lives in Faro.").code == 0
        assert texts(bank.recall("Where does my sister Ana live?", 1)) == ["My sister Ana lives in Faro."]
        assert mb("forget", 2, 3).code == 0
        with pytest.raises(MemoryNotFoundError):
            bank.get(2)
        assert json.loads(mb("import", notes, "--json").out)["new"] == 3
        for command in ("gc", "rebuild", "verify", "stats"):
            done = mb(command)
            assert done.code == 0, done.err
        refused = mb("reencode", stories_chatml_gguf, "--threads", 1)
        assert refused.code == 1
        assert "is being written by process" in refused.err
        wrong = mb("ingest", notes, "--model", stories_chatml_gguf, "--threads", 1)
        assert wrong.code == 1
        assert "was made by mock" in wrong.err
    finally:
        llm.close()
    with MemBank(MockAdapter(hidden_dim=DIM), mb.bank) as after:
        assert after.verify().ok
        assert after.count() == 7


def test_a_process_of_its_own_forgets_what_an_open_chat_said(tmp_path: Path, stories_chatml_gguf: Path) -> None:
    """It leaves the messages that the model is shown, and every file, though the chat is kept with each turn."""
    bank = tmp_path / "bank"
    llm = chatting(stories_chatml_gguf, bank)
    try:
        talk = session(llm)
        talk.ask("The code of the bicycle lock is 4719.", nowhere, never)
        talk.ask("Tell me a story.", nowhere, never)
        talk.memory.flush()
        assert files_with(bank, b"4719")
        done = membank("--bank", bank, "forget", 1)
        assert done.code == 0, done.err
        talk.ask("And another one.", nowhere, never)
        assert "4719" not in json.dumps(talk.messages)
        assert len(talk.messages) == 4
    finally:
        llm.close()
    assert not files_with(bank, b"4719")


SECOND = """
    import sys
    from support.banks import DIM
    from membank_llama import Llama, MockAdapter
    llm = Llama(sys.argv[2], memory=sys.argv[1], encoder=MockAdapter(hidden_dim=DIM),
                n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False)
    for line in sys.stdin:
        llm.create_chat_completion([{"role": "user", "content": line.strip()}], max_tokens=8, temperature=0.0)
        llm.memory.flush()
        print(llm.memory.last.block.replace("\\n", " "), flush=True)
    llm.close()
"""


def test_two_chats_find_what_the_other_was_told(tmp_path: Path, stories_chatml_gguf: Path) -> None:
    llm = chatting(stories_chatml_gguf, tmp_path)
    with python(SECOND, tmp_path, stories_chatml_gguf) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def ask_other(text: str) -> str:
            other.stdin.write(text + "\n")  # type: ignore[union-attr]
            other.stdin.flush()  # type: ignore[union-attr]
            return other.stdout.readline()  # type: ignore[union-attr]

        ask_other("My sister Ana lives in Porto.")
        llm.create_chat_completion([{"role": "user", "content": "Where does my sister Ana live?"}], **COLD)
        assert llm.memory.last is not None
        assert "Porto" in llm.memory.last.block
        llm.create_chat_completion([{"role": "user", "content": "The dentist moved to Maple Street."}], **COLD)
        llm.memory.flush()
        assert "Maple Street" in ask_other("Where did the dentist move to?")
        # the first one leaves, and the second goes on
        llm.close()
        ask_other("Our flight to Lisbon leaves at seven.")
        with MemBank(None, tmp_path, read_only=True) as reader:
            assert any(memory.text.startswith("Our flight to Lisbon") for memory in reader.memories())
        other.communicate()
    with MemBank(MockAdapter(hidden_dim=DIM), tmp_path) as bank:
        assert bank.verify().ok


def test_another_process_tells_two_hundred_texts_while_a_reply_is_made(
    tmp_path: Path, stories_chatml_gguf: Path
) -> None:
    """Both use the model that chats, and neither waits for the other's end."""
    bank = tmp_path / "bank"
    llm = Llama(str(stories_chatml_gguf), memory=bank, **OPTIONS)
    lines = "\n".join(json.dumps({"text": f"note {n}: the lamp beside box {n}"}) for n in range(200))
    command = [sys.executable, "-m", "membank_llama", "--bank", str(bank), "import", "-", "--json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        with subprocess.Popen(command, env=environment(), text=True, **pipes) as telling:  # type: ignore[call-overload]
            assert telling.stdin is not None
            telling.stdin.write(lines)
            telling.stdin.close()
            replies = 0
            while telling.poll() is None:
                messages = [{"role": "user", "content": f"Tell me story number {replies}."}]
                stream = llm.create_chat_completion(messages, stream=True, max_tokens=64, temperature=0.0)
                assert list(stream)
                replies += 1
            assert telling.returncode == 0, telling.stderr.read()
            assert json.loads(telling.stdout.read())["new"] == 200
        assert replies
        llm.memory.flush()
        assert isinstance(llm.memory.bank, SharedBank)
        assert llm.memory.bank.holds
        assert sum(memory.text.startswith("note ") for memory in llm.memory.bank.memories()) == 200
    finally:
        llm.close()


def test_chats_in_the_terminal_join_and_keep_their_conversations(tmp_path: Path, recall_tiny: Path) -> None:
    """The toy's chat beside another process that holds the bank."""
    bank = tmp_path / "bank"
    chat = ("--bank", bank, "chat", recall_tiny, "--threads", "1", "--max-tokens", "8", "--ctx", "512")
    first = membank(*chat, stdin="My sister Ana lives in Porto.\n")
    assert first.code == 0, first.err
    with open_shared(None, bank) as held:
        assert isinstance(held, SharedBank)
        resumed = membank(*chat, "--resume", stdin="/pin 1\n/bank\n/forget 1\n")
        assert resumed.code == 0, resumed.err
        assert "memory 1 pinned" in resumed.err
        assert re.search(rf"held by +process {os.getpid()} ", resumed.err)
        assert 1 not in {memory.id for memory in held.memories()}
        assert [change.kind for change in held.changes()] == ["forget"]
        assert held.finish_hidden(all_of_it=True) >= 1
        with pytest.raises(MemoryNotFoundError):
            held.get(1)
        assert not held.chats.newest("default")


def test_a_server_is_started_beside_a_chat_and_commands_beside_it(
    mb: Membank, tmp_path: Path, stories_chatml_gguf: Path
) -> None:
    """The chat makes way and goes on; commands tell and forget in what the server holds, and its clients see it."""
    (tmp_path / "facts.txt").write_text(FACTS[0], encoding="utf-8")
    llm = Llama(str(stories_chatml_gguf), memory=mb.bank, **OPTIONS)
    try:
        llm.create_chat_completion([{"role": "user", "content": FACTS[1]}], **COLD)
        llm.memory.flush()
        with started(tmp_path, "--model", stories_chatml_gguf) as (process, client):
            done = mb("ingest", tmp_path / "facts.txt")
            assert done.code == 0, done.err
            asked = {"messages": [{"role": "user", "content": "Where does my sister Ana live?"}], "max_tokens": 4}
            answer = client.post("/v1/chat/completions", json={"model": "stories260K-chatml", **asked})
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-membank-memories"] == "1"
            with pytest.raises(BankLockedError, match=f"is being written by process {process.pid} "):
                open_shared(None, mb.bank, join=False)
            llm.create_chat_completion([{"role": "user", "content": FACTS[2]}], **COLD)
            assert llm.memory.flush()
            assert not llm.memory.bank.holds  # type: ignore[attr-defined]
            (own,) = (memory for memory in llm.memory.bank.memories() if memory.text == FACTS[0])
            assert mb("forget", own.id, "--yes").code == 0
    finally:
        llm.close()
    with MemBank(None, mb.bank, read_only=True) as reader:
        said = [memory.text for memory in reader.memories()]
    assert FACTS[0] not in said
    assert {FACTS[1], FACTS[2]} <= set(said)
