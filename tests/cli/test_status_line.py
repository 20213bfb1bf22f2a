"""Something moves before the first token: in a terminal alone, and gone when there is something to read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.terminals import membank

from membank_llama.cli import status_line, terminal
from membank_llama.cli.status_line import StatusLine
from membank_llama.memory.llama_with_memory import SafeLlama


def test_how_much_is_about_to_be_read(tiny_gguf: Path) -> None:
    told: list[int] = []
    with_memory = SafeLlama(str(tiny_gguf), n_ctx=256, n_threads=1, verbose=False)
    with_memory.on_read = told.append
    first = with_memory.tokenize(b"The lamp is green and the door is red.")
    try:
        for tokens in (first, [*first, 5, 6, 7]):
            for _ in zip(range(2), with_memory.generate(tokens, temp=0.0), strict=False):
                pass
    finally:
        with_memory.close()
    assert told[0] == len(first)
    assert 0 < told[1] <= 3


def test_without_a_terminal_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    with StatusLine("loading …") as status:
        status.say("reading …")
    assert capfd.readouterr() == ("", "")
    assert threading.active_count() >= 1


def test_what_is_quick_is_not_said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(terminal.err, "_force_terminal", True)
    monkeypatch.setattr(status_line, "DELAY", 60.0)
    with StatusLine("loading …"):
        pass
    assert capfd.readouterr().err == ""


def test_what_takes_long_is_said_and_gone(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(terminal.err, "_force_terminal", True)
    begun = threading.Event()
    original = StatusLine._begin

    def begin(self: StatusLine) -> None:
        original(self)
        begun.set()

    monkeypatch.setattr(StatusLine, "_begin", begin)
    monkeypatch.setattr(status_line, "DELAY", 0.0)
    with StatusLine("loading a model …") as status:
        assert begun.wait(10)
        status.say("reading 1,234 tokens …")
    shown = capfd.readouterr().err
    assert "reading 1,234 tokens …" in shown
    # the line is erased, and the cursor is there again
    assert shown.rstrip().endswith("\x1b[2K") and "\x1b[?25h" in shown
    status.clear()


def test_a_piped_chat_holds_the_reply_alone(tmp_path: Path, recall_tiny: Path) -> None:
    done = membank("--bank", tmp_path, "chat", recall_tiny, "--threads", 1, stdin="My sister is called Ilse.\n")
    assert "recalling" not in done.out + done.err and "\x1b" not in done.out + done.err
