"""Help shows every word that was written, at 80 columns too, and all commands fit on a screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from support.terminals import membank

from membank_llama.cli import app, help_text

SCREEN = 24


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


EVERY = dict(commands(typer.main.get_command(app.app)))


def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, *words: str) -> str:
    monkeypatch.setattr(help_text.screen, "_width", width)
    context = typer.Context(EVERY[()], info_name="membank")
    for n, word in enumerate(words, 1):
        context = typer.Context(EVERY[words[:n]], info_name=word, parent=context)
    capsys.readouterr()
    context.command.format_help(context, context.make_formatter())
    return capsys.readouterr().out


@pytest.mark.parametrize("path", [path for path, _ in EVERY.items() if path], ids="-".join)
def test_no_word_of_a_help_text_is_cut_or_lost(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = EVERY[path]
    seen = shown(monkeypatch, capsys, 80, *path)
    words = set(seen.split())
    texts = [command.help or ""]
    if not hasattr(command, "commands"):
        texts += [param.help or "" for param in command.params if not getattr(param, "hidden", False)]
        texts += [param.show_default for param in command.params if isinstance(param.show_default, str)]
    for text in texts:
        for word in re.sub(r"\[/?dim\]", "", text).split():
            assert word in words or f"{word}]" in words or f"{word};" in words, word
    assert "…:" not in seen and max(map(len, seen.splitlines())) <= 80
    if not hasattr(command, "commands"):
        for option in (name for param in command.params for name in (*param.opts, *param.secondary_opts)):
            assert option in seen or not option.startswith("-")


def test_words_in_brackets_stay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert '"memories": [ids or texts]}' in shown(monkeypatch, capsys, 80, "tune")
    text = help_text.dimmed("a [17] and [bold]so[/bold] on, [dim]membank x [1][/dim] end")
    assert text.plain == "a [17] and [bold]so[/bold] on, membank x [1] end"
    assert [str(span.style) for span in text.spans] == ["dim"]
    assert "http://127.0.0.1:11434," in shown(monkeypatch, capsys, 80, "serve")


@pytest.mark.parametrize("how", [["--help"], []])
def test_all_commands_fit_on_a_screen_in_their_groups(how: list[str]) -> None:
    seen = membank(*how, COLUMNS="80")
    lines = seen.out.splitlines()
    assert len(lines) <= SCREEN + 2, len(lines)
    assert all(len(line) <= 80 for line in lines)
    hidden = [path[0] for path, command in EVERY.items() if len(path) == 1 and command.hidden]
    assert {"demo-tell", "demo-ask"} <= set(hidden)
    for name in (path[0] for path in EVERY if len(path) == 1):
        assert (f" {name} " in seen.out) == (name not in hidden), name
    places = [lines.index(title) for title in ("Talk", "Memories", "The bank")]
    assert places == sorted(places)


def test_every_command_has_a_text_that_leaves_room_for_another_beside_it() -> None:
    for path, command in EVERY.items():
        if len(path) == 1 and not command.hidden:
            assert 0 < len(command.short_help or "") <= help_text.SHORT, path


@pytest.mark.parametrize(
    ("typed", "meant"), [(["recal", "x"], "recall"), (["kv", "verfy"], "verify"), (["stats", "--jsno"], "--json")]
)
def test_a_slip_is_answered_with_what_was_meant(
    typed: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        app.main(typed)
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "Did you mean" in said or "Possible options" in said
    assert meant in said
