"""What the registry records of its bank, read as one reads a stranger's word: a value of another kind or beyond its
bounds is damage, and is said so before anything is made of it."""

from __future__ import annotations

from typing import Any

from membank_llama.core.errors import BankCorruptError

from .bank_files import FIRST_ACTIVATIONS, activation_files, activation_name, activation_number, token_name
from .codec_record import CALIBRATED_AT
from .memory_writer import ModelCard
from .registry import Registry
from .token_runs import TOKENS

MOST_DIMS = 1 << 17
"""Dimensions that no model's states have more of."""


def read_model(registry: Registry) -> ModelCard | None:
    """The model that made the bank; None where no memory was ever stored.

    Raises:
        BankCorruptError: what is recorded is none.
    """
    card = registry.get_meta("model")
    return None if card is None else model_card(card)


def model_card(card: Any) -> ModelCard:
    """A model as a bank records it; raises as `read_model`."""
    known = card if isinstance(card, dict) and set(card) <= {"id", "name", "dim", "source", "token_dim"} else {}
    model_id, name, dim, source = (known.get(key) for key in ("id", "name", "dim", "source"))
    token_dim = known.get("token_dim", 0)
    if (
        isinstance(model_id, str)
        and isinstance(name, str)
        and isinstance(dim, int)
        and 0 < dim <= MOST_DIMS
        and (source is None or isinstance(source, str))
        and isinstance(token_dim, int)
        and 0 <= token_dim <= MOST_DIMS
    ):
        return ModelCard(model_id, name, dim, source, token_dim)
    raise BankCorruptError(
        "what the bank records of the model that made it is damaged. The texts are not touched by that: restore the "
        "bank from a copy, or move it over with membank reencode MODEL"
    )


def read_activations(registry: Registry, *, repair: bool = False) -> str:
    """The name of the activation file in use; where what is recorded is none and the bank is to be repaired, that of
    the newest file there, recorded from now on.

    Raises:
        BankCorruptError: it is no such name.
    """
    try:
        return activation_name(registry.get_meta("activations"))
    except BankCorruptError:
        if not repair:
            raise
    there = [FIRST_ACTIVATIONS, *(path.name for path in activation_files(registry.path.parent))]
    name = max(there, key=activation_number)
    registry.set_meta("activations", name)
    return name


def read_tokens(registry: Registry) -> str:
    """The name of the file of tokens in use.

    Raises:
        BankCorruptError: it is no such name.
    """
    return token_name(registry.get_meta(TOKENS))


def read_calibration(registry: Registry, *, repair: bool = False) -> int:
    """From how many vectors the axes were found; 0 where that is damaged and the bank is to be repaired.

    Raises:
        BankCorruptError: it is no number.
    """
    try:
        found = registry.get_meta(CALIBRATED_AT, 0)
        if type(found) is not int or found < 0:
            raise BankCorruptError(f"the bank's axes were found from {str(found)[:40]!r} vectors, which is no number")
    except BankCorruptError:
        if repair:
            return 0
        raise
    return found


def read_rewrite(registry: Registry) -> dict[str, Any]:
    """The rewrite of the activation file that is under way; empty where there is none, or what is left of it is
    damaged: then it begins anew."""
    try:
        plan = registry.get_meta("rewrite")
        if isinstance(plan, dict) and activation_name(plan.get("activations")):
            return plan
    except BankCorruptError:
        pass
    return {}
