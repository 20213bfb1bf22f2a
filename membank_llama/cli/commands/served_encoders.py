"""Which model encodes for `membank serve`: the one named, that of the bank, or the best at hand.

A server that has the bank's model and does not answer yet is waited for. A bank whose model's file is gone is opened
all the same: what it holds is found by its words, and nothing new is remembered until somebody says what to do.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from membank_llama.core.errors import InvalidInputError, MembankError, ModelError

from .addresses import is_address, served_model, split_address
from .encoders import adapter_of, embeds, encoder_for, open_model

if TYPE_CHECKING:
    from membank_llama.adapters.base import ModelAdapter

OLLAMA = "http://127.0.0.1:11434"

logger = logging.getLogger("membank_llama")


@dataclass(frozen=True)
class AtHand:
    """What there is to choose from.

    Args:
        address: of the upstream; empty where llama.cpp answers here.
        behind: the engine or the upstream.
        threads, gpu_layers: for a model that is loaded here.
    """

    address: str
    behind: Any
    threads: int | None
    gpu_layers: int = 0


def serving_encoder(where: Path, ref: str | None, at_hand: AtHand) -> ModelAdapter | None:
    """The encoder named; that of the bank; or the best at hand. None where the bank's is gone.

    Raises:
        InvalidInputError: the bank names a server that nobody else does.
        ModelError: the model named cannot be had.
    """
    from membank_llama.adapters.hashing import WORDS_PREFIX
    from membank_llama.store.model_record import is_empty, recorded_model

    card = recorded_model(where)
    if ref is not None:
        return _named(ref, at_hand, card)
    if card is None:
        return best_encoder(at_hand)
    if not is_empty(where):
        return _recorded(where, card, at_hand)
    # nothing is lost with the model of a bank that holds nothing
    if card["id"].startswith(WORDS_PREFIX) or is_address(card.get("source") or ""):
        return best_encoder(at_hand)
    return encoder_for(where, None, threads=at_hand.threads, gpu_layers=at_hand.gpu_layers) or best_encoder(at_hand)


def best_encoder(at_hand: AtHand) -> ModelAdapter:
    """Of what is at hand: an embedding GGUF, the upstream's embedding model, a chat GGUF, words alone."""
    from membank_llama.adapters.hashing import WordsAdapter

    files = _files(at_hand.behind)
    for_it = [pair for pair in files if embeds(pair[0])]
    adapter = _first(for_it, at_hand) or _of_upstream(at_hand)
    return adapter or _first([pair for pair in files if pair not in for_it], at_hand) or WordsAdapter()


def better_than_words(at_hand: AtHand) -> ModelAdapter | None:
    """An embedding model that has come since a bank was made by words alone."""
    for_it = [pair for pair in _files(at_hand.behind) if embeds(pair[0])]
    return _first(for_it, at_hand) or _of_upstream(at_hand)


def _named(ref: str, at_hand: AtHand, card: dict[str, Any] | None) -> ModelAdapter:
    if is_address(ref):
        return served_model(*split_address(ref))
    try:
        return open_model(ref, threads=at_hand.threads, gpu_layers=at_hand.gpu_layers, card=card)
    except ModelError:
        if not at_hand.address or ref.endswith(".gguf"):
            raise
        return served_model(at_hand.address, ref)


def _recorded(where: Path, card: dict[str, Any], at_hand: AtHand) -> ModelAdapter | None:
    from membank_llama.adapters.deferred import DeferredAdapter

    source = card.get("source") or ""
    if not is_address(source):
        return encoder_for(where, None, threads=at_hand.threads, gpu_layers=at_hand.gpu_layers, card=card)
    address, model = split_address(source)
    _check_address(where, address, model or "", at_hand.address or OLLAMA)
    open_it = partial(served_model, address, model, recorded=card["id"])
    try:
        return open_it()
    except ModelError as exc:
        logger.warning("%s is waited for: %s", card["name"], exc)
        return DeferredAdapter(card["id"], card["name"], source, card["dim"], open_it)


def _check_address(where: Path, recorded: str, name: str, given: str) -> None:
    """What is said goes to whoever encodes it: to no address that only the bank names, which may be a stranger's."""
    from membank_llama.adapters.served import same_address

    if not same_address(recorded, given):
        raise InvalidInputError(
            f"{where} says that the server at {recorded[:200]} made it, which is not the one at {given}: every "
            "question and every new memory would be sent there. If that server is yours, say so with: --encoder "
            f"'{recorded[:200]}#{name[:100]}'; if not, name a model of your own: membank reencode MODEL"
        )


def _of_upstream(at_hand: AtHand) -> ModelAdapter | None:
    server = getattr(at_hand.behind, "server", None)
    if not at_hand.address or server is None or server.recognise() is None:
        return None
    try:
        return served_model(at_hand.address, server=server)
    except MembankError as exc:
        logger.info("no embedding model there: %s", exc)
        return None


def _first(files: list[tuple[Path, str]], at_hand: AtHand) -> ModelAdapter | None:
    """The first of these files that can encode."""
    from membank_llama.adapters.llama_cpp.trial_load import prove

    for path, name in files:
        try:
            # nobody chose this file
            prove(path)
            threads, gpu_layers = at_hand.threads, at_hand.gpu_layers
            return adapter_of(path, path, name, threads=threads, gpu_layers=gpu_layers, card=None, wanted=None)
        except MembankError as exc:
            logger.warning("%s cannot encode: %s", name, exc)
    return None


def _files(behind: Any) -> list[tuple[Path, str]]:
    """GGUFs that could encode."""
    from membank_llama.gguf.ollama_store import list_ollama_models

    catalogue = getattr(behind, "catalogue", None)
    found = list_ollama_models() if catalogue is None else catalogue.models()
    return [(model.path, model.name) for model in found]
