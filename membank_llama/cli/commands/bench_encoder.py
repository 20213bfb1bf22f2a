"""`membank bench encoder`: what the states of a model are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .encoders import called
from .options import JsonOption, ThreadsOption

if TYPE_CHECKING:
    from rich.table import Table

    from ..bench.encoder import Figures, Report


_COLUMNS = ("R@5", "R@10", "R@10 centred", "R@10 apart")


def encoder(
    model: Annotated[str, typer.Argument(help="A GGUF path, hf:owner/repo/file.gguf or a model of Ollama's store.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Questions with known evidence, a JSON file in the shape of LoCoMo.", show_default=False),
    ] = None,
    conversations: Annotated[int, typer.Option(help="Of the data, so many conversations.", min=1)] = 2,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try the layers, poolings and templates of a model: what finds best, and how fast.

    [dim]membank bench encoder model.gguf[/dim]

    [dim]membank bench encoder model.gguf --data locomo10.json --conversations 2[/dim]
    """
    from membank_llama.gguf.references import resolve_model

    from .. import terminal
    from ..bench.encoder import compare_states
    from ..bench.locomo import read_conversations

    path = resolve_model(model)
    talks = [] if data is None else read_conversations(data.expanduser(), conversations)
    with terminal.progress_bar() as progress:
        report = compare_states(path, talks, threads=threads, progress=progress, name=called(path, model))
    if as_json:
        terminal.echo_json(_fields(report), 2)
        return
    terminal.out.print(_table(report))
    for line in _notes(report):
        terminal.note(line)


def _fields(report: Report) -> dict[str, Any]:
    return {
        "model": report.model,
        "layers": report.depth,
        "questions": report.questions,
        "agreement": report.agreement,
        "choice": vars(report.choice),
        "default": vars(report.default),
        "shown": [figures.as_dict() for figures in report.shown],
        "tried": [figures.as_dict() for figures in report.tried],
    }


def _table(report: Report) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    names = [name for name in _COLUMNS if name in report.shown[0].found]
    table.add_column("")
    for name in ("layer", "pooling", "template"):
        table.add_column(name, no_wrap=True)
    for name in ("score", "MRR", *names, "texts/s"):
        table.add_column(name, justify="right")
    for figures in report.shown:
        chosen = figures.state == report.choice
        mark = Text("●", style="green") if chosen else Text("○" if figures.state == report.default else "", style="dim")
        table.add_row(mark, *_cells(figures, names), style="bold" if chosen else "")
    return table


def _cells(figures: Figures, names: list[str]) -> list[str]:
    state = figures.state
    speed = "–" if figures.texts_per_second is None else f"{figures.texts_per_second:,.0f}"
    return [
        "own" if state.layer is None else str(state.layer),
        state.pooling,
        state.template or "–",
        f"{figures.quality.score:.2f}",
        f"{figures.quality.mrr:.3f}",
        *(f"{figures.found[name]:.3f}" for name in names),
        speed,
    ]


def _notes(report: Report) -> list[str]:
    from .. import terminal

    notes = ["score, MRR: how clearly, and how far up, a sentence is found from its other views (no labels)"]
    if report.questions:
        alike = "" if report.agreement is None else f"; Spearman with score {report.agreement:+.2f}"
        notes.append(f"R@k: share of the evidence among the first k turns, {report.questions:,} questions{alike}")
        notes.append(
            "centred: less the mean of the turns; apart: a question less the mean of 40 other questions instead"
        )
    if report.choice.layer is None:
        notes.append(f"{terminal.visible(report.model)} pools its states itself: there is nothing to choose")
    elif report.choice == report.default:
        notes.append("● half depth, the default, is what --layer best takes as well: no layer is clearly better")
    else:
        notes.append("● what --layer best takes · ○ half depth, the default")
    return notes
