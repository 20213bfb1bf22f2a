"""What is shown is safe to show, and fits."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console
from support.banks import FACTS, open_bank

from membank_llama.cli import terminal, why_view
from membank_llama.cli.commands.kv import PieceRow, pieces_table
from membank_llama.cli.last_recall import recall_rows
from membank_llama.core.types import Memory, NewMemory
from membank_llama.memory.transcript_file import ChatTranscript

STATS = {
    "path": "b", "memories": 1, "model": {"name": "m", "dim": 8, "id": "m-1", "source": None, "token_dim": 0},
    "codec": {}, "level_bytes": {}, "level_share": {}, "bytes": {}, "kv_bytes": 0, "slots": {"free": 0},
}  # fmt: skip


def replace_id(memory_id: int, text: str) -> Memory:
    return Memory(memory_id, text, "", "a very long role " * 5, "default", None, time.time(), None)


def console(width: int = 20, *, terminal: bool = True) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=width, force_terminal=terminal, color_system=None, highlight=False), stream


def streamed(text: str, width: int = 20, *, terminal_: bool = True, step: int = 3) -> str:
    made, stream = console(width, terminal=terminal_)
    writer = terminal.StreamWriter(made)
    for at in range(0, len(text), step):
        writer.write(text[at : at + step])
    writer.close()
    assert writer.text == text
    return stream.getvalue()


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_a_stream_is_broken_between_words(step: int) -> None:
    text = "The quick brown fox jumps over the lazy dog and is gone."
    lines = streamed(text, step=step).split("\n")
    assert lines.pop() == ""
    assert max(len(line) for line in lines) < 20
    assert " ".join(lines) == text


def test_paragraphs_and_spaces_within_a_line_stay() -> None:
    assert streamed("one\n\n  two  three\n") == "one\n\n  two  three\n"


def test_a_word_wider_than_the_terminal_is_not_lost() -> None:
    assert streamed("a " + "x" * 50 + " b").replace("\n", "").replace(" ", "") == "a" + "x" * 50 + "b"


def test_piped_text_is_left_alone() -> None:
    text = "a long line that would have been broken in a terminal  "
    assert streamed(text, terminal_=False) == text + "\n"


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert terminal.visible("a\x1b[2Jb\x07\x9b\u202ec\r\nd\te") == "a�[2Jb���c\nd\te"
    assert "\x1b" not in streamed("a \x1b]0;title\x07 b")
    assert str(terminal.plain("[red]not markup[/red]\n next")) == "[red]not markup[/red] next"
    assert len(terminal.plain("word " * 100, limit=50)) <= 50


def test_numbers_are_words_for_people() -> None:
    assert [terminal.size(n) for n in (0, 999, 1500, 123_456, 2_500_000, 7e9)] == [
        "0 B", "999 B", "1.5 KB", "123 KB", "2.5 MB", "7.0 GB",
    ]  # fmt: skip
    assert terminal.counted(1, "memory") == "1 memory"
    assert terminal.counted(2000, "memory") == "2,000 memories"
    assert terminal.counted(0, "token") == "0 tokens"
    assert terminal.when(1e30) == "1e+30"
    assert terminal.day(time.time()).count(":") == 1
    assert terminal.day(0)[:3] in ("197", "196")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_chat_to_go_on_with_is_named_whole(width: int) -> None:
    made, stream = console(width)
    said = ({"role": "user", "content": "My sister Ana lives in Porto and my brother does not."},)
    chat = ChatTranscript("chat-20261127-140151-1947", "default", "m", 0.0, time.time(), said, {})
    made.print(terminal.chats_table([chat], chat.name, width))
    assert chat.name in stream.getvalue() and "My" in stream.getvalue()
    assert all(len(line) <= width for line in stream.getvalue().splitlines())


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_tables_fit_and_say_what_became_of_each_memory(width: int) -> None:
    made, stream = console(width)
    with open_bank(None) as bank:  # type: ignore[arg-type]
        bank.ingest_many([*FACTS, "[bold]Ana[/bold] \x1b[31m " + "very " * 200 + "long"])
        results = bank.recall("Where does Ana live in Porto?", 5)
        facts = terminal.stats_facts(bank.stats())
    rows = recall_rows(results, [results[0].memory_id], {results[1].memory_id: "over the token budget"})
    texts = {result.memory_id: result.text for result in results}
    made.print(terminal.recall_table(results, width))
    made.print(why_view.whole_why(rows, texts.__getitem__, width))
    made.print(terminal.facts_table(facts))
    shown = stream.getvalue()
    assert "\x1b" not in shown
    assert all(len(line) <= width for line in shown.splitlines())
    assert shown.count("●") == sum(result.relevant for result in results)
    assert "injected" in shown
    assert "over the" in shown
    assert "[bold]Ana" in shown


@pytest.mark.parametrize("width", [60, 80, 120])
def test_long_names_and_ids_leave_room_for_the_text(width: int) -> None:
    made, stream = console(width)
    with open_bank(None) as bank:  # type: ignore[arg-type]
        bank.ingest_many([NewMemory("Ana lives in Porto now.", role="a very long role " * 5)])
        results = [replace(row, memory_id=123_456_789) for row in bank.recall("Where does Ana live in Porto?", 5)]
    made.print(terminal.recall_table(results, width))
    made.print(terminal.memories_table([replace_id(row.memory_id, row.text) for row in results]))
    lines = stream.getvalue().splitlines()
    assert "123456789" in lines[1]
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= (6 if width >= 80 else 9), lines
    assert " ".join(" ".join(lines).split()).count("Ana") == 2
    names = terminal.stats_facts({**STATS, "namespaces": {f"project {n}": n for n in range(300)}})
    assert "project 7 (7) and 292 more" in dict(names)["namespaces"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_pieces_of_kv_state_fit(width: int) -> None:
    made, stream = console(width)
    row = PieceRow(
        "a-namespace-of-a-long-name-indeed", "Llama-3.2-3B-Instruct-Q4_K_M", 1000, 12000, 5 << 20, 1e9, "so it ends"
    )
    made.print(pieces_table([row], width))
    shown = stream.getvalue()
    assert all(len(line) <= width for line in shown.splitlines())
    assert "1,000-12,000" in shown and "5.2 MB" in shown and "so it ends" in shown
    assert "a-namesp" in shown
    assert len(shown.splitlines()) == 2


def test_a_bar_shows_while_there_is_work_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stream = console(80)
    monkeypatch.setattr(terminal, "err", made)
    with terminal.progress_bar() as progress:
        assert stream.getvalue() == ""
        for n in range(3):
            progress("indexing", n, 2)
        shown = stream.getvalue()
        assert "indexing" in shown and shown.count("\x1b[?25h") == 1
        made.print("a question")
        progress("packing", 0, 1)
        progress("packing", 1, 1)
    after = stream.getvalue().partition("a question")[2]
    assert "packing" in after and "indexing" not in after and after.count("\x1b[?25h") == 1
