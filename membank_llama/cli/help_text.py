"""What `--help` shows: all of a text as it was written, and nothing longer than it has to be.

typer reads help as markup, which eats what stands in square brackets, and lays options out in five columns, which cuts
addresses and paths. Here an option has two columns, a text is only ever broken between words, and the one mark that is
understood is [dim]. The commands of a group stand side by side where their short texts allow, so that all of them fit
on a screen.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

screen = Console(highlight=False)

NARROWEST = 78
"""Columns of a terminal from which on commands stand side by side."""
SHORT = 27
"""Characters of a command's short text, so that two of them have room on a line."""

_ACCENT = "cyan"
_DIM = re.compile(r"\[dim\](.*?)\[/dim\]", re.DOTALL)
_DEFAULT = re.compile(r"(\[(?:.*; )?default: )\((.*)\)(\]|; )")
_KIND = re.compile(
    r" <?(?:(list\[)?(str|text)\]?|(int|integer|float)(?: range)?|(path|directory|file))>?", re.IGNORECASE
)
_OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


class HelpfulCommand(TyperCommand):
    """A command whose help is shown as above."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        screen.print(Group(*_page(self, ctx)))


class HelpfulGroup(TyperGroup):
    """The same of a command that has others below it."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        parts = [*_head(self, ctx), *_commands(self, ctx, screen.width)]
        rows = [_row(param, ctx) for param in self.get_params(ctx) if not getattr(param, "hidden", False)]
        parts.append(Text.assemble(("Options: ", "bold"), _coloured(", ".join(name for name, _ in rows))))
        if self.epilog:
            parts.append(dimmed(self.epilog))
        screen.print(Group(*parts))


class Commands(typer.Typer):
    """A `typer.Typer` whose commands have such help."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=HelpfulGroup, **options)

    def command(self, name: str | None = None, *, cls: Any = None, **options: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=cls or HelpfulCommand, **options)


def dimmed(text: str) -> Text:
    """The text with what stands between [dim] and [/dim] dim, and every other bracket as it is."""
    shown, at = Text(overflow="fold"), 0
    for part in _DIM.finditer(text):
        shown.append(text[at : part.start()]).append(part[1], "dim")
        at = part.end()
    return shown.append(text[at:])


def _coloured(text: str) -> Text:
    shown = Text(text, overflow="fold")
    shown.highlight_regex(_OPTION, _ACCENT)
    return shown


def _page(command: Any, ctx: Any) -> Iterator[RenderableType]:
    yield from _head(command, ctx)
    panels: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        if not getattr(param, "hidden", False):
            usual = "Options" if param.param_type_name == "option" else "Arguments"
            panels.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(_row(param, ctx))
    for title, rows in panels.items():
        yield Text(f"\n{title}", "bold")
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, overflow="fold")
        for name, text in rows:
            table.add_row(_coloured(name), Text(text))
        yield Padding(table, (0, 0, 0, 2))
    if command.epilog:
        yield dimmed(f"\n{command.epilog}")


def _head(command: Any, ctx: Any) -> list[RenderableType]:
    head: list[RenderableType] = [Text.assemble((command.get_usage(ctx), "bold"))]
    if command.help:
        paragraphs = inspect.cleandoc(command.help).split("\n\n")
        head.append(dimmed("\n\n".join(" ".join(paragraph.split("\n")) for paragraph in paragraphs)))
    return head


def _row(param: Any, ctx: Any) -> tuple[str, str]:
    """How an option or argument is written, and what is said of it."""
    name, text = param.get_help_record(ctx) or ("", "")
    text = _DEFAULT.sub(r"\1\2\3", text)
    takes = _taken if param.param_type_name == "option" else ""
    return _KIND.sub(takes, name).strip().removeprefix("/ ").strip(), " ".join(text.split())


def _taken(kind: re.Match[str]) -> str:
    return " N" if kind[3] else " PATH" if kind[4] else " TEXT"


def _commands(group: Any, ctx: Any, width: int) -> Iterator[RenderableType]:
    panels: dict[str, list[Any]] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is not None and not command.hidden:
            panels.setdefault(getattr(command, "rich_help_panel", None) or "Commands", []).append(command)
    longest = max(len(command.name) for commands in panels.values() for command in commands)
    for title, commands in panels.items():
        yield Text(title, "bold")
        yield Padding(_listed(commands, longest, width), (0, 0, 0, 2))


def _listed(commands: Sequence[Any], longest: int, width: int) -> Table:
    """Names and short texts, down the left column and on in the right one."""
    texts = [command.short_help or inspect.cleandoc(command.help or "").partition("\n\n")[0] for command in commands]
    beside = width >= NARROWEST and len(commands) > 2 and max(map(len, texts)) <= SHORT
    cells = [(Text(command.name, _ACCENT), Text(text)) for command, text in zip(commands, texts, strict=True)]
    table = Table.grid(padding=(0, 1, 0, 0))
    rows = (len(cells) + 1) // 2 if beside else len(cells)
    for _ in range(2 if beside else 1):
        table.add_column(no_wrap=True, min_width=longest)
        table.add_column(overflow="fold", min_width=SHORT if beside else None)
    for n in range(rows):
        table.add_row(*(cell for pair in cells[n::rows] for cell in pair))
    return table
