"""`membank bench answers`: whether a chat model answers rightly from what it is reminded of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .bench_report import check_output, figures_table, write_report
from .chat_model import load_chat_model, trained_context
from .encoders import adapter_of, called, open_model
from .options import JsonOption, ThreadsOption

if TYPE_CHECKING:
    from rich.table import Table

_MEASURES = {
    "f1": "F1", "em": "EM", "right": "right", "outdated": "outdated", "asserted": "asserted",
    "adversarial": "adversarial", "evidence_in_block": "evidence",
}  # fmt: skip


def answers(
    data: Annotated[
        Path,
        typer.Option(
            help="Questions with known answers, JSON: in the shape of LoCoMo, or an everyday set.", show_default=False
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", show_default=False,
            help="The model that answers: a GGUF path, hf:owner/repo/file.gguf or an Ollama name.",
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="The model that encodes. Default: MODEL itself.", show_default=False),
    ] = None,
    questions: Annotated[
        int | None,
        typer.Option(help="So many, spread over categories and conversations.", min=1, show_default="all"),
    ] = None,
    conversations: Annotated[
        int | None, typer.Option(help="Of the data, so many conversations.", min=1, show_default="all")
    ] = None,
    renderings: Annotated[
        str, typer.Option(help="Ways to write the memories into the prompt, parted by commas, or all.")
    ] = "lines",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    output: Annotated[
        Path | None, typer.Option(help="Write the JSON here as well, with every reply.", show_default=False)
    ] = None,
) -> None:  # fmt: skip
    """Ask a chat model questions with known answers, alone and with memories: which of them does it get right?

    Replies are compared with the answers word by word; no model judges. The bank is made for this and deleted.

    [dim]membank bench answers --data locomo10.json --model model.gguf --questions 60[/dim]
    """
    from .. import terminal
    from ..bench.answers import answer_cases, answer_report, chosen_renderings
    from ..bench.everyday import read_talks

    names = chosen_renderings(renderings)
    check_output(output)
    cases = answer_cases(read_talks(data.expanduser(), conversations), questions)
    with _models(model, encoder, threads) as (llm, adapter, name), terminal.progress_bar() as progress:
        found = {"model": name} | answer_report(cases, adapter, llm, names, progress)
    found["threads"] = threads
    write_report(output, found)
    if as_json:
        terminal.echo_json(found, 2)
        return
    _show(found)


@contextmanager
def _models(model: str, encoder: str | None, threads: int | None) -> Iterator[tuple[Any, Any, str]]:
    """The chat model, the encoder and the chat model's name; the encoder may live on the chat model's weights."""
    from membank_llama.gguf.references import resolve_model

    path = resolve_model(model)
    options = {"n_ctx": trained_context(path), "n_threads": threads, "n_threads_batch": threads, "verbose": False}
    with ExitStack() as stack:
        llm = load_chat_model(path, options)
        stack.callback(llm.close)
        if encoder is None:
            adapter = adapter_of(llm, path, model, threads=threads, card=None, wanted=None)
        else:
            adapter = open_model(encoder, threads=threads)
        stack.callback(adapter.close)
        yield llm, adapter, called(path, model)


def _show(found: Mapping[str, Any]) -> None:
    from .. import terminal

    conditions = found["conditions"]
    terminal.out.print(_conditions(conditions))
    terminal.out.print()
    terminal.out.print(_categories(conditions))
    terminal.note(
        f"{found['questions']:,} questions on {found['turns']:,} turns of "
        f"{terminal.counted(found['conversations'], 'conversation')}; {found['model']} answers, memories by "
        f"{found['encoder']}; by category: F1 / right, or what is asserted"
    )


def _conditions(conditions: Mapping[str, Any]) -> Table:
    shown = [name for name in _MEASURES if any(one.get(name) is not None for one in conditions.values())]
    rows = [
        (
            name,
            *(_share(one.get(measure)) for measure in shown),
            f"{one['prompt_tokens_p50']:,.0f}",
            f"{one['seconds_p50']:.1f}",
        )
        for name, one in conditions.items()
    ]
    return figures_table(("condition", *(_MEASURES[measure] for measure in shown), "tokens", "s"), rows)


def _categories(conditions: Mapping[str, Any]) -> Table:
    first = next(iter(conditions.values()))["categories"]
    heads = [f"{name} ({one['questions']})" for name, one in first.items()]
    rows = [(name, *(_cell(part) for part in one["categories"].values())) for name, one in conditions.items()]
    return figures_table(("by category", *heads), rows)


def _cell(part: Mapping[str, float]) -> str:
    if "f1" in part:
        return f"{part['f1']:.3f} / {part['right']:.3f}"
    return _share(part.get("adversarial", part.get("asserted")))


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
