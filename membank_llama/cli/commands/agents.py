"""`membank mcp`: the memories of a bank as tools, for the agent that starts this as a program of its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from membank_llama.core.errors import BankNotFoundError

from .bank_choice import is_bank
from .bank_opening import bring_up_to_date, prepare
from .encoders import encoder_for
from .options import BankOption, EncoderOption, GpuOption, NamespaceOption, ThreadsOption, bank_path, namespace_of
from .served_encoders import AtHand, better_than_words, serving_encoder

if TYPE_CHECKING:
    from membank_llama.adapters.base import ModelAdapter
    from membank_llama.memory.bank import MemBank


def mcp(
    ctx: typer.Context,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Offer only the tools that look, and change nothing.")
    ] = False,
    encoder: EncoderOption = None,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    threads: ThreadsOption = None,
    gpu_layers: GpuOption = 0,
) -> None:
    """Speak MCP over standard input and output: memory for coding agents and other clients.

    [dim]claude mcp add membank -- membank mcp[/dim]
    """
    from functools import partial

    from membank_llama.server.agents.late_bank import LateBank
    from membank_llama.server.agents.mcp_stdio import speak_over_stdio

    from ..terminal import note

    where, name = bank_path(ctx, bank, new=not read_only), namespace_of(ctx, namespace)
    if sys.stdin.isatty():
        note("this speaks to an agent and not to a person; the agent starts it: claude mcp add membank -- membank mcp")
    at_hand = AtHand("", None, threads, gpu_layers)
    late = LateBank(partial(_opened, where, encoder, at_hand, name, read_only))
    speak_over_stdio(late, name, writable=not read_only)


@contextmanager
def _opened(where: Path, encoder: str | None, at_hand: AtHand, namespace: str, read_only: bool) -> Iterator[MemBank]:
    """The bank with its encoder, ready to be asked."""
    from membank_llama.adapters.deferred import DeferredAdapter
    from membank_llama.memory.bank import MemBank
    from membank_llama.memory.sharing.shared_bank import open_shared

    if read_only and not is_bank(where):
        raise BankNotFoundError(f"there is no bank at {where} yet; without --read-only one is made")
    with ExitStack() as stack:
        adapter = _encoder(where, encoder, at_hand)
        if adapter is None:
            logging.getLogger("membank_llama").warning(
                "the model that made %s is gone: memories are found by their words, and nothing new is remembered. Say "
                "where it is with --encoder FILE, or move to another model with: membank reencode MODEL", where,
            )  # fmt: skip
        else:
            stack.enter_context(adapter)
        if read_only:
            bring_up_to_date(where)
        # of a server that does not run the bank shows what it holds, and encodes once it does
        is_there = not isinstance(adapter, DeferredAdapter)
        if read_only:
            opened = MemBank(adapter, where, read_only=True, auto_validate_adapter=is_there)
        else:
            opened = open_shared(adapter, where, auto_validate_adapter=is_there)
        bank = stack.enter_context(opened)
        if is_there:
            prepare(bank, namespace)
        yield bank


def _encoder(where: Path, ref: str | None, at_hand: AtHand) -> ModelAdapter | None:
    """The encoder named; that of the bank; of a bank that holds nothing yet an embedding model at hand, or words."""
    from membank_llama.adapters.hashing import WordsAdapter
    from membank_llama.store.model_record import is_empty, recorded_model

    if ref is not None or (recorded_model(where) is not None and not is_empty(where)):
        return serving_encoder(where, ref, at_hand)
    made_it = encoder_for(where, None, threads=at_hand.threads, gpu_layers=at_hand.gpu_layers)
    return made_it or better_than_words(at_hand) or WordsAdapter()
