"""`membank doctor`: what is there, what would be used, what is wrong, and the line that mends it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import typer

from .options import BankOption, JsonOption, bank_path, settings


def doctor(ctx: typer.Context, bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Say what is installed, what answers, which model would encode and how the bank is, each with what mends it.

    Exits with 1 where something is wrong. Nothing is changed, and nobody asked but the usual ports of this machine.
    """
    from .. import terminal
    from ..bank_checks import checks_of_bank
    from ..health_checks import all_checks, usual_addresses
    from ..health_table import WRONG, health_table

    where = bank_path(ctx, bank)
    checks = all_checks(where, checks_of_bank(where, _why(ctx, bank, where)), usual_addresses())
    wrong = [check for check in checks if check.state == WRONG]
    if as_json:
        terminal.echo_json({"ok": not wrong, "checks": [asdict(check) for check in checks]}, 2)
    else:
        terminal.out.print(health_table(checks))
        for check in wrong:
            terminal.wrong(f"{check.name}: {check.value}")
            if check.mend:
                terminal.mend(check.mend)
        if not wrong:
            terminal.done("all is well")
    if wrong:
        raise typer.Exit(1)


def _why(ctx: typer.Context, own: Path | None, where: Path) -> str:
    """Why a bank is the one that is looked at."""
    from membank_llama.core.paths import default_bank

    chosen = os.environ.get("MEMBANK_BANK")
    if own or (settings(ctx).bank and str(settings(ctx).bank) != chosen):
        return "named by --bank"
    if chosen:
        return "named by $MEMBANK_BANK"
    return "the default one" if where == default_bank().expanduser() else "used last; there is no default one yet"
