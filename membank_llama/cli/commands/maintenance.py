"""Commands about the bank itself: stats, verify, gc, rebuild, reencode, export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from membank_llama.core.atomic_files import replacing
from membank_llama.core.errors import BankCorruptError, BankStorageError, InvalidInputError

from .bank_opening import must_exist, open_bank, open_for_looking
from .completion import model_names
from .encoders import capture_wanted, needed_encoder, open_encoder
from .options import (
    BankOption,
    GpuOption,
    JsonOption,
    LayerOption,
    NamespaceOption,
    PoolingOption,
    TemplateOption,
    ThreadsOption,
    bank_path,
    named_namespace,
)


def stats(ctx: typer.Context, bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Say what a bank holds, which model made it, and how big it is."""
    from .. import terminal

    with open_bank(bank_path(ctx, bank), read_only=True) as opened:
        found = opened.stats()
    if as_json:
        terminal.echo_json(found, 2)
    else:
        terminal.out.print(terminal.facts_table(terminal.stats_facts(found)))


def verify(ctx: typer.Context, bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Check every stored byte; exit with 1 where something is wrong."""
    from .. import terminal

    where = bank_path(ctx, bank)
    checked, problems = 0, []
    try:
        with open_for_looking(where) as opened, terminal.progress_bar() as progress:
            report = opened.verify(progress)
            checked, problems = report.checked, list(report.problems)
    except BankCorruptError as exc:
        problems = [str(exc)]
    report_check(checked, problems, "activation", as_json=as_json)


def report_check(checked: int, problems: Sequence[str], what: str, *, as_json: bool) -> None:
    """Tell what came of looking at all of `what`; exit with 1 where something is wrong."""
    from .. import terminal

    if as_json:
        terminal.echo_json({"ok": not problems, "checked": checked, "problems": problems}, 2)
    elif problems:
        for problem in problems:
            terminal.wrong(problem)
    else:
        terminal.done(f"all is well: {terminal.counted(checked, what)} checked")
    if problems:
        raise typer.Exit(1)


def gc(ctx: typer.Context, bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Remove what has expired and pack the files."""
    from .. import terminal

    with open_bank(bank_path(ctx, bank)) as opened:
        done = opened.gc()
    if as_json:
        terminal.echo_json(done)
        return
    terminal.done(f"{terminal.counted(done['expired'], 'memory')} expired, {terminal.size(done['freed_bytes'])} freed")


def rebuild(ctx: typer.Context, bank: BankOption = None) -> None:
    """Make the vector indexes anew, after damage to them."""
    from .. import terminal

    with open_bank(bank_path(ctx, bank)) as opened, terminal.progress_bar() as progress:
        opened.rebuild_indexes(progress)
        count = opened.stats()["memories"]
    terminal.done(f"indexes of {terminal.counted(count, 'memory')} made anew")


def reencode(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="The model to move to, or the address of a server that has it.",
            show_default="the one that made the bank",
            autocompletion=model_names,
        ),
    ] = None,
    bank: BankOption = None,
    layer: LayerOption = None,
    pooling: PoolingOption = None,
    template: TemplateOption = None,
    threads: ThreadsOption = None,
    gpu_layers: GpuOption = 0,
) -> None:
    """Compute every vector anew from the texts: with another model, from other states of it, or after damage.

    May be interrupted: until it is done the bank stays as it was, and the next call goes on where it stopped.

    [dim]membank reencode nomic-embed-text-v1.5.Q8_0.gguf[/dim]

    [dim]membank reencode model.gguf --layer best[/dim]
    """
    from .. import terminal

    where = bank_path(ctx, bank)
    must_exist(where)
    wanted = capture_wanted(layer, pooling, template)
    if model is None:
        adapter = needed_encoder(where, None, threads=threads, gpu_layers=gpu_layers, wanted=wanted)
    else:
        adapter = open_encoder(model, threads=threads, gpu_layers=gpu_layers, wanted=wanted)
    with adapter, open_bank(where, adapter, repair=True) as opened, terminal.progress_bar() as progress:
        opened.reencode(adapter, progress)
        opened.flush(progress)
        count = opened.stats()["memories"]
        name = adapter.name
    terminal.done(f"{terminal.counted(count, 'memory')} now encoded by {name}")


def export_command(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(help="The file to write, or - for standard output.", metavar="FILE|-")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
) -> None:
    """Write every memory as a line of JSON, all fields, readable by import.

    [dim]membank export memories.jsonl[/dim]
    """
    from membank_llama.memory.import_export import export_memories

    from .. import terminal

    named = named_namespace(ctx, namespace)
    with open_bank(bank_path(ctx, bank), read_only=True) as opened:
        if file == "-":
            if hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(encoding="utf-8")
            export_memories(opened, sys.stdout, namespace=named)
            return
        target = Path(file).expanduser()
        if target.exists() and not force:
            raise InvalidInputError(f"{target} exists; name another file, or replace it with --force")
        count = _export(opened, target, named)
    terminal.done(f"{terminal.counted(count, 'memory')} written to {target}")


def _export(opened: Any, target: Path, namespace: str | None) -> int:
    """Whole or not at all: written beside the target, then put in its place. Mode 0600: it holds private text."""
    from membank_llama.memory.import_export import export_memories

    from ..terminal import progress_bar

    try:
        with replacing(target, "w") as stream, progress_bar() as progress:
            return export_memories(opened, stream, namespace=namespace, progress=progress)
    except OSError as exc:
        raise BankStorageError(
            f"cannot write {target}: {exc.strerror or exc}; nothing was written, name another place"
        ) from exc
