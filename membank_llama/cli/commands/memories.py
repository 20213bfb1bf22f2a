"""Commands that put memories in and find them: ingest, recall."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from membank_llama.core.errors import InvalidInputError

from .bank_opening import finish, must_exist, open_bank, open_telling
from .encoders import capture_wanted, encoder_for
from .importing import show_report
from .ingest_sources import read_sources, show_passed_over, store_sources
from .options import (
    BankOption,
    EncoderOption,
    GpuOption,
    JsonOption,
    LayerOption,
    NamespaceOption,
    PoolingOption,
    TemplateOption,
    ThreadsOption,
    bank_path,
    namespace_of,
    parse_time,
)

if TYPE_CHECKING:
    from membank_llama.recall.query import RecallResult


def ingest(
    ctx: typer.Context,
    paths: Annotated[
        list[str], typer.Argument(help="Files, directories, .jsonl files, or - for standard input.", metavar="PATH…")
    ],
    encoder: EncoderOption = None,
    role: Annotated[str, typer.Option(help="Who says it, as the prompt will tell the model.")] = "note",
    source: Annotated[str | None, typer.Option(help="Where it is from.", show_default="the file's name")] = None,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    layer: LayerOption = None,
    pooling: PoolingOption = None,
    template: TemplateOption = None,
    threads: ThreadsOption = None,
    gpu_layers: GpuOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Remember texts: long ones are cut into passages, JSONL is one memory a line. Chats that another program exported
    are taken in as membank import does.

    [dim]membank ingest notes.md --model all-MiniLM-L6-v2-q8_0.gguf[/dim]

    [dim]git log --format=%s | membank ingest - --source git[/dim]
    """
    from .. import terminal

    where, named = bank_path(ctx, bank, new=encoder is not None), namespace_of(ctx, namespace)
    told = read_sources(paths, role, named, source)
    if not as_json:
        show_passed_over(told.passed_over)
    if not (told.items or told.findings):
        raise InvalidInputError(f"there is nothing to remember in {', '.join(paths)}")
    wanted = capture_wanted(layer, pooling, template)
    start = time.perf_counter()
    with (
        open_telling(where, encoder, threads=threads, gpu_layers=gpu_layers, wanted=wanted) as opened,
        terminal.progress_bar() as progress,
    ):
        new, known, left_out = store_sources(opened, told, named, source, progress)
        finish(opened, new, progress)
    spent = time.perf_counter() - start
    if as_json:
        counts = {"new": new, "known": known, "seconds": round(spent, 3), "bank": str(where)}
        terminal.echo_json({**counts, "passed_over": told.passed_over, **left_out.fields()})
        return
    show_report(left_out)
    known_already = f", {known:,} known already" if known else ""
    terminal.done(f"{terminal.counted(new, 'memory')} new{known_already}", f" in {spent:.1f} s")


def recall(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", help="How many memories.")] = 5,
    since: Annotated[str | None, typer.Option(help="Not older than: 2025-01-31, or 7d.")] = None,
    until: Annotated[str | None, typer.Option(help="Older than: 2025-01-31, or 12h.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Of one conversation.", show_default=False)] = None,
    topic: Annotated[
        str | None,
        typer.Option(help="Of this topic alone: a name, a word of it or an id of membank topics.", show_default=False),
    ] = None,
    level: Annotated[
        list[int] | None, typer.Option(help="Level that takes part, 0 (full) to 2 (coarse); may be repeated.")
    ] = None,
    encoder: EncoderOption = None,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find memories. Works while a chat has the bank open.

    [dim]membank recall "where did I park?"[/dim]

    [dim]membank recall invoices --since 30d --json | jq -r '.[].text'[/dim]
    """
    from membank_llama.recall.result_json import result_json

    from .. import terminal
    from ..last_recall import recall_rows, save_recall

    where = bank_path(ctx, bank)
    now = time.time()
    options: dict[str, Any] = {
        "namespace": namespace_of(ctx, namespace),
        "since": parse_time(since, now, name="--since"),
        "until": parse_time(until, now, name="--until"),
        "levels": tuple(sorted(set(level))) if level else None,
        "topic": topic,
    }
    results, spent, encoded = searched(where, query, top_k, encoder, threads, options, conversation)
    save_recall(where, query, recall_rows(results), tokens=None, recall_ms=spent, program="membank recall")
    if as_json:
        terminal.echo_json([result_json(result) for result in results], 2)
        return
    if results:
        terminal.out.print(terminal.recall_table(results))
    relevant = sum(result.relevant for result in results)
    found = f"{terminal.counted(len(results), 'memory')}, {relevant} relevant" if results else "nothing found"
    terminal.note(f"{found} · {spent:.1f} ms{f' · {encoded}' if encoded else ''}")


def searched(
    where: Path,
    query: str,
    top_k: int,
    encoder: str | None,
    threads: int | None,
    options: dict[str, Any],
    conversation: str | None = None,
) -> tuple[list[RecallResult], float, str]:
    """Results, milliseconds, and the name of the model that encoded the question. `options` of `MemBank.recall`."""
    from contextlib import ExitStack

    from ..terminal import note

    must_exist(where)
    with ExitStack() as stack:
        adapter = encoder_for(where, encoder, threads=threads)
        if adapter is None:
            note(
                "the model that made this bank is not at hand: searching by words alone (--model FILE or ADDRESS helps)"
            )
        else:
            stack.enter_context(adapter)
        opened = stack.enter_context(open_bank(where, adapter, read_only=True))
        start = time.perf_counter()
        if conversation is not None:
            only = opened.select(namespace=options["namespace"], conversation=conversation)
            options = {**options, "only": only}
        results = opened.recall(query, top_k, **options)
        return results, 1000 * (time.perf_counter() - start), adapter.name if adapter else ""
