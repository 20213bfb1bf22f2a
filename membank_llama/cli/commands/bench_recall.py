"""`membank bench recall`: whether recall finds what answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .bench_report import check_output, figures_table, write_report
from .encoders import open_model
from .options import JsonOption, ThreadsOption

if TYPE_CHECKING:
    from rich.table import Table

_TURN = ("R@5", "R@10", "hit@10", "all@10", "NDCG@10", "MRR")
_SESSION = ("R@5", "R@10", "hit@5", "hit@10", "all@5", "all@10", "NDCG@10", "MRR")


def recall(
    data: Annotated[
        Path, typer.Option(help="Questions with known evidence, JSON in the shape of LoCoMo.", show_default=False)
    ],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder", "--model", "-m", show_default=False,
            help="The model that encodes: a GGUF path, hf:owner/repo/file.gguf or an Ollama name.",
        ),
    ],
    conversations: Annotated[
        int | None, typer.Option(help="Of the data, so many conversations.", min=1, show_default="all")
    ] = None,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Also tune on all conversations but one, and judge on that one.")
    ] = False,
    steps: Annotated[bool, typer.Option(help="Show the signals switched on one after the other.")] = True,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here as well.", show_default=False)] = None,
) -> None:  # fmt: skip
    """Ask questions with known answers: does recall find them, and does the gate keep quiet elsewhere?

    Every conversation becomes a namespace of a bank of its own, made for this and deleted afterwards.

    [dim]membank bench recall --data locomo10.json --encoder all-MiniLM-L6-v2-q8_0.gguf[/dim]
    """
    from .. import terminal
    from ..bench.locomo import read_conversations
    from ..bench.recall import report

    check_output(output)
    talks = read_conversations(data.expanduser(), conversations)
    with open_model(encoder, threads=threads) as adapter, terminal.progress_bar() as progress:
        found = report(talks, adapter, progress=progress, leave_one_out=leave_one_out, step_by_step=steps)
    found["threads"] = threads
    write_report(output, found)
    if as_json:
        terminal.echo_json(found, 2)
        return
    _show(found)


def _show(found: Mapping[str, Any]) -> None:
    from .. import terminal

    out, note = terminal.out, terminal.note
    out.print(_rankings(found["rankings"], "turn", _TURN, times=True))
    out.print()
    out.print(_rankings(found["rankings"], "session", _SESSION, times=False))
    note(
        f"{found['questions']:,} questions on {found['turns']:,} turns of {found['conversations']} conversations; "
        f"{found['questions_without_evidence']:,} questions without evidence left out"
    )
    out.print()
    out.print(_categories(found["rankings"]["recall"]["categories"]))
    out.print()
    rows = [(name, f"{value:.2f}" if "average" in name else f"{value:.1%}") for name, value in found["gate"].items()]
    out.print(figures_table(("something is injected, question asked of", "of questions"), rows))
    if found["leave_one_out"]:
        loo = found["leave_one_out"]
        names = ("default weights", "tuned on all", "leaving one out", "loss")
        out.print()
        out.print(
            figures_table(("mean of R@5 and R@10, turns and sessions", ""), [(n, f"{loo[n]:.4f}") for n in names])
        )
    five, encoding = found["top_5"], found["encoding_p50_ms"]
    note(
        f"a recall of 5: p50 {five['p50_ms']:.1f} ms, p95 {five['p95_ms']:.1f} ms, beside encoding a question (p50 "
        f"{encoding:.1f} ms); times in the table are for the first 100; "
        f"{found['turns_per_second']:,.0f} turns remembered a second"
    )


def _rankings(rankings: Mapping[str, Any], unit: str, shown: Sequence[str], times: bool) -> Table:
    rows = [
        (name, *(f"{one[unit][measure]:.3f}" for measure in shown),
         *((f"{one['p50_ms']:.1f}", f"{one['p95_ms']:.1f}") if times else ()))
        for name, one in rankings.items()
    ]  # fmt: skip
    return figures_table((f"{unit}s ranked by", *shown, *(("p50 ms", "p95") if times else ())), rows, strong="recall")


def _categories(categories: Mapping[str, Any]) -> Table:
    shown = ("turn R@5", "turn R@10", "turn MRR", "session R@5", "session R@10")
    rows = [
        (name, f"{one['questions']:,.0f}", *(f"{one[measure]:.3f}" for measure in shown))
        for name, one in categories.items()
    ]
    return figures_table(("recall by category", "asked", *(name.replace("session", "sess.") for name in shown)), rows)
