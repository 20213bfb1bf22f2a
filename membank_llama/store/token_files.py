"""The file of a bank's tokens: opened, held against what is recorded of it, and cleared where it is half written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from membank_llama.core.errors import BankCorruptError, BankNotFoundError
from membank_llama.hgns.token_codes import token_bytes

from .activations import MemMapBuffer
from .bank_files import token_name
from .bank_records import MOST_DIMS, read_tokens
from .memory_writer import ModelCard
from .registry import Registry
from .token_runs import NEXT_TOKENS, TOKENS, TokenRuns


def open_tokens(bank: Path, registry: Registry, model: ModelCard, *, read_only: bool, repair: bool) -> TokenRuns | None:
    """The tokens of a bank's activations; None where it keeps none, and where they are damaged and the bank is to be
    repaired.

    Raises:
        BankCorruptError: the file is missing, cut or another bank's; the message says what to do.
    """
    if not model.token_dim or (repair and registry.get_meta(TOKENS) is None):
        return None
    try:
        return _sound(registry, open_token_file(bank / read_tokens(registry), model, read_only=read_only))
    except (BankCorruptError, BankNotFoundError) as exc:
        if repair:
            return None
        raise BankCorruptError(
            f"{exc}. The texts are safe: compute the activations anew with membank reencode "
            "(MemBank(adapter, path, repair=True).reencode())"
        ) from exc


def _sound(registry: Registry, buffer: MemMapBuffer) -> TokenRuns:
    runs = TokenRuns(registry, buffer)
    expected, held = runs.next_row(), buffer.n_slots
    if held < expected:
        buffer.close()
        raise BankCorruptError(f"{buffer.path} holds {held} tokens, {expected} were stored: it is missing or was cut")
    return runs


def open_token_file(path: Path, model: ModelCard, *, read_only: bool = False) -> MemMapBuffer:
    """A file of tokens as a model gives them."""
    tag = hashlib.sha256(f"tokens {model.id} {model.token_dim}".encode()).digest()[:16]
    size = token_bytes(model.token_dim)
    return MemMapBuffer(path, size, spec_tag=tag, dims=model.token_dim, read_only=read_only)


def files_in_use(plan: dict[str, Any], activations: str, tokens: TokenRuns | None) -> set[str]:
    """Names of a bank's files of activations and tokens, with those of a rewrite that goes on: packing begins anew
    anyway, re-encoding does not."""
    names = {activations} if tokens is None else {activations, tokens.buffer.path.name}
    again = (plan["activations"], plan.get("tokens")) if plan.get("kind") == "encode" else ()
    return names | {name for name in again if isinstance(name, str)}


def erase_unfinished(bank: Path, registry: Registry, plan: dict[str, Any], slots: Sequence[int]) -> None:
    """Take the tokens of some slots out of the next file, where such work was interrupted; `plan` is that of it."""
    name, dim = plan.get("tokens"), plan.get("token_dim")
    if name is not None and isinstance(dim, int) and 0 < dim <= MOST_DIMS:
        card = ModelCard(str(plan.get("model")), "", 1, token_dim=dim)
        # whoever made the bank wrote the plan too
        with open_token_file(bank / token_name(name), card) as buffer:
            TokenRuns(registry, buffer, NEXT_TOKENS).blank(slots)
