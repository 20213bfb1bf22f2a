"""`membank page`: a bank in the browser, with REST and MCP beside it, and no model that answers."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from membank_llama.core.errors import InvalidInputError, MembankError

from .bank_opening import encoder_name, must_exist, open_bank, prepare
from .encoders import encoder_for
from .options import BankOption, EncoderOption, NamespaceOption, ThreadsOption, bank_path, named_namespace

if TYPE_CHECKING:
    from membank_llama.adapters.base import ModelAdapter
    from membank_llama.memory.bank import MemBank

HOST = "127.0.0.1"


def page(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(help="The port; 0 for any that is free.", min=0, max=65535)] = 11436,
    browser: Annotated[
        bool, typer.Option(" /--no-browser", help="Do not open the browser.", show_default=False)
    ] = True,
    encoder: EncoderOption = None,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Look at a bank in the browser: see, search, correct, forget and bring back memories.

    The same address answers programs at /membank/ and agents at /mcp.

    [dim]membank page[/dim]

    [dim]membank page --port 0 --no-browser[/dim]
    """
    from membank_llama.server.bank_app import BankApp
    from membank_llama.server.face_context import FaceContext
    from membank_llama.server.listening import serve_until_stopped

    from .. import terminal

    where, name = bank_path(ctx, bank), _in_addresses(named_namespace(ctx, namespace))
    must_exist(where)
    with ExitStack() as stack:
        adapter = _encoder(where, encoder, threads)
        if adapter is not None:
            stack.enter_context(adapter)
        # what is answered names files without where they lie, which is told from a whole path alone
        opened = stack.enter_context(open_bank(where.absolute(), adapter))
        # the first search need not wait for the index to be read, nor the page for that
        warming = threading.Thread(target=_warm, args=(opened, name), daemon=True, name="membank-warm")
        stack.callback(warming.join)
        warming.start()

        def ready(address: str) -> None:
            shown = address + ("/" if name is None else f"/ns/{name}/")
            rows = [("page", shown), ("bank", f"{where} · {terminal.counted(opened.count(), 'memory')}")]
            terminal.err.print(terminal.facts_table([*rows, ("encoder", encoder_name(opened))]))
            if browser and terminal.err.is_terminal:
                _open_browser(shown)

        serve_until_stopped(BankApp(FaceContext(opened, partial(_facts, opened))), HOST, port, ready)


def _in_addresses(name: str | None) -> str | None:
    """The namespace as addresses name it.

    Raises:
        InvalidInputError: none can.
    """
    from membank_llama.server.asgi import WireError
    from membank_llama.server.proxy.namespace_auth import checked_name

    try:
        return None if name is None else checked_name(name)
    except WireError as exc:
        raise InvalidInputError(f"{exc}; no address can name it") from exc


def _warm(bank: MemBank, name: str | None) -> None:
    with suppress(MembankError):
        prepare(bank, name or "default")


def _encoder(where: Path, ref: str | None, threads: int | None) -> ModelAdapter | None:
    """The model of the bank; None where it cannot be had, and memories are found by their words."""
    from membank_llama.adapters.hashing import WORDS_PREFIX, WordsAdapter
    from membank_llama.store.model_record import recorded_model

    from ..terminal import note

    card = recorded_model(where)
    if ref is None and card is not None and card["id"].startswith(WORDS_PREFIX):
        return WordsAdapter(card["dim"])
    try:
        adapter = encoder_for(where, ref, threads=threads)
    except MembankError as exc:
        if ref is not None:
            raise
        note(f"note: {exc}")
        adapter = None
    if adapter is None:
        note("the model that made this bank is not at hand: memories are found by their words and nothing new can be "
             "told (--encoder FILE helps)")  # fmt: skip
    return adapter


def _facts(bank: MemBank) -> dict[str, Any]:
    return {"engine": "none", "encoder": encoder_name(bank), "encoder_id": bank.model.id}


def _open_browser(address: str) -> None:
    """In a thread, as some browsers are waited for; and none that would take the terminal over."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True, name="membank-browser").start()
