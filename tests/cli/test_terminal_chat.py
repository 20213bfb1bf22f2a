"""The chat as people and pipes use it: tell, leave, come back, ask; and every slash command."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from rich.console import Console
from support.banks import open_bank
from support.hostile_gguf import STRING, changed
from support.terminals import environment, membank

from membank_llama.cli import terminal
from membank_llama.cli.chat_session import ChatSession, ReplyOptions, SessionReply
from membank_llama.cli.terminal_chat import HELP, Chat, _interrupts, _Slash
from membank_llama.memory.bank import MemBank
from membank_llama.memory.llama_with_memory import Llama

CHAT = ("--threads", "1", "--max-tokens", "8", "--ctx", "1024", "--temperature", "0")


def test_tell_leave_ask_through_pipes(tmp_path: Path, stories_chatml_gguf: Path, minilm_gguf: Path) -> None:
    chat = ("--bank", tmp_path, "chat", stories_chatml_gguf, "--encoder", minilm_gguf, *CHAT)
    told = membank(*chat, stdin="The code of my bicycle lock is 4719.\nI like plums.\n/quit\nnever said\n")
    assert told.code == 0, told.err
    assert "no memory recalled" in told.err
    assert "memories kept" in told.err
    assert "memor" not in told.out
    asked = membank(*chat, stdin="What is the code of my bicycle lock?\n/why\n")
    assert asked.code == 0, asked.err
    assert "1 memory recalled" in asked.err
    assert "4719" in asked.err
    assert "injected" in asked.err
    assert "4719" not in asked.out
    # the model that made the bank is found again by itself
    explained = membank("--bank", tmp_path, "why", "--threads", "1")
    assert explained.code == 0, explained.err
    assert "4719" in explained.out


def test_a_model_without_template_encodes_for_itself(tmp_path: Path, stories_gguf: Path) -> None:
    chat = ("--bank", tmp_path, "chat", stories_gguf, *CHAT)
    assert membank(*chat, stdin="The ferry to Skagen leaves at seven.\n").code == 0
    asked = membank(*chat, stdin="When does the ferry to Skagen leave?\n/bank\n")
    assert asked.code == 0, asked.err
    assert "1 memory recalled" in asked.err
    assert "stories260K" in asked.err


def test_bytes_that_are_no_text_do_not_end_a_chat(tmp_path: Path, tiny_gguf: Path) -> None:
    done = membank(
        "--bank", tmp_path, "chat", tiny_gguf, *CHAT, stdin=b"caf\xe9 \x00 \xf0\x9f\x98\x80\n\n   \n/stats\n"
    )
    assert done.code == 0, done.err
    assert "memories" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("memory", [(), ("--no-memory",)])
def test_one_long_word_does_not_end_a_chat(tmp_path: Path, recall_tiny: Path, memory: tuple[str, ...]) -> None:
    path = changed(recall_tiny, tmp_path / "v3.gguf", lambda p: p.set("tokenizer.ggml.pre", "deepseek-v3", STRING))
    ran = membank("--bank", tmp_path / "bank", "chat", path, *memory, *CHAT, stdin=f"{'a' * 100_000}\nHello.\n")
    assert ran.code == 0, ran.err
    assert "does not fit into the context" in ran.err


def test_a_template_that_cannot_be_read_is_one_line(tmp_path: Path, recall_tiny: Path) -> None:
    cut = changed(recall_tiny, tmp_path / "cut.gguf", lambda p: p.set("tokenizer.chat_template", "{% for m in", STRING))
    ran = membank("--bank", tmp_path / "bank", "chat", cut, *CHAT, stdin="Hello.\n")
    assert ran.code == 1
    assert "the chat template of" in ran.err
    assert "Traceback" not in ran.err


def test_no_memory_leaves_no_bank(tmp_path: Path, tiny_gguf: Path) -> None:
    done = membank("--bank", tmp_path / "b", "chat", tiny_gguf, "--no-memory", *CHAT, stdin="hello\n/recall x\n")
    assert done.code == 0, done.err
    assert "without memory" in done.err
    assert "this chat has no memory" in done.err
    assert not (tmp_path / "b").exists()


def test_a_bank_in_use_is_named_and_can_be_read_meanwhile(tmp_path: Path, minilm_gguf: Path, tiny_gguf: Path) -> None:
    from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter

    with LlamaCppAdapter(minilm_gguf, n_threads=1) as adapter, MemBank(adapter, tmp_path) as bank:
        bank.ingest("The spare key lies under the flower pot.")
        refused = membank("--bank", tmp_path, "chat", tiny_gguf, *CHAT, stdin="hello\n")
        assert refused.code == 1
        assert f"process {os.getpid()}" in refused.err
        found = membank("--bank", tmp_path, "recall", "where is the key?", "--threads", "1")
        assert found.code == 0, found.err
        assert "flower pot" in found.out


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to one process")
def test_ctrl_c_stops_the_reply_and_not_the_program(tmp_path: Path, tiny_gguf: Path) -> None:
    chat = [
        "--bank",
        str(tmp_path),
        "chat",
        str(tiny_gguf),
        "--threads",
        "1",
        "--ctx",
        "32768",
        "--max-tokens",
        "30000",
    ]
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", "membank_llama", *chat, "--temperature", "1.5", "--seed", "1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert child.stdin and child.stdout and child.stderr
    with child:
        child.stdin.write(b"Tell me a story.\n")
        child.stdin.flush()
        assert child.stdout.read(1)
        child.send_signal(signal.SIGINT)
        time.sleep(0.3)
        _, shown = child.communicate(b"/stats\n/quit\n", timeout=60)
    assert child.returncode == 0, shown.decode()
    assert "stopped ·" in shown.decode()
    with MemBank(None, tmp_path, read_only=True) as bank:
        assert [memory.text for memory in bank.memories()] == ["Tell me a story."]


# -- slash commands, in this process


@pytest.fixture
def chat(tmp_path: Path, tiny_gguf: Path) -> Iterator[Chat]:
    with open_bank(tmp_path / "bank") as bank:
        llm = Llama(str(tiny_gguf), memory=bank, n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False)
        yield Chat(ChatSession(llm, ReplyOptions(temperature=0.0, max_tokens=4)), bank.path)
        llm.close()


def say(chat: Chat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *lines: str) -> str:
    """What is shown beside the replies."""

    def typed(self: Any) -> Iterator[str]:
        yield from lines

    monkeypatch.setattr(Chat, "_lines", typed)
    capsys.readouterr()
    chat.run()
    return capsys.readouterr().err


def test_slash_commands(chat: Chat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bank = chat.memory.bank

    def shown(*lines: str) -> str:
        return say(chat, monkeypatch, capsys, *lines)

    assert "nothing was asked yet" in shown("/why")
    assert "nothing found" in shown("/recall anything")
    bank.ingest("The heron stands in the canal.")
    assert "The heron stands in the canal." in shown("/recall heron")
    assert "1 memory recalled" in shown("Where does the heron stand?")
    explained = shown("/why")
    assert "injected" in explained
    assert "The heron stands" in explained
    assert "memory 1 pinned" in shown("/pin 1")
    assert bank.get(1).pinned
    assert str(bank.path) in shown("/bank")
    assert "dimensions" in shown("/stats")
    everything = shown("/help")
    assert all(name in everything for name in HELP)
    assert "memory 1 is now 4" in shown("/correct 1 The heron stands in the river.")
    assert bank.history(4)[0]["text"] == "The heron stands in the canal."
    assert "1 memory forgotten" in shown("/forget 4")
    assert "nothing was asked yet" in shown("/why")
    assert bank.count() == 2
    assert "there again · 4" in shown("/undo") and bank.count() == 3
    assert "says again what it said before" in shown("/undo") and bank.count() == 3
    assert "1 memory forgotten" in shown("/forget 5") and bank.count() == 2
    assert "2 memories forgotten" in shown("/forget last")
    assert "the last turn added nothing" in shown("/forget last")
    assert bank.count() == 0
    assert chat.conversation.messages == []
    assert "another conversation" in shown("/new")


def test_slash_mistakes_are_one_line_and_the_chat_goes_on(
    chat: Chat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = (
        "/nonsense",
        "/recall",
        "/pin",
        "/pin x",
        "/pin 99",
        "/forget",
        "/forget 99",
        "/correct 1",
        "/correct 99 x",
    )
    lines = (*wrong, "/quit", "not reached")
    shown = say(chat, monkeypatch, capsys, *lines)
    assert shown.count("error: ") == len(wrong)
    assert "there is no /nonsense" in shown
    assert "there is no memory 99" in shown
    assert chat.memory.bank.stats()["memories"] == 0


def test_a_long_message_is_refused_in_one_line(
    chat: Chat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = say(chat, monkeypatch, capsys, "walnut " * 2000, "hello")
    assert "does not fit into the context of 512 tokens" in shown
    assert "no memory recalled" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="raises a signal in this process")
def test_an_interrupt_waits_for_the_end_of_a_token() -> None:
    before = signal.getsignal(signal.SIGINT)
    with _interrupts(begun=lambda: True) as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), _interrupts(begun=lambda: False):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_completion_offers_commands_and_nothing_else() -> None:
    def offered(text: str) -> list[str]:
        return [found.text for found in _Slash().get_completions(Document(text), CompleteEvent())]

    assert offered("/") == list(HELP)
    assert offered("/re") == ["/recall", "/resume"]
    assert offered("/recall h") == []
    assert offered("hello /re") == []


class Thinker:
    """A conversation that thinks before it speaks."""

    memory = None
    max_tokens = 8

    def __init__(self, words: str) -> None:
        self.words = words
        self.llm = SimpleNamespace()

    def ask(self, text: str, show: Any, stopped: Any, show_thought: Any) -> SessionReply:
        for piece in ("\n", "Hm, ", "Oslo."):
            show_thought(piece)
        if self.words:
            show(self.words)
        return SessionReply(self.words, "stop", 0, None)


@pytest.mark.parametrize("words", ["Garage 12.", ""])
def test_thoughts_are_dim_in_a_terminal_and_not_piped_on(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    for in_terminal in (True, False):
        written = io.StringIO()
        console = Console(file=written, force_terminal=in_terminal, color_system="standard", width=60)
        monkeypatch.setattr(terminal, "out", console)
        monkeypatch.setattr(terminal, "err", Console(file=io.StringIO()))
        Chat(cast(Any, Thinker(words)), None)._say("Which garage is mine?")
        shown = written.getvalue()
        assert ("\x1b[2mHm," in shown, "Oslo" in shown) == (in_terminal, in_terminal)
        assert words in shown.replace("\x1b[2mHm", "")
        assert not words or not in_terminal or "Oslo.\x1b[0m\nGarage" in shown
