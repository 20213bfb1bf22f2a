"""What the terminal shows: one calm style for the chat, the commands and the demo.

Results go to standard output, everything about them (progress, notes, errors) to standard error, so that output
can be piped. Text that came from a memory or a model is never read as markup, and its control characters, which
could redraw the terminal, are shown and not obeyed.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from membank_llama.core.byte_sizes import size as size
from membank_llama.core.logs import plain_json
from membank_llama.core.types import Memory
from membank_llama.core.types import Progress as ProgressCallback
from membank_llama.memory.transcript_file import ChatTranscript
from membank_llama.recall.query import RecallResult
from membank_llama.recall.topic_finder import Topic

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

ACCENT = "cyan"
LONGEST = 200
WIDE = 80
"""Columns of a terminal from which on a table shows all it has."""
NAMED = 8
"""Namespaces named; of the others it is said how many there are."""
WHO = 16
"""Characters shown of who said something."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """The text with control characters and direction overrides replaced, safe to print."""
    return _CONTROL.sub("�", text.replace("\r\n", "\n"))


def plain(text: str, style: str = "", limit: int | None = None) -> Text:
    """Text of a memory or a model as rich shows it: no markup, on one line, its beginning where it is long."""
    line = " ".join(visible(text).split())
    if limit is not None and len(line) > limit:
        line = line[: limit - 2].rstrip() + " …"
    return Text(line, style=style)


def note(text: str) -> None:
    """One dim line about what was done."""
    err.print(Text(visible(text), style="dim"))


def done(text: str, aside: str = "") -> None:
    """One line about what was achieved."""
    out.print(Text.assemble(("● ", "green"), visible(text), (aside, "dim")), soft_wrap=True)


def echo_json(value: Any, indent: int | None = None) -> None:
    """Print JSON. What a terminal would obey is spelled out, and so is what the terminal's encoding lacks."""
    text = plain_json(json.dumps(value, ensure_ascii=False, indent=indent))
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        text = json.dumps(value, indent=indent)
    typer.echo(text)


def wrong(text: str) -> None:
    """One line about something that was found to be wrong."""
    out.print(Text.assemble(("✗ ", "red"), visible(text)), soft_wrap=True)


def mend(text: str) -> None:
    """The line that mends what was said to be wrong, unbroken."""
    out.print(Text.assemble(("  → ", "dim"), (visible(text), "bold")), soft_wrap=True)


def fail(text: str) -> None:
    """One clear red line."""
    err.print(Text.assemble(("error: ", "bold red"), (visible(text), "red")), soft_wrap=True)


def when(seconds: float) -> str:
    """A moment as people read it, in local time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g}"


def day(seconds: float) -> str:
    """The time of a moment today, the date of any other."""
    full = when(seconds)
    return full[11:] if full[:10] == when(time.time())[:10] else full[:10]


def counted(count: int, noun: str) -> str:
    """``1 memory``, ``2 memories``, ``1,200 tokens``."""
    if count != 1:
        noun = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count:,} {noun}"


_UNDONE = {
    "forget": "what was forgotten is there again",
    "correct": "it says again what it said before",
    "pin": "no longer pinned",
    "unpin": "pinned again",
}


def undone(kind: str) -> str:
    """What became of a change of this kind that was taken back."""
    return _UNDONE.get(kind, f"taken back: {kind}")


def can_ask() -> bool:
    """Whether somebody is there to see a question and to answer it."""
    return sys.stdin.isatty() and err.is_terminal


def confirmed(question: str) -> bool:
    """Ask a person, beside whatever is piped on; only y and yes are yes."""
    try:
        err.print(Text.assemble((question, "bold"), (" [y/N] ", "dim")), end="")
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if not answer.endswith("\n"):
        err.print()
    return answer.strip().lower() in ("y", "yes")


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """A bar for long work, gone when the work is done; nothing at all where standard error is not a terminal."""
    columns = (
        TextColumn("{task.description}", style="dim"),
        BarColumn(bar_width=28, complete_style=ACCENT, finished_style=ACCENT),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    tasks: dict[str, Any] = {}
    lock = threading.Lock()

    def report(label: str, done: int, total: int) -> None:
        with lock:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total or None)
            bar.update(tasks[label], completed=done, total=total or None)
            # only while there is work: a question may be asked between, or text be written
            if not bar.finished:
                bar.start()
                return
            bar.stop()
            while tasks:
                bar.remove_task(tasks.popitem()[1])

    try:
        yield report
    finally:
        with lock:
            bar.stop()


# -- tables


def plain_table(*columns: tuple[str, dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0), expand=False)
    for name, options in columns:
        table.add_column(name, **options)
    return table


NUMBER: dict[str, Any] = {"justify": "right", "no_wrap": True}
FIXED: dict[str, Any] = {"no_wrap": True}


def cosine(score: float | None) -> str:
    return "–" if score is None else f"{score:.3f}"


def recall_table(results: Sequence[RecallResult], width: int | None = None) -> Table:
    """What came back: a filled mark for what is relevant. Of a narrow terminal the text has most, and scores have none
    but the one that ranks."""
    wide = (width or out.width) >= WIDE
    scores = (("cosine", NUMBER), ("words", NUMBER)) if wide else ()
    table = plain_table(
        ("", FIXED), ("id", NUMBER), ("when", FIXED), ("who", FIXED), ("memory", {"ratio": 1, "overflow": "fold"}),
        *scores, ("score", NUMBER),
    )  # fmt: skip
    for result in results:
        known = not (result.score_l0 is result.score_l1 is result.score_l2 is None)
        shown = (cosine(result.final_score if known else None), f"{result.lexical_score:.1f}") if wide else ()
        table.add_row(
            Text("●", style="green") if result.relevant else Text("○", style="dim"),
            str(result.memory_id),
            day(result.created_at),
            plain(result.role, limit=WHO),
            plain(result.passage_text, limit=LONGEST),
            *shown,
            f"{result.fused_score:+.2f}",
            style="" if result.relevant else "dim",
        )
    return table


def memories_table(memories: Sequence[Memory]) -> Table:
    """Memories as they are listed, each on a line where the terminal has room for it."""
    table = plain_table(("id", NUMBER), ("when", FIXED), ("who", FIXED), ("memory", {"ratio": 1, "overflow": "fold"}))
    for memory in memories:
        text = plain(memory.text, limit=LONGEST // 2)
        table.add_row(str(memory.id), day(memory.created_at), plain(memory.role, limit=WHO), text)
    return table


def chats_table(chats: Sequence[ChatTranscript], current: str, width: int) -> Table:
    """Chats that can be gone on with, by the whole of their names; a filled mark for the one that is open."""
    facts = (("last used", FIXED), ("turns", NUMBER)) if width >= WIDE else ()
    begins = ("begins with", {"ratio": 1, "overflow": "fold"})
    table = plain_table(("", FIXED), ("chat", FIXED), *facts, begins)
    for chat in chats:
        first = next(message["content"] for message in chat.messages if message["role"] == "user")
        mark = Text("●", style="green") if chat.name == current else Text("○", style="dim")
        shown = (day(chat.used), str(chat.turns)) if facts else ()
        table.add_row(mark, chat.name, *shown, plain(first, limit=LONGEST // 4))
    return table


def topics_table(topics: Sequence[Topic], text_of: Callable[[int], str]) -> Table:
    """What memories are about, with a typical one of each."""
    table = plain_table(
        ("id", FIXED), ("topic", {"overflow": "fold"}), ("memories", NUMBER), ("newest", FIXED),
        ("an example", {"ratio": 1, "overflow": "fold"}),
    )  # fmt: skip
    for topic in topics:
        example = plain(text_of(topic.example), limit=LONGEST // 2)
        table.add_row(plain(topic.id, "dim"), plain(topic.name), f"{topic.size:,}", day(topic.newest), example)
    return table


def weights_table(before: Mapping[str, float], after: Mapping[str, float], default: Mapping[str, float]) -> Table:
    """The weight of each signal before and after tuning, what changed in bold."""
    table = plain_table(("signal", FIXED), ("default", NUMBER), ("before", NUMBER), ("tuned", NUMBER))
    for name, value in after.items():
        shown = (f"{default[name]:g}", f"{before[name]:g}", f"{value:g}")
        table.add_row(name, *shown, style="bold" if value != before[name] else "")
    return table


def facts_table(facts: Sequence[tuple[str, str]]) -> Table:
    """Names and values, two columns."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(value))
    return table


def _tokens_kept(stats: dict[str, Any]) -> str:
    dim = stats["model"]["token_dim"]
    if not dim:
        return "none are kept; membank reencode MODEL adds them, where the model gives any"
    return f"{dim} dimensions, a bit each; {size(stats['bytes']['tokens'])}"


def _namespaces(counts: Mapping[str, int]) -> str:
    named = [f"{plain(name, limit=LONGEST // 4)} ({count:,})" for name, count in counts.items()]
    more = f" and {len(named) - NAMED:,} more" if len(named) > NAMED else ""
    return f"{', '.join(named[:NAMED])}{more}" if named else "none yet"


def stats_facts(stats: dict[str, Any]) -> list[tuple[str, str]]:
    """`MemBank.stats()` in words."""
    model, codec = stats["model"], stats["codec"]
    levels = ", ".join(
        f"L{level} {size(count)} ({stats['level_share'][level]:.1%})" for level, count in stats["level_bytes"].items()
    )
    parts = ", ".join(f"{name} {size(count)}" for name, count in stats["bytes"].items())
    facts = [
        ("bank", stats["path"]),
        ("memories", f"{stats['memories']:,}"),
        ("namespaces", _namespaces(stats["namespaces"])),
        ("model", f"{visible(model['name'])}, {model['dim']} dimensions"),
        ("model id", model["id"]),
        ("model file", visible(model["source"] or "not recorded")),
        ("codec", f"{codec.get('codec', '?')}: {levels} of float32"),
        ("tokens", _tokens_kept(stats)),
        ("on disk", f"{size(sum(stats['bytes'].values()))}: {parts}"),
    ]
    if stats["kv_bytes"]:
        facts.append(("KV state", f"{size(stats['kv_bytes'])} more; membank kv ls shows it"))
    if stats["slots"]["free"]:
        facts.append(("to collect", f"{counted(stats['slots']['free'], 'slot')} free; membank gc packs the files"))
    return facts


class StreamWriter:
    """Writes a streamed reply, broken between words at the terminal's width; untouched where output is piped.

    The last word is held back until what follows it is known, so that it never jumps to the next line.
    """

    def __init__(self, console: Console = out, style: str = "") -> None:
        self._console = console
        self._style = style
        self._wrap = console.is_terminal
        self._column = 0
        self._space = ""
        self._word = ""
        self.text = ""

    def write(self, piece: str) -> None:
        """The next piece of the reply."""
        self.text += piece
        if not self._wrap:
            self._print(visible(piece))
            return
        for character in visible(piece):
            if not character.isspace():
                self._word += character
                continue
            self._flush()
            if character == "\n":
                self._newline()
            else:
                self._space += " "

    def close(self) -> None:
        """Write what is held back and end the line."""
        self._flush()
        if not self._wrap or self._column:
            self._newline()

    def _flush(self) -> None:
        word, self._word = self._word, ""
        if not word:
            return
        length = cell_len(word)
        # a terminal that is exactly full is left alone: each breaks the line at another moment
        if self._column and self._column + len(self._space) + length >= self._console.width:
            self._newline()
        self._print(self._space + word)
        self._column = (self._column + len(self._space) + length) % max(1, self._console.width)
        self._space = ""

    def _newline(self) -> None:
        self._print("\n")
        self._column, self._space = 0, ""

    def _print(self, text: str) -> None:
        self._console.print(Text(text, self._style), end="", soft_wrap=True)
        self._console.file.flush()
