"""`membank import`: histories and memories of other programs, previewed, stored, listed, and undone as one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from membank_llama.core.errors import InvalidInputError

from .bank_choice import is_bank
from .bank_opening import finish, must_exist, open_bank, open_telling
from .options import (
    BankOption,
    EncoderOption,
    GpuOption,
    JsonOption,
    NamespaceOption,
    ThreadsOption,
    bank_path,
    named_namespace,
)

if TYPE_CHECKING:
    from membank_llama.core.types import Progress
    from membank_llama.memory.bank import MemBank
    from membank_llama.memory.imports.import_plan import Findings, ImportPlan
    from membank_llama.memory.imports.import_report import ImportReport
    from membank_llama.memory.imports.import_run import ImportOutcome

_NOTHING = "nothing was imported"


def import_command(
    ctx: typer.Context,
    place: Annotated[
        str | None,
        typer.Argument(
            help="What to import; - for standard input. With --undo the import's id.",
            metavar="FILE|DIR|-", show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be stored and what left out, and store nothing.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show the imports of this bank.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Forget what an import brought: the last one, or that of an id.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    encoder: EncoderOption = None,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    threads: ThreadsOption = None,
    gpu_layers: GpuOption = 0,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Bring a history: chats of ChatGPT, Claude, Open WebUI, LM Studio and Ollama, memories of mem0 and engram, notes
    in Markdown, and what membank export wrote.

    What a file is, is seen by its shape. What is known already is skipped, so an import that was broken off is gone on
    with by the same command.

    [dim]membank import chatgpt-export.zip --dry-run[/dim]

    [dim]membank import --undo[/dim]
    """
    where = bank_path(ctx, bank)
    if listed:
        _list(where, as_json)
    elif undo:
        _undo(where, place, yes=yes, as_json=as_json)
    elif place is None:
        raise InvalidInputError("name what to import: a file, a directory, or - for standard input")
    elif dry_run:
        _preview(where, place, named_namespace(ctx, namespace), as_json)
    else:
        named = named_namespace(ctx, namespace)
        where = bank_path(ctx, bank, new=encoder is not None)
        _import(where, place, named, encoder, threads, gpu_layers, as_json)


def _read(place: str) -> Findings:
    from membank_llama.memory.imports.export_sources import STDIN
    from membank_llama.memory.imports.import_plan import read_place

    from .. import terminal

    try:
        if place == STDIN:
            return read_place(place)
        with terminal.err.status("reading", spinner_style=terminal.ACCENT):
            return read_place(place)
    except InvalidInputError as error:
        if _NOTHING in str(error):
            raise
        raise type(error)(f"{error}; {_NOTHING}") from error


def _preview(where: Path, place: str, namespace: str | None, as_json: bool) -> None:
    from membank_llama.memory.imports.import_plan import plan_import
    from membank_llama.memory.imports.import_run import plan_for, sort_out

    from .. import terminal
    from ..import_tables import plan_table, tally_table

    findings = _read(place)
    if is_bank(where):
        with open_bank(where, read_only=True) as opened:
            plan = plan_for(opened, findings, namespace)
            new = len(sort_out(opened, plan.memories).new)
    else:
        plan = plan_import(findings, namespace=namespace)
        new = len({(one.namespace, one.text) for one in plan.memories})
    if as_json:
        terminal.echo_json({**plan.fields(), "new": new, "known": len(plan.memories) - new}, 2)
        return
    terminal.out.print(plan_table(plan))
    for heading, tallies in (("left out", plan.report.left_out), ("not quite as it says", plan.report.remarks)):
        if tallies:
            terminal.out.print()
            terminal.out.print(tally_table(heading, tallies))
    known = len(plan.memories) - new
    twice = f", {known:,} known already or said twice" if known else ""
    terminal.out.print()
    terminal.done(f"{terminal.counted(new, 'memory')} would be new{twice}", "; nothing was stored")


def _import(
    where: Path,
    place: str,
    namespace: str | None,
    encoder: str | None,
    threads: int | None,
    gpu_layers: int,
    as_json: bool,
) -> None:
    from .. import terminal

    # what cannot be read is said before a model is loaded
    findings = _read(place)
    start = time.perf_counter()
    with (
        open_telling(where, encoder, threads=threads, gpu_layers=gpu_layers) as opened,
        terminal.progress_bar() as progress,
    ):
        try:
            outcome, plan = store_findings(opened, findings, namespace, progress)
        except KeyboardInterrupt:
            terminal.note("broken off: the same command goes on with it, membank import --undo takes it away again")
            raise typer.Exit(130) from None
        finish(opened, outcome.new, progress)
    number = None if outcome.record is None else outcome.record.id
    if as_json:
        counts = {"new": outcome.new, "known": outcome.known, "import": number, "bank": str(where)}
        terminal.echo_json({**plan.fields(), **counts})
        return
    show_report(plan.report)
    known = f", {outcome.known:,} known already" if outcome.known else ""
    spent = time.perf_counter() - start
    terminal.done(f"{terminal.counted(outcome.new, 'memory')} imported{known}", f" in {spent:.1f} s")
    if number is not None:
        terminal.note(f"taken away again by: membank import --undo {number}")


def store_findings(
    bank: MemBank, findings: Findings, namespace: str | None, progress: Progress, *, source: str | None = None
) -> tuple[ImportOutcome, ImportPlan]:
    """Store what was read. `source`: of all memories, in place of the program they came from."""
    from dataclasses import replace

    from membank_llama.memory.imports.import_run import plan_for, run_import

    plan = plan_for(bank, findings, namespace)
    if source is not None:
        plan.memories = [replace(memory, source=source) for memory in plan.memories]
    return run_import(bank, plan, namespace=namespace, progress=progress), plan


def show_report(report: ImportReport) -> None:
    """What was left out, in a line each."""
    from ..import_tables import tally_notes

    tally_notes("left out", report.left_out)
    tally_notes("note:", report.remarks)


def _list(where: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from membank_llama.memory.imports.import_records import import_records

    from .. import terminal
    from ..import_tables import records_table

    with open_bank(where, read_only=True) as opened:
        records = import_records(opened)
    if as_json:
        terminal.echo_json([asdict(record) for record in records], 2)
    elif records:
        terminal.out.print(records_table(records))
    else:
        terminal.note("nothing was imported into this bank")


def _undo(where: Path, number: str | None, *, yes: bool, as_json: bool) -> None:
    from membank_llama.memory.imports.import_records import brought, import_record, undo_import

    from .. import terminal

    if number is not None and not number.isdecimal():
        raise InvalidInputError(f"--undo takes the id of an import, not {number!r}; membank import --list shows them")
    must_exist(where)
    with open_bank(where) as opened:
        record = import_record(opened, None if number is None else int(number))
        found = brought(opened, record)
        many = terminal.counted(len(found.ids), "memory")
        question = f"Forget {many} for good, which came from {terminal.visible(record.file)}?"
        if not yes and terminal.can_ask() and not terminal.confirmed(question):
            terminal.note("nothing was forgotten")
            raise typer.Exit(1)
        count = undo_import(opened, record)
    if as_json:
        terminal.echo_json({"undone": record.id, "forgotten": count, "kept": len(found.told_since)})
        return
    since = len(found.told_since)
    kept = f"; {terminal.counted(since, 'memory')} told again since kept" if since else ""
    terminal.done(f"import {record.id} undone: {terminal.counted(count, 'memory')} forgotten{kept}")
