"""The chat in the terminal: a line in, a streamed reply, one dim line about memory; and slash commands.

Ctrl-C stops a reply and not the program, Ctrl-D leaves. Without a terminal it reads plain lines, writes replies to
standard output and everything else to standard error.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.styles import Style
from rich.console import Console
from rich.text import Text

from membank_llama.core.errors import InvalidInputError, MembankError
from membank_llama.memory.bank_undo import GRACE_SECONDS
from membank_llama.memory.sharing.shared_bank import SharedBank

from . import terminal, why_view
from .chat_session import ChatSession, SessionReply
from .last_recall import history_file, recall_rows, save_recall
from .status_line import StatusLine

PROMPT = "› "
RECALLED = 5
CHATS_LISTED = 10
TURNS_SHOWN = 3
"""Of a chat that is gone on with."""
GO_ON = "membank chat"

HELP = {
    "/recall": ("QUERY", "what the bank holds about something"),
    "/why": ("[all]", "what the last message put into the prompt, and what was held back; all: every score"),
    "/correct": ("ID TEXT", "say better what a memory says"),
    "/forget": ("ID|last", "forget a memory, or the last turn, and the replies that only repeat it"),
    "/undo": ("", "take back what was forgotten a moment ago, a correction, or a pin"),
    "/pin": ("ID", "keep a memory past its expiry"),
    "/new": ("", "start another conversation"),
    "/resume": ("[CHAT]", "go on with an earlier conversation; without a name, what there is"),
    "/stats": ("", "how much the bank holds"),
    "/bank": ("", "where the bank is, and whose"),
    "/help": ("", "this list"),
    "/quit": ("", "leave; so does Ctrl-D"),
}


class _Slash(Completer):
    """Completes the names of slash commands."""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        typed = document.text_before_cursor
        if typed.startswith("/") and " " not in typed:
            for name, (argument, meaning) in HELP.items():
                if name.startswith(typed):
                    yield Completion(name, -len(typed), display=f"{name} {argument}", display_meta=meaning)


class Chat:
    """One person, one conversation, one terminal.

    Args:
        conversation: with or without memory.
        bank: the bank's directory, for the history and the last recall; None without memory.
        go_on: the command that chats here, by which this chat can be gone on with.
    """

    def __init__(self, conversation: ChatSession, bank: Path | None, go_on: str = GO_ON) -> None:
        self.conversation = conversation
        self.memory: Any = conversation.memory
        self._bank = bank
        self._go_on = go_on
        # notes stay out of what is piped on
        self._notes: Console = terminal.out if terminal.out.is_terminal else terminal.err
        self._commands: dict[str, Callable[[str], None]] = {
            "/recall": self._recall,
            "/why": self._why,
            "/correct": self._correct,
            "/forget": self._forget,
            "/undo": self._undo,
            "/pin": self._pin,
            "/new": self._new,
            "/resume": self._resume,
            "/stats": self._stats,
            "/bank": self._where,
            "/help": self._help,
        }

    def run(self, conversation: str | None = None) -> None:
        """Talk until the person leaves; `conversation`: the name of one to go on with."""
        if conversation is not None:
            self._resume(conversation)
            self._notes.print()
        for line in self._lines():
            text = line.strip()
            if text in ("/quit", "/exit"):
                break
            if text:
                try:
                    self._command(text) if text.startswith("/") else self._say(text)
                except MembankError as exc:
                    terminal.fail(str(exc))
                if terminal.out.is_terminal:
                    terminal.out.print()
        if self.memory is not None:
            if not self.memory.flush():
                turns = terminal.counted(self.memory.unsaved, "turn")
                terminal.fail(f"{turns} could not be remembered: {self.memory.failure}")
            count = self.memory.bank.count(self.memory.options.namespace)
            self._dim(f"{terminal.counted(count, 'memory')} kept")
            if self.conversation.is_kept:
                # to be copied: a terminal may break the line, this does not
                self._notes.print(Text(f"go on with this chat: {self._again()}", "dim"), soft_wrap=True)

    def _again(self) -> str:
        """The command that goes on with this chat; by its name where another one was used since."""
        newest = self.memory.bank.chats.newest(self.memory.options.namespace)
        own = self.memory.conversation
        return f"{self._go_on} " + ("--resume" if newest and newest[0].name == own else f"--conversation {own}")

    def _show_last(self) -> None:
        """The last turns of the chat that is gone on with, dim."""
        said = self.conversation.said
        for message in said[-2 * TURNS_SHOWN :]:
            line = terminal.plain(message["content"], "dim", terminal.LONGEST)
            self._notes.print(Text(PROMPT if message["role"] == "user" else "  ", "dim") + line)
        if len(said) < len(self.conversation.messages):
            self._notes.print(Text("system: ", "dim") + terminal.plain(self.conversation.messages[0]["content"], "dim"))
        self._dim(f"going on with {terminal.counted(len(said) // 2, 'turn')} of {self.memory.conversation}")

    # -- input

    def _lines(self) -> Iterator[str]:
        if not sys.stdin.isatty():
            for line in sys.stdin.buffer:
                yield line.decode("utf-8", "replace")
            return
        history = InMemoryHistory() if self._bank is None else FileHistory(str(history_file(self._bank)))
        session: PromptSession[str] = PromptSession(
            FormattedText([("class:prompt", PROMPT)]),
            history=history,
            completer=_Slash(),
            complete_while_typing=True,
            reserve_space_for_menu=len(HELP),
            enable_suspend=True,
            style=Style.from_dict({"prompt": "ansicyan bold"}),
        )
        while True:
            try:
                yield session.prompt()
            except KeyboardInterrupt:
                self._dim("Ctrl-D leaves")
            except EOFError:
                return

    # -- a turn

    def _say(self, text: str) -> None:
        writer, thinking = terminal.StreamWriter(terminal.out), terminal.StreamWriter(terminal.out, "dim")
        status = StatusLine("recalling …" if self.memory is not None else "reading …")
        self.conversation.llm.on_read = lambda tokens: status.say(f"reading {terminal.counted(tokens, 'token')} …")

        def think(piece: str) -> None:
            # what is piped on is the reply alone
            status.clear()
            if terminal.out.is_terminal:
                thinking.write(piece if thinking.text else piece.lstrip())

        def speak(piece: str) -> None:
            status.clear()
            if thinking.text and not writer.text:
                thinking.close()
            writer.write(piece)

        try:
            with status, _interrupts(begun=lambda: bool(writer.text or thinking.text)) as interrupted:
                reply = self.conversation.ask(text, speak, interrupted, think)
        except KeyboardInterrupt:
            self._dim("stopped before the reply")
            return
        finally:
            if writer.text or thinking.text:
                (writer if writer.text else thinking).close()
        self._after(reply)

    def _after(self, reply: SessionReply) -> None:
        parts = []
        if reply.ended == "stopped":
            parts.append("stopped")
        elif reply.ended == "length":
            parts.append(f"cut at {self.conversation.max_tokens:,} tokens")
        elif not reply.text.strip():
            parts.append("no reply")
        parts += self._about_memory(reply)
        if self.memory is not None and self.memory.unsaved:
            parts.append(f"{terminal.counted(self.memory.unsaved, 'turn')} not remembered yet: {self.memory.failure}")
        if self.memory is not None and self.conversation.unkept:
            parts.append(f"this chat is not kept: {self.conversation.unkept}")
        if reply.parted:
            parts.append(f"another chat goes on with this conversation; this one is {self.memory.conversation} now")
        if reply.dropped_turns:
            turns = terminal.counted(reply.dropped_turns, "turn")
            parts.append(f"the oldest {turns} left the context{'' if self.memory is None else ', not the memory'}")
        if parts:
            self._dim(" · ".join(parts))

    def _about_memory(self, reply: SessionReply) -> list[str]:
        last = reply.recalled
        if last is None:
            return []
        if self._bank is not None and last.error is None:
            rows = recall_rows(last.results, last.injected, last.skipped)
            save_recall(
                self._bank, last.query, rows, tokens=last.tokens, recall_ms=last.recall_ms, program="membank chat"
            )
        if last.error:
            return ["no memory this time"]
        if not last.injected:
            return [f"no memory recalled · {last.recall_ms:.1f} ms"]
        memories = terminal.counted(len(last.injected), "memory")
        return [f"{memories} recalled · {terminal.counted(last.tokens, 'token')} · {last.recall_ms:.1f} ms"]

    def _dim(self, text: str) -> None:
        self._notes.print(Text(text, style="dim"))

    # -- slash commands

    def _command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        if name not in self._commands:
            near = get_close_matches(name, [*HELP], 1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise InvalidInputError(f"there is no {name}; {meant}/help lists what there is")
        if self.memory is None and name not in ("/help", "/new"):
            raise InvalidInputError("this chat has no memory; start it without --no-memory")
        if self.memory is not None:
            self.memory.flush()
        self._commands[name](argument.strip())

    def _recall(self, query: str) -> None:
        if not query:
            raise InvalidInputError("say what to look for: /recall QUERY")
        results = self.memory.bank.recall(query, RECALLED, namespace=self.memory.options.namespace)
        self._notes.print(terminal.recall_table(results) if results else Text("nothing found", style="dim"))

    def _why(self, what: str) -> None:
        if what not in ("", "all"):
            raise InvalidInputError("say /why, or /why all for every score")
        last = self.memory.last
        if last is None:
            self._dim("nothing was asked yet")
            return
        self._notes.print(Text(terminal.visible(last.query), style="bold"))
        if last.error:
            self._dim(f"no memory: {last.error}")
        elif not last.results:
            self._dim("nothing came back")
        else:
            texts = {result.memory_id: result.passage_text for result in last.results}
            rows, width = recall_rows(last.results, last.injected, last.skipped), self._notes.width
            if what:
                self._notes.print(why_view.whole_why(rows, texts.__getitem__, width))
                self._dim(why_view.LEGEND)
            else:
                self._notes.print(why_view.short_why(rows, texts.__getitem__, last.block, last.tokens, width))
            more = "" if what else " · /why all shows every score"
            self._dim(f"{terminal.counted(last.tokens, 'token')} injected · {last.recall_ms:.1f} ms{more}")

    def _correct(self, what: str) -> None:
        number, _, text = what.strip().partition(" ")
        memory_id = _id(number, "/correct ID TEXT")
        if not text.strip():
            raise InvalidInputError("say what it should say: /correct ID TEXT")
        self.memory.flush()
        old = self.memory.bank.get(memory_id).text
        stored = self.memory.bank.correct(memory_id, text.strip())
        self.conversation.unsay(old)
        self._dim(f"memory {memory_id} is now {stored.memory_id}")

    def _forget(self, what: str) -> None:
        ids = self.conversation.last_ids() if what == "last" else [_id(what, "/forget ID, or /forget last")]
        if not ids:
            self._dim("the last turn added nothing")
            return
        texts = [self.memory.bank.get(memory_id).text for memory_id in ids]
        for reply in self.memory.bank.repeats(ids):
            said = terminal.visible(" ".join(reply.text.split()))
            self._dim(f"with it goes what repeats it: {said[: terminal.LONGEST]}")
            ids.append(reply.id)
            texts.append(reply.text)
        self.memory.bank.hide(ids, GRACE_SECONDS)
        self.conversation.unsay(*texts)
        self.memory.last = None
        forgotten = terminal.counted(len(ids), "memory")
        self._dim(f"{forgotten} forgotten; /undo brings back what it said, for {GRACE_SECONDS:.0f} s")

    def _undo(self, _: str) -> None:
        undone = self.memory.bank.undo(namespace=self.memory.options.namespace)
        numbers = ", ".join(map(str, undone.ids))
        self._dim(f"{terminal.undone(undone.kind)} · {numbers}" if numbers else terminal.undone(undone.kind))

    def _pin(self, what: str) -> None:
        memory_id = _id(what, "/pin ID")
        self.memory.bank.pin(memory_id)
        self._dim(f"memory {memory_id} pinned")

    def _new(self, _: str) -> None:
        self.conversation.start_anew()
        self._dim("another conversation")

    def _resume(self, name: str) -> None:
        chats, namespace = self.memory.bank.chats, self.memory.options.namespace
        if name:
            self.conversation.go_on(chats.find(namespace, name))
            self.memory.last = None
            self._show_last()
            return
        found = chats.newest(namespace)[:CHATS_LISTED]
        if found:
            self._notes.print(terminal.chats_table(found, self.memory.conversation, self._notes.width))
        else:
            self._dim("no chat is kept yet")

    def _stats(self, _: str) -> None:
        self._notes.print(terminal.facts_table(terminal.stats_facts(self.memory.bank.stats())))

    def _where(self, _: str) -> None:
        bank = self.memory.bank
        facts = [
            ("bank", str(bank.path)),
            ("namespace", terminal.visible(self.memory.options.namespace)),
            ("conversation", self.memory.conversation),
            ("encoded by", terminal.visible(bank.model.name)),
            *([("held by", terminal.visible(bank.holder))] if isinstance(bank, SharedBank) else []),
        ]
        self._notes.print(terminal.facts_table(facts))

    def _help(self, _: str) -> None:
        facts = [(f"{name} {argument}".strip(), meaning) for name, (argument, meaning) in HELP.items()]
        self._notes.print(terminal.facts_table(facts))


def _id(text: str, usage: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise InvalidInputError(f"{text!r} is no id: {usage}; /recall shows ids") from exc


@contextmanager
def _interrupts(begun: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Ctrl-C sets a flag that is looked at between tokens. Before the first token, and twice, it interrupts."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        if asked.is_set() or not begun():
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
