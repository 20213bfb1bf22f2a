"""`UpstreamServer`: what is known of the server behind an address: which program it is, how long its models' contexts
are, where their files lie, and how many tokens a text is to them.

It is asked at the start, and again when it was away: another program may have come in its place. Every method may take
as long as a short request; none raises.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from membank_llama.core.bounded import keep_newest

from .upstream_kind import LLAMA_SERVER, LM_STUDIO, OLLAMA, Answer, UpstreamKind, recognised

logger = logging.getLogger("membank_llama")

LOOK_TIMEOUT = httpx.Timeout(5.0, connect=1.0)
TOKENIZE_SECONDS = 0.15
AGAIN_SECONDS = 5.0
"""How long one that did not answer is not asked again who it is."""
MOST_MODELS = 256
ANY_MODEL = ""
"""The name for whatever a server of one model is asked for."""
_BETWEEN = -1
"""No token: it stands between two texts that are counted in one request."""


class UpstreamServer:
    """Asks one address about itself.

    Args:
        address: as in ``http://127.0.0.1:11434``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.kind: UpstreamKind | None = None
        self.generation = 0
        """Counts how often it was recognised anew."""
        self._client = httpx.Client(base_url=address, timeout=LOOK_TIMEOUT, trust_env=False)
        self._is_here = _is_this_machine(self._client.base_url.host)
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._contexts: OrderedDict[str, int] = OrderedDict()
        self._files: OrderedDict[str, Path] = OrderedDict()
        self._asked = -AGAIN_SECONDS
        self._lost = True

    def __str__(self) -> str:
        said = "nothing that is known" if self.kind is None else str(self.kind)
        return f"{said} at {self.address}"

    @property
    def is_known(self) -> bool:
        """Whether it was recognised, and has not been away since."""
        return self.kind is not None and not self._lost

    def lost(self) -> None:
        """It did not answer: what is known of it may be so no longer."""
        self._lost = True

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    # -- looking

    def recognise(self) -> UpstreamKind | None:
        """Ask who answers, unless that is known or was asked just now."""
        with self._asking:
            if self.is_known or time.monotonic() - self._asked < AGAIN_SECONDS:
                return self.kind
            found = recognised(self._ask)
            self._asked = time.monotonic()
            if found is not None:
                self._is_now(found)
        return self.kind

    def _is_now(self, found: UpstreamKind) -> None:
        if self.generation and (self.kind is None or found.name != self.kind.name):
            logger.info("%s answers at %s now", found, self.address)
        with self._lock:
            self.kind, self.generation = found, self.generation + 1
            self._contexts.clear()
            self._files.clear()
            self._lost = found.silent

    def look(self, model: str = ANY_MODEL) -> None:
        """Ask for the contexts of the models that are loaded, this one's above all."""
        kind = self.recognise()
        if kind is None:
            return
        found: dict[str, int] = {}
        if kind.name == OLLAMA:
            found = contexts_of(self._told("/api/ps"))
        elif kind.name == LLAMA_SERVER:
            self._look_at_props(model, kind)
        elif kind.name == LM_STUDIO:
            found = _lengths(self._told("/api/v0/models"), "loaded_context_length")
        else:
            found = _lengths(self._told("/v1/models"), "max_model_len", "context_length")
        with self._lock:
            for name, length in found.items():
                keep_newest(self._contexts, name, length, MOST_MODELS)

    def _look_at_props(self, model: str, kind: UpstreamKind) -> None:
        if kind.routes and not model:
            return
        answer = self._ask("/props", {"model": model, "autoload": "false"} if kind.routes else None)
        told = {} if answer is None else answer.told
        settings = told.get("default_generation_settings")
        length = settings.get("n_ctx") if isinstance(settings, dict) else None
        name = with_tag(model) if kind.routes else ANY_MODEL
        path = told.get("model_path")
        with self._lock:
            if isinstance(length, int) and length > 0:
                keep_newest(self._contexts, name, length, MOST_MODELS)
            if self._is_here and isinstance(path, str) and _is_file(path):
                keep_newest(self._files, name, Path(path), MOST_MODELS)

    # -- what was found

    def context_of(self, model: str) -> int | None:
        """Tokens of context of a model; None where that is not known."""
        with self._lock:
            return self._contexts.get(with_tag(model)) or self._contexts.get(ANY_MODEL)

    def file_of(self, model: str) -> Path | None:
        """The GGUF of a model, where the server tells it and it can be read here."""
        self.look(model)
        with self._lock:
            return self._files.get(with_tag(model)) or self._files.get(ANY_MODEL)

    @property
    def tokenizes(self) -> bool:
        """Whether it can be asked for tokens."""
        return self.kind is not None and self.kind.name == LLAMA_SERVER

    def counts(self, model: str, texts: Sequence[str], *, controls: bool = False) -> list[int] | None:
        """Tokens of each text, in one request; None where they cannot be had in time.

        Args:
            controls: whether a control token that is written in a text is one.
        """
        content: list[str | int] = []
        for text in texts:
            content += (text.encode("utf-8", "replace").decode(), _BETWEEN)
        asked = {"model": model, "content": content, "parse_special": controls}
        try:
            response = self._client.post("/tokenize", json=asked, timeout=TOKENIZE_SECONDS)
            tokens = response.json()["tokens"]
            ends = [place for place, token in enumerate(tokens) if token == _BETWEEN]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None
        if len(ends) != len(texts):
            return None
        return [end - start - 1 for start, end in zip([-1, *ends], ends, strict=False)]

    # -- asking

    def _told(self, path: str) -> Mapping[str, Any]:
        answer = self._ask(path)
        return {} if answer is None else answer.told

    def _ask(self, path: str, query: Mapping[str, str] | None = None) -> Answer | None:
        try:
            response = self._client.get(path, params=query)
        except (httpx.HTTPError, RuntimeError):
            # the client may have been closed meanwhile
            return None
        try:
            said = response.json()
        except (ValueError, RecursionError):
            said = None
        return Answer(response.status_code, response.headers.get("server", ""), said)


def contexts_of(answer: Any) -> dict[str, int]:
    """Contexts by model, of what Ollama says of the loaded ones."""
    models = answer.get("models") if isinstance(answer, Mapping) else None
    found = {}
    for model in models if isinstance(models, list) else ():
        length = model.get("context_length") if isinstance(model, Mapping) else None
        if isinstance(length, int) and length > 0:
            found[with_tag(str(model.get("model") or model.get("name")))] = length
    return found


def with_tag(model: str) -> str:
    """The name with the tag that it has without being written."""
    return model if not model or ":" in model.rpartition("/")[2] else f"{model}:latest"


def _lengths(answer: Mapping[str, Any], *fields: str) -> dict[str, int]:
    data = answer.get("data")
    found = {}
    for model in data if isinstance(data, list) else ():
        if isinstance(model, dict):
            length = next((model[name] for name in fields if isinstance(model.get(name), int)), 0)
            if length > 0:
                found[with_tag(str(model.get("id")))] = length
    return found


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_absolute() and Path(path).is_file()
    except (OSError, ValueError):
        return False


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
