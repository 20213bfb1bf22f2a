"""Which model encodes for a bank: the one that is named, the one that made it, or the best at hand.

A bank remembers the file of the model that made it and what was captured of it, so a command needs no model named as
long as that file is where it was. An address names a model that a server has there. Everything heavy is imported inside
the functions: `membank --help` is quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from membank_llama.core.errors import InvalidInputError, MembankError

from .addresses import is_address, served_model, split_address
from .options import layer_value

if TYPE_CHECKING:
    from membank_llama.adapters.base import ModelAdapter
    from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
    from membank_llama.core.types import Progress


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

    from ..terminal import note

    wanted = wanted or Capture()
    capture = {**captured_as(card, path, wanted.template), **wanted.options()}
    with _waiting(f"loading {called(path, ref)} …", tries=wanted.layer == "best") as progress:
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


@contextmanager
def _waiting(text: str, *, tries: bool) -> Iterator[Progress | None]:
    """Show that a model is loaded, or how far it is with trying its layers."""
    from ..status_line import StatusLine
    from ..terminal import progress_bar

    if tries:
        with progress_bar() as progress:
            yield progress
    else:
        with StatusLine(text):
            yield None


def called(path: Path, ref: str) -> str:
    """What people call a model: its file's name, or what they typed where the file is named by its hash."""
    return ref if path.name.startswith("sha256") else path.stem


def open_encoder(
    ref: str,
    *,
    threads: int | None = None,
    gpu_layers: int = 0,
    card: dict[str, Any] | None = None,
    wanted: Capture | None = None,
) -> ModelAdapter:
    """The same from an address too, as in http://127.0.0.1:8081 or http://127.0.0.1:11434#nomic-embed-text.

    Raises:
        InvalidInputError: states are wanted of a model that a server has.
    """
    if not is_address(ref):
        return open_model(ref, threads=threads, gpu_layers=gpu_layers, card=card, wanted=wanted)
    if wanted is not None:
        raise InvalidInputError(
            f"the server at {ref} gives vectors and no states to choose from; leave "
            "--layer, --pooling and --template out"
        )
    return served_model(*split_address(ref))


def encoder_for(
    path: Path,
    ref: str | None,
    *,
    threads: int | None,
    gpu_layers: int = 0,
    card: dict[str, Any] | None = None,
    wanted: Capture | None = None,
) -> ModelAdapter | None:
    """The model that encodes for a bank: the one named, else the one that made it; None where its file is gone, or the
    bank holds nothing that words alone would have made."""
    from membank_llama.adapters.hashing import WORDS_PREFIX, WordsAdapter
    from membank_llama.store.model_record import is_empty, made_by, recorded_model

    card = card or recorded_model(path)
    if ref is not None:
        return open_encoder(ref, threads=threads, gpu_layers=gpu_layers, card=card, wanted=wanted)
    if card is not None and card["id"].startswith(WORDS_PREFIX):
        return None if is_empty(path) or wanted is not None else WordsAdapter(card["dim"])
    source = None if card is None else own_file(card, path)
    if card is None or source is None or not made_by(card, source):
        return None
    adapter = open_model(str(source), threads=threads, gpu_layers=gpu_layers, card=card, wanted=wanted)
    if adapter.model_id() != card["id"] and wanted is None:
        adapter.close()
        return None
    return adapter


def own_file(card: dict[str, Any], bank: Path) -> Path | None:
    """The file that a bank was made by, where it is on this machine and did not come along with the bank."""
    source = card.get("source") or ""
    path = Path(source)
    if source.startswith(("\\\\", "//")) or not path.is_absolute() or not path.is_file():
        return None
    # whoever made the bank could have put it there for llama.cpp to open
    return None if path.resolve().is_relative_to(bank.resolve()) else path


def needed_encoder(
    path: Path, ref: str | None, *, threads: int | None, gpu_layers: int = 0, wanted: Capture | None = None
) -> ModelAdapter:
    """The same, for commands that cannot go on without.

    Raises:
        InvalidInputError: no model was named and none is known; the message says which to name.
    """
    from membank_llama.store.model_record import is_empty, recorded_model

    card = recorded_model(path)
    adapter = encoder_for(path, ref, threads=threads, gpu_layers=gpu_layers, card=card, wanted=wanted)
    if adapter is not None:
        return adapter
    if card is None or is_empty(path):
        raise InvalidInputError(
            f"{path} holds nothing yet: name the model its memories are made with, as in --model model.gguf"
        )
    if is_address(card.get("source") or ""):
        raise InvalidInputError(
            f"{path} was made by {card['name']}; name it with --model '{card['source'][:300]}', or move to another "
            "model with: membank reencode MODEL"
        )
    raise InvalidInputError(
        f"{path} was made by {card['name']}, whose file {card.get('source') or '(not recorded)'} is gone or another "
        "one now; say where it is with --model FILE, or move to another model with: membank reencode MODEL"
    )


def made_it(bank: Path, ref: str) -> bool:
    """Whether a bank was made by the model that is named; an address says nothing of it."""
    from membank_llama.gguf.references import resolve_model
    from membank_llama.store.model_record import made_by, recorded_model

    card = recorded_model(bank)
    return card is not None and not is_address(ref) and made_by(card, resolve_model(ref))


def embeds(path: Path) -> bool:
    """Whether a file is a model made for embeddings."""
    from membank_llama.gguf.capabilities import read_facts

    try:
        return read_facts(path).embeds
    except MembankError:
        return False
