"""The options that commands share, and what was typed for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from membank_llama.core.days import parse_instant
from membank_llama.core.errors import InvalidInputError
from membank_llama.core.provenance import Provenance, provenance_named
from membank_llama.kv.kv_types import KV_TYPES

from .completion import bank_names, model_names

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w|y)", re.IGNORECASE)
_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31557600}

BankOption = Annotated[
    Path | None,
    typer.Option(
        "--bank", "-b", show_default="$MEMBANK_BANK, or one in your user data", help="The bank's directory.",
        autocompletion=bank_names, readable=False,
    ),
]  # fmt: skip
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Part of the bank to use.", show_default=False)
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder", "--model", "-m", show_default=False, autocompletion=model_names,
        help="The model that encodes: a GGUF path, hf:owner/repo/file.gguf or an Ollama name. "
        "Default: the one that made the bank.",
    ),
]  # fmt: skip
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer", show_default="the seventh or a fifth of the depth",
        help="Of a new bank: the layer captured, from 0 (-1: the last), a share of the depth (0.5), "
        "or best: tried out on this model.",
    ),
]  # fmt: skip
PoolingOption = Annotated[
    str | None,
    typer.Option(
        "--pooling", help="Of a new bank: content, mean, last or weighted, over the tokens.", show_default="content"
    ),
]
TemplateOption = Annotated[
    str | None,
    typer.Option(
        "--template", show_default=False,
        help="Of a new bank: echo, one-word, or a text with {text} in it, put around what is encoded.",
    ),
]  # fmt: skip
ThreadsOption = Annotated[int | None, typer.Option(help="Processor threads.", min=1, show_default=False)]
GpuOption = Annotated[int, typer.Option(help="Layers to put on the GPU; -1 for all.", min=-1)]
KVOption = Annotated[
    str | None,
    typer.Option(
        "--kv", show_default="$MEMBANK_KV, or 4G",
        help="Disk for the KV state of conversations, so that nothing is read twice: a size (2G), or off.",
    ),
]  # fmt: skip
KVTypeOption = Annotated[
    str, typer.Option("--kv-type", help="Numbers of the KV cache: f16, or q8_0, half as large and not quite the same.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

ChatNameOption = Annotated[
    str | None, typer.Option(help="Go on with this one; /resume lists them.", metavar="NAME", show_default=False)
]
WithoutOption = Annotated[
    str | None,
    typer.Option(
        "--without", show_default=False,
        help="Put no memories of this provenance into prompts: model, tool, import or document, parted by commas.",
    ),
]  # fmt: skip


def provenances(names: str | None) -> frozenset[Provenance]:
    """Provenances as typed.

    Raises:
        InvalidInputError: there is none of this name.
    """
    return frozenset(provenance_named(name.strip()) for name in (names or "").split(",") if name.strip())


@dataclass(frozen=True)
class Settings:
    """The options ahead of the command."""

    bank: Path | None = None
    namespace: str | None = None


def layer_value(text: str | None) -> str | int | float | None:
    """A layer as typed: ``7``, ``-1``, ``0.5``, ``auto`` or ``best``.

    Raises:
        InvalidInputError: none of these.
    """
    if text is None or text in ("auto", "best"):
        return text
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if re.fullmatch(r"\d*\.\d+", text):
        return float(text)
    raise InvalidInputError(f"--layer is {text!r}; write a layer (7, or -1 for the last), a share (0.5), auto or best")


def bank_path(
    ctx: typer.Context, own: Path | None, name: str = "default", *, new: bool = False, sure: bool = False
) -> Path:
    """The bank meant: of the command, of `membank` itself, of the environment, or the default one of this name.

    Args:
        new: it may be made; without, where the default one is missing, another one that is there is taken.
        sure: what is done cannot be taken back, and a program that names no bank has to where there are several.
    """
    from membank_llama.core.paths import default_bank

    from .bank_choice import bank_at_hand

    named = own or settings(ctx).bank
    if named is not None or new:
        return (named or default_bank(name)).expanduser()
    return bank_at_hand(default_bank(name).expanduser(), sure=sure)


def settings(ctx: typer.Context) -> Settings:
    return ctx.obj if isinstance(ctx.obj, Settings) else Settings()


def kv_type_of(name: str) -> str:
    """A type of the KV cache as typed.

    Raises:
        InvalidInputError: there is none of this name.
    """
    if name not in KV_TYPES:
        raise InvalidInputError(f"--kv-type is {name!r}; use {' or '.join(KV_TYPES)}")
    return name


def named_namespace(ctx: typer.Context, own: str | None) -> str | None:
    """The namespace that was named, if one was."""
    name = own if own is not None else settings(ctx).namespace
    if name == "":
        raise InvalidInputError("the namespace is empty; leave --namespace out for the default one")
    return name


def namespace_of(ctx: typer.Context, own: str | None) -> str:
    """The namespace to work in."""
    return named_namespace(ctx, own) or "default"


def parse_time(text: str | None, now: float, *, name: str = "the time") -> float | None:
    """Seconds since 1970 of ``7d`` (ago), ``2025-01-31``, ``2025-01-31T18:00`` (local time) or ``now``.

    Raises:
        InvalidInputError: none of these.
    """
    if text is None:
        return None
    if text.strip().lower() == "now":
        return now
    span = _SPAN.fullmatch(text.strip())
    if span:
        return now - float(span[1]) * _SECONDS[span[2].lower()]
    try:
        return parse_instant(text)
    except (ValueError, OverflowError, OSError) as exc:
        raise InvalidInputError(
            f"{name} is {text!r}; write a date (2025-01-31), a date and time (2025-01-31T18:00) or an age (7d, 12h)"
        ) from exc
