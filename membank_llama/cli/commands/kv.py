"""Commands about the KV state of conversations: ls, gc, verify."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from membank_llama.core.errors import BankCorruptError

from .bank_opening import must_exist
from .maintenance import report_check
from .options import BankOption, JsonOption, KVOption, bank_path

if TYPE_CHECKING:
    from rich.console import RenderableType

    from membank_llama.kv.piece_store import PieceStore

SHOWN, MODEL_SHOWN = 48, 24
"""Characters shown of what a piece ends with, and of a model's name."""

HEADINGS = ("used", "namespace", "model", "tokens", "size")


@dataclass(frozen=True)
class PieceRow:
    """One piece, as it is listed."""

    namespace: str
    model: str
    begin: int
    end: int
    nbytes: int
    used_at: float
    text: str


def ls(ctx: typer.Context, bank: BankOption = None, as_json: JsonOption = False) -> None:
    """List what is kept: whose, of which model, how much, how it ends."""
    from .. import terminal

    rows = sorted(_rows(_store(bank_path(ctx, bank))), key=lambda row: -row.used_at)
    if as_json:
        terminal.echo_json([vars(row) for row in rows], 2)
        return
    if rows:
        terminal.out.print(pieces_table(rows, terminal.out.width))
    total = terminal.size(sum(row.nbytes for row in rows))
    terminal.done(f"{terminal.counted(len(rows), 'piece')}, {total}")


def pieces_table(rows: Sequence[PieceRow], width: int) -> RenderableType:
    """The pieces, a line each; on a narrow terminal two."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from .. import terminal

    told: list[tuple[str, Text, Text, str, str, str]] = []
    of_namespace, of_model = (MODEL_SHOWN, MODEL_SHOWN) if width >= 2 * SHOWN else (10, 18)
    for row in rows:
        used = time.strftime("%m-%d %H:%M", time.localtime(row.used_at))
        names = terminal.plain(row.namespace, limit=of_namespace), terminal.plain(row.model, limit=of_model)
        numbers = f"{row.begin:,}-{row.end:,}", terminal.size(row.nbytes)
        told.append((used, *names, *numbers, terminal.visible(row.text)))
    if width < terminal.WIDE:
        lines: list[Text] = []
        for used, namespace, model, tokens, size, ends in told:
            lines.append(Text.assemble(f"{used}  {tokens} tokens  {size}  ", namespace))
            lines.append(Text.assemble("  ", model, f": {_tail(ends, width - len(model) - 4)}", style="dim"))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False, expand=True)
    for name in HEADINGS[:3]:
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for name in HEADINGS[3:]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ends with", no_wrap=True, overflow="ellipsis", ratio=1)
    taken = sum(2 + max(len(one[n]) for one in [HEADINGS, *told]) for n in range(len(HEADINGS)))
    for one in told:
        table.add_row(*one[:-1], _tail(one[-1], width - taken))
    return table


def _tail(text: str, room: int) -> str:
    """The end of a text: it tells two conversations that begin alike apart."""
    return text if len(text) <= room else f"…{text[len(text) - max(0, room - 1) :]}"


def gc(ctx: typer.Context, kv: KVOption = None, bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Delete what is damaged or beyond the budget, what was used longest ago first; --kv off deletes all."""
    from .. import terminal

    done = _store(bank_path(ctx, bank), kv).collect()
    if as_json:
        terminal.echo_json(done)
        return
    terminal.done(f"{terminal.counted(done['damaged'], 'damaged piece')}, {terminal.size(done['freed_bytes'])} freed")


def verify(ctx: typer.Context, bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Check every byte that is kept; exit with 1 where something is wrong."""
    from membank_llama.kv.piece import is_gone

    from .. import terminal

    store, problems, checked = _store(bank_path(ctx, bank)), [], 0
    with terminal.progress_bar() as progress:
        files = store.files()
        for path in files:
            checked += 1
            try:
                store.read(path)
            except BankCorruptError as exc:
                if not is_gone(exc):
                    problems.append(str(exc))
            progress("checking", checked, len(files))
    report_check(checked, problems, "piece", as_json=as_json)


def _store(where: Path, kv: str | None = None) -> PieceStore:
    from membank_llama.kv.budget import kv_budget
    from membank_llama.kv.piece_store import PieceStore

    must_exist(where)
    return PieceStore(where, kv_budget(kv))


def _rows(store: PieceStore) -> list[PieceRow]:
    rows: list[PieceRow] = []
    for path in store.files():
        try:
            piece: Any = store.glance(path).piece
            status = path.lstat()
        except (BankCorruptError, OSError):
            continue
        text = " ".join(piece.text.decode("utf-8", "replace").split())[-SHOWN:]
        names = piece.namespace, piece.model
        rows.append(PieceRow(*names, piece.start, piece.end, status.st_size, status.st_mtime, text))
    return rows
