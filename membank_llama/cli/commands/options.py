"""What the commands share: options, which bank, and which model encodes for it.

A bank remembers the file of the model that made it and what was captured of it, so a command needs no model named
as long as that file is where it was. Everything heavy is imported inside the functions: `membank --help` is quick.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from membank_llama.core.days import parse_instant
from membank_llama.core.errors import (
    BankLockedError,
    BankNotFoundError,
    BankStorageError,
    InvalidInputError,
    MembankError,
)
from membank_llama.core.logs import plain_json

if TYPE_CHECKING:
    from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
    from membank_llama.core.types import Progress
    from membank_llama.memory.bank import MemBank

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w|y)", re.IGNORECASE)
_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31557600}

BankOption = Annotated[Path | None, typer.Option("--bank", "-b", help="The bank's directory.", show_default=False)]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Part of the bank to use.", show_default=False)
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder", "--model", "-m", show_default=False,
        help="The model that encodes: a GGUF path, hf:owner/repo/file.gguf or an Ollama name. "
        "Default: the one that made the bank.",
    ),
]  # fmt: skip
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer", show_default="half depth",
        help="Of a new bank: the layer captured, from 0 (-1: the last), a share of the depth (0.5), "
        "or best: tried out on this model.",
    ),
]  # fmt: skip
PoolingOption = Annotated[
    str | None,
    typer.Option("--pooling", help="Of a new bank: mean, last or weighted, over the tokens.", show_default="mean"),
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True)
class Settings:
    """The options ahead of the command."""

    bank: Path | None = None
    namespace: str | None = None


@dataclass(frozen=True)
class Capture:
    """Which states are wanted, as typed; None: not said."""

    layer: str | None = None
    pooling: str | None = None
    template: str | None = None

    def options(self) -> dict[str, Any]:
        """What was said, for an adapter.

        Raises:
            InvalidInputError: the layer is none.
        """
        said = {"layer": layer_value(self.layer), "pooling": self.pooling, "template": self.template}
        return {name: value for name, value in said.items() if value is not None}


def capture_wanted(layer: str | None, pooling: str | None, template: str | None) -> Capture | None:
    """The states wanted, or None where nothing was said about them."""
    wanted = Capture(layer, pooling, template)
    return wanted if wanted.options() else None


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


def bank_path(ctx: typer.Context, own: Path | None, name: str = "default") -> Path:
    """The bank meant: of the command, of `membank` itself, of the environment, or the default one of this name."""
    from membank_llama.core.paths import default_bank

    return (own or settings(ctx).bank or default_bank(name)).expanduser()


def settings(ctx: typer.Context) -> Settings:
    return ctx.obj if isinstance(ctx.obj, Settings) else Settings()


def named_namespace(ctx: typer.Context, own: str | None) -> str | None:
    """The namespace that was named, if one was."""
    name = own if own is not None else settings(ctx).namespace
    if name == "":
        raise InvalidInputError("the namespace is empty; leave --namespace out for the default one")
    return name


def namespace_of(ctx: typer.Context, own: str | None) -> str:
    """The namespace to work in."""
    return named_namespace(ctx, own) or "default"


def must_exist(path: Path) -> None:
    """Raises BankNotFoundError rather than make a bank where none was."""
    from membank_llama.store.bank_files import DATABASE

    if not (path / DATABASE).exists():
        raise BankNotFoundError(
            f"there is no bank at {path}; make one with membank ingest or membank chat, or name another with --bank"
        )


# -- opening


@contextmanager
def open_bank(path: Path, adapter: Any = None, **options: Any) -> Iterator[MemBank]:
    """A bank that exists already; long work on opening shows a bar."""
    from membank_llama.memory.bank import MemBank

    from ..terminal import progress_bar

    must_exist(path)
    if options.get("read_only"):
        bring_up_to_date(path)
    with progress_bar() as progress, MemBank(adapter, path, progress=progress, **options) as bank:
        yield bank


def bring_up_to_date(path: Path) -> None:
    """Open a bank of an earlier format for writing once, without which it cannot be read."""
    from membank_llama.memory.bank import MemBank
    from membank_llama.store.model_record import is_outdated

    from ..terminal import progress_bar

    if is_outdated(path):
        with progress_bar() as progress:
            MemBank(None, path, progress=progress).close()


@contextmanager
def open_for_looking(path: Path) -> Iterator[MemBank]:
    """The bank for writing where that is possible, or else for reading beside whoever writes."""
    try:
        opened = open_bank(path)
        bank = opened.__enter__()
    except (BankLockedError, BankStorageError):
        opened = open_bank(path, read_only=True)
        bank = opened.__enter__()
    try:
        yield bank
    finally:
        opened.__exit__(None, None, None)


def open_model(
    ref: str,
    *,
    threads: int | None = None,
    gpu_layers: int = 0,
    card: dict[str, Any] | None = None,
    wanted: Capture | None = None,
) -> LlamaCppAdapter:
    """An adapter from anything that names a model; set as it was for the bank of this card, where it made that bank."""
    from membank_llama.gguf.references import resolve_model

    path = resolve_model(ref)
    return adapter_of(path, path, ref, threads=threads, gpu_layers=gpu_layers, card=card, wanted=wanted)


def adapter_of(
    model: Any,
    path: Path,
    ref: str,
    *,
    threads: int | None,
    gpu_layers: int = 0,
    card: dict[str, Any] | None,
    wanted: Capture | None,
) -> LlamaCppAdapter:
    """An adapter on a file or on a Llama of that file: as the bank of this card has it, and as is wanted.

    Raises:
        InvalidInputError: a layer or a pooling is wanted of a model that pools by itself.
    """
    from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
    from membank_llama.store.model_record import captured_as

    from ..terminal import note, progress_bar

    wanted = wanted or Capture()
    capture = {**captured_as(card, path, wanted.template), **wanted.options()}
    with progress_bar() as progress:
        adapter = LlamaCppAdapter(
            model, name=called(path, ref), n_threads=threads, n_gpu_layers=gpu_layers, progress=progress, **capture
        )
    if adapter.pooled and (wanted.layer or wanted.pooling):
        adapter.close()
        raise InvalidInputError(
            f"{adapter.name} pools its states itself and has no layer to choose; leave --layer and --pooling out"
        )
    if adapter.choice is not None:
        note(str(adapter.choice))
    return adapter


def called(path: Path, ref: str) -> str:
    """What people call a model: its file's name, or what they typed where the file is named by its hash."""
    return ref if path.name.startswith("sha256") else path.stem


MANY = 256
"""New memories from which on a command finishes what a long-lived process leaves to its background."""


def finish(bank: MemBank, new: int, progress: Progress | None) -> None:
    """Leave a bank that the next recall need not wait for, after so many new memories."""
    if new >= MANY:
        bank.flush(progress)
    else:
        prepare(bank)


def prepare(bank: MemBank, namespace: str = "default") -> None:
    """Do now what the first recall would wait for: load the index, learn what unrelated texts look like."""
    bank.recall("good morning", 1, namespace=namespace)


def encoder_for(
    path: Path,
    ref: str | None,
    *,
    threads: int | None,
    gpu_layers: int = 0,
    card: dict[str, Any] | None = None,
    wanted: Capture | None = None,
) -> LlamaCppAdapter | None:
    """The model that encodes for a bank: the one named, else the one that made it; None where its file is gone."""
    from membank_llama.store.model_record import made_by, recorded_model

    card = card or recorded_model(path)
    if ref is not None:
        return open_model(ref, threads=threads, gpu_layers=gpu_layers, card=card, wanted=wanted)
    source = None if card is None else _own_file(card, path)
    if card is None or source is None or not made_by(card, source):
        return None
    adapter = open_model(str(source), threads=threads, gpu_layers=gpu_layers, card=card, wanted=wanted)
    if adapter.model_id() != card["id"] and wanted is None:
        adapter.close()
        return None
    return adapter


def _own_file(card: dict[str, Any], bank: Path) -> Path | None:
    """The file that a bank was made by, where it is on this machine and did not come along with the bank."""
    source = card.get("source") or ""
    path = Path(source)
    if source.startswith(("\\\\", "//")) or not path.is_absolute() or not path.is_file():
        return None
    # whoever made the bank could have put it there for llama.cpp to open
    return None if path.resolve().is_relative_to(bank.resolve()) else path


def needed_encoder(
    path: Path, ref: str | None, *, threads: int | None, gpu_layers: int = 0, wanted: Capture | None = None
) -> LlamaCppAdapter:
    """The same, for commands that cannot go on without.

    Raises:
        InvalidInputError: no model was named and none is known; the message says which to name.
    """
    from membank_llama.store.model_record import recorded_model

    card = recorded_model(path)
    adapter = encoder_for(path, ref, threads=threads, gpu_layers=gpu_layers, card=card, wanted=wanted)
    if adapter is not None:
        return adapter
    if card is None:
        raise InvalidInputError(
            f"{path} is a new bank: name the model its memories are made with, as in --model model.gguf"
        )
    raise InvalidInputError(
        f"{path} was made by {card['name']}, whose file {card.get('source') or '(not recorded)'} is gone or another "
        "one now; say where it is with --model FILE, or move to another model with: membank reencode MODEL"
    )


# -- values typed by people


def moment(text: str | None, now: float, *, name: str = "the time") -> float | None:
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


def exit_code(error: MembankError) -> Literal[1, 2]:
    """2 for bad input, 1 for everything else."""
    return 2 if isinstance(error, InvalidInputError) else 1


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("MEMBANK_DEBUG", "") not in ("", "0")


def echo_json(value: Any, indent: int | None = None) -> None:
    """Print JSON. What a terminal would obey is spelled out, and so is what the terminal's encoding lacks."""
    text = plain_json(json.dumps(value, ensure_ascii=False, indent=indent))
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        text = json.dumps(value, indent=indent)
    typer.echo(text)
