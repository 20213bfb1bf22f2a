"""The chat in a real terminal: tell, leave, start again, ask, and see why."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.terminals import environment

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
PATIENCE = 30


class Terminal:
    """One program in a terminal of 100 × 50 characters, in a tmux server of its own."""

    def __init__(self, directory: Path) -> None:
        config = directory / "tmux.conf"
        config.write_text("set -g remain-on-exit on\nset -g default-terminal screen\n", encoding="utf-8")
        self._server = ["tmux", "-u", "-L", f"membank-{uuid.uuid4().hex[:8]}", "-f", str(config)]
        # the terminal's own size counts, not what the tests set for pipes
        self.environment = {name: value for name, value in environment().items() if name != "COLUMNS"}
        self._running = False

    def _tmux(self, *arguments: str) -> str:
        command = [*self._server, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=self.environment).stdout

    def chat(self, bank: Path, *arguments: object) -> None:
        """Start the chat, in place of whatever ran before, and wait for its prompt."""
        command = shlex.join([sys.executable, "-m", "membank_llama", "--bank", str(bank), "chat", *map(str, arguments)])
        command += '; echo "left with $?"'
        if self._running:
            self._tmux("respawn-pane", "-k", command)
            self._tmux("clear-history")
        else:
            self._tmux("new-session", "-d", "-x", "100", "-y", "50", command)
            self._running = True
        self.wait(lambda shown: "/help lists commands" in shown and prompted(shown))

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)
        self.press("Enter")

    def begin(self, text: str) -> None:
        """Type without sending."""
        self._tmux("send-keys", "-l", text)

    def press(self, key: str) -> None:
        self._tmux("send-keys", key)

    def ask(self, text: str, answered: str) -> str:
        """Say something; the screen once the answer is there and the chat waits for more."""
        self.type(text)
        return self.wait(lambda shown: answered in after(shown, text) and prompted(shown))

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-S", "-200")

    def wait(self, ready: Callable[[str], bool]) -> str:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            shown = self.screen()
            if ready(shown):
                return shown
            time.sleep(0.05)
        return pytest.fail(f"not seen within {PATIENCE} s; the screen is:\n{self.screen()}")

    def left(self) -> str:
        """The screen once the program has ended well."""
        shown = self.wait(lambda shown: "left with " in shown)
        assert "left with 0" in shown, shown
        return shown

    def close(self) -> None:
        subprocess.run([*self._server, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    opened.close()


def after(shown: str, text: str) -> str:
    """What follows the last appearance of a text; nothing while it is not there."""
    return shown.rpartition(text)[2] if text in shown else ""


def prompted(shown: str) -> bool:
    """The chat waits for a line."""
    lines = [line for line in shown.splitlines() if line.strip()]
    return bool(lines) and lines[-1].strip() == "›"


OPTIONS = ("--threads", "1", "--ctx", "1024", "--max-tokens", "12", "--temperature", "0")


def test_tell_leave_and_go_on(terminal: Terminal, tmp_path: Path, stories_chatml_gguf: Path, minilm_gguf: Path) -> None:
    bank = tmp_path / "bank"
    terminal.chat(bank, stories_chatml_gguf, "--encoder", minilm_gguf, *OPTIONS)
    terminal.ask("The code of my bicycle lock is 4719.", "no memory recalled")
    terminal.press("C-d")
    assert "go on with this chat: membank chat" in terminal.left()
    terminal.chat(bank, stories_chatml_gguf, "--resume", *OPTIONS)
    shown = terminal.screen()
    assert "› The code of my bicycle lock is 4719." in shown
    assert "going on with 1 turn of chat-" in shown
    shown = terminal.ask("My sister keeps bees behind the mill.", "recalled")
    listed = terminal.ask("/resume", "begins with")
    row = next(line for line in after(listed, "begins with").splitlines() if "chat-" in line)
    assert row.split()[0] == "●"
    assert " 2  The code of my bicycle lock is 4719." in row


@pytest.mark.parametrize("model", ["stories260K.gguf", "stories260K-chatml.gguf"])
def test_tell_leave_start_again_ask(
    terminal: Terminal, tmp_path: Path, shared_models: Path, minilm_gguf: Path, model: str
) -> None:
    if not (shared_models / model).exists():
        pytest.skip(f"needs {model}")
    bank = tmp_path / "bank"
    terminal.chat(bank, shared_models / model, "--encoder", minilm_gguf, *OPTIONS)
    terminal.ask("The code of my bicycle lock is 4719.", "no memory recalled")
    terminal.ask("My sister keeps bees behind the mill.", "recalled")
    terminal.type("/quit")
    assert "memories kept" in terminal.left()

    # the bank itself knows its encoder now
    terminal.chat(bank, shared_models / model, *OPTIONS)
    shown = terminal.ask("What is the code of my bicycle lock?", "1 memory recalled")
    assert "4719" not in shown.split("What is the code")[-1]
    terminal.type("/why")
    explained = terminal.wait(lambda shown: "every score" in shown and prompted(shown)).partition("› /why")[2]
    injected, _, back = explained.partition("held back:")
    assert "put into the prompt: 1 memory" in injected
    assert "I said: The code of my bicycle lock is 4719." in injected
    assert all("short of" in line for line in back.splitlines() if "My sister" in line)
    terminal.ask("/recall bees", "bees behind the mill")
    terminal.press("C-d")
    assert "memories kept" in terminal.left()


def test_completion_and_ctrl_c(terminal: Terminal, tmp_path: Path, tiny_gguf: Path) -> None:
    options = ("--threads", "1", "--ctx", "32768", "--max-tokens", "30000", "--temperature", "1.5", "--seed", "1")
    terminal.chat(tmp_path / "bank", tiny_gguf, *options)
    terminal.begin("/rec")
    terminal.wait(lambda shown: "what the bank holds" in shown)
    terminal.press("Tab")
    terminal.wait(lambda shown: "› /recall" in shown)
    terminal.press("C-c")
    terminal.wait(lambda shown: "Ctrl-D leaves" in after(shown, "› /recall") and prompted(shown))
    terminal.type("Tell me a story.")
    terminal.wait(lambda shown: len(after(shown, "Tell me a story.").strip()) > 20)
    terminal.press("C-c")
    terminal.wait(lambda shown: "stopped ·" in shown and prompted(shown))
    terminal.ask("/stats", "dimensions")
    terminal.press("C-d")
    # what was asked; the fragment of a reply is none
    assert "1 memory kept" in terminal.left()


SLOWLY = """
import time
from membank_llama.cli import terminal_chat
asked = terminal_chat.ChatSession.ask
def slowly(self, *arguments):
    time.sleep(0.5)
    return asked(self, *arguments)
terminal_chat.ChatSession.ask = slowly
"""


def test_something_moves_until_the_reply_and_is_gone_then(
    terminal: Terminal, tmp_path: Path, recall_tiny: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOWLY, encoding="utf-8")
    terminal.environment["PYTHONPATH"] = f"{tmp_path}:{terminal.environment['PYTHONPATH']}"
    terminal.chat(tmp_path / "bank", recall_tiny, "--threads", "1")
    terminal.type("My sister is called Ilse.")
    terminal.wait(lambda shown: "recalling …" in shown)
    shown = terminal.wait(lambda shown: "no memory recalled" in shown and prompted(shown))
    assert "recalling …" not in shown and "loading" not in shown
    terminal.type("What is my sister called?")
    terminal.wait(lambda shown: "recalling …" in shown)
    terminal.press("C-c")
    shown = terminal.wait(lambda shown: "stopped before the reply" in shown and prompted(shown))
    assert "recalling …" not in shown
    terminal.ask("What is my sister called?", "Your sister is called Ilse.")


def test_ctrl_z_is_no_letter_of_what_is_said(terminal: Terminal, tmp_path: Path, recall_tiny: Path) -> None:
    terminal.chat(tmp_path / "bank", recall_tiny, "--threads", "1")
    # where no shell could wake it, as here, it goes on
    terminal.press("C-z")
    shown = terminal.ask("My sister is called Ilse.", "no memory recalled")
    assert "^Z" not in shown
