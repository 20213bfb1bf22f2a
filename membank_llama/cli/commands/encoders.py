"""Which model encodes for a bank: the one that is named, the one that made it, or the best at hand.

A bank remembers the file of the model that made it and what was captured of it, so a command needs no model named
as long as that file is where it was. Everything heavy is imported inside the functions: `membank --help` is quick.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from membank_llama.core.errors import InvalidInputError, MembankError, ModelError

from .options import layer_value

if TYPE_CHECKING:
    from membank_llama.adapters.base import ModelAdapter
    from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter

OLLAMA = "http://127.0.0.1:11434"


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


# -- for membank serve


def serving_encoder(
    where: Path, ref: str | None, address: str, behind: Any, threads: int | None, gpu_layers: int
) -> ModelAdapter:
    """The encoder named; that of the bank; or the best at hand: an embedding GGUF, a chat GGUF, Ollama's, words."""
    from membank_llama.adapters import hashing, ollama_client
    from membank_llama.store.model_record import recorded_model

    card = recorded_model(where)
    if ref is not None:
        return _named(ref, address, card, threads, gpu_layers)
    if card is not None and card["id"].startswith(hashing.WORDS_PREFIX):
        return hashing.WordsAdapter(card["dim"])
    if card is not None and card["id"].startswith(ollama_client.PREFIX) and "#" in (card.get("source") or ""):
        recorded, name = card["source"].split("#", 1)
        _check_address(where, recorded, name, address or OLLAMA)
        return ollama_client.OllamaAdapter(recorded, name)
    if card is not None:
        return needed_encoder(where, None, threads=threads, gpu_layers=gpu_layers)
    return _best(address, behind, threads, gpu_layers)


def _check_address(where: Path, recorded: str, name: str, given: str) -> None:
    """What is said goes to whoever encodes it: to no address that only the bank names, which may be a stranger's."""
    from membank_llama.adapters.ollama_client import same_address

    if not same_address(recorded, given):
        raise InvalidInputError(
            f"{where} says that the Ollama at {recorded[:200]} made it, which is not the one at {given}: every "
            "question and every new memory would be sent there. If that Ollama is yours, say so with: --encoder "
            f"'{recorded[:200]}#{name[:100]}'; if not, name a model of your own: membank reencode MODEL"
        )


def _named(ref: str, address: str, card: dict[str, Any] | None, threads: int | None, gpu_layers: int) -> ModelAdapter:
    from membank_llama.adapters.ollama_client import OllamaAdapter

    if ref.startswith(("http://", "https://")) and "#" in ref:
        return OllamaAdapter(*ref.split("#", 1))
    try:
        return open_model(ref, threads=threads, gpu_layers=gpu_layers, card=card)
    except ModelError:
        if not address or ref.endswith(".gguf"):
            raise
        return OllamaAdapter(address, ref)


def _best(address: str, behind: Any, threads: int | None, gpu_layers: int) -> ModelAdapter:
    from membank_llama.adapters import hashing, ollama_client
    from membank_llama.adapters.llama_cpp.trial_load import prove

    logger = logging.getLogger("membank_llama")
    for path, name in _at_hand(behind):
        try:
            # nobody chose this file
            prove(path)
            return adapter_of(path, path, name, threads=threads, gpu_layers=gpu_layers, card=None, wanted=None)
        except MembankError as exc:
            logger.warning("%s cannot encode: %s", name, exc)
    if address:
        try:
            return ollama_client.OllamaAdapter(address)
        except MembankError as exc:
            logger.warning("no embedding model of Ollama's: %s", exc)
    return hashing.WordsAdapter()


def _at_hand(behind: Any) -> list[tuple[Path, str]]:
    """GGUFs that could encode, those made for it first."""
    from membank_llama.gguf.ollama_store import list_ollama_models

    catalogue = getattr(behind, "catalogue", None)
    found = list_ollama_models() if catalogue is None else catalogue.models()
    return sorted(((model.path, model.name) for model in found), key=lambda pair: not embeds(pair[0]))


def embeds(path: Path) -> bool:
    """Whether a file is a model made for embeddings."""
    from membank_llama.gguf.capabilities import read_facts

    try:
        return read_facts(path).embeds
    except MembankError:
        return False
