"""`membank tune`: weights for one's own questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from membank_llama.core.errors import InvalidInputError

from .bank_opening import bring_up_to_date, must_exist, open_bank
from .encoders import needed_encoder
from .options import BankOption, EncoderOption, JsonOption, ThreadsOption, bank_path


def tune(
    ctx: typer.Context,
    labels: Annotated[
        Path | None,
        typer.Argument(help='JSON Lines: {"question": "…", "memories": [ids or texts]} a line.', show_default=False),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the default weights.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the weights, keep those there are.")] = False,
    encoder: EncoderOption = None,
    bank: BankOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit what each signal of recall counts for to questions whose answers you know, and keep it with the bank.

    [dim]membank tune questions.jsonl[/dim]

    [dim]membank tune --reset[/dim]
    """
    from membank_llama.memory.tuning import fit, measure, quality, read_labels
    from membank_llama.recall.signals import default_weights

    from .. import terminal

    where = bank_path(ctx, bank)
    must_exist(where)
    bring_up_to_date(where)
    if (labels is None) != reset:
        raise InvalidInputError("name a file of labelled questions, or --reset and no file")
    if labels is None:
        with open_bank(where) as opened:
            opened.tune(None)
        terminal.done("default weights", "")
        return
    with (
        needed_encoder(where, encoder, threads=threads) as adapter,
        terminal.progress_bar() as progress,
        open_bank(where, adapter, **({"read_only": True} if dry_run else {})) as opened,
    ):
        cases = measure(opened, read_labels(labels.expanduser(), opened), progress)
        before, weights = opened.weights(), fit(cases, opened.weights(), progress)
        tokens = opened.keeps_tokens
        if not dry_run:
            opened.tune(weights)
    reached = {"before": quality(cases, before), "after": quality(cases, weights)}
    if as_json:
        terminal.echo_json({"questions": len(cases), **reached, "weights": vars(weights), "kept": not dry_run})
        return
    terminal.out.print(terminal.weights_table(vars(before), vars(weights), vars(default_weights(tokens))))
    kept = "" if dry_run else f" · kept in {where}"
    terminal.note(
        f"{terminal.counted(len(cases), 'question')}: {reached['before']:.3f} → {reached['after']:.3f}, the mean of "
        f"recall@5 and recall@10{kept}"
    )
