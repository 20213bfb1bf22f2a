"""`OllamaAdapter`: vectors of an embedding model that a running Ollama serves.

For a machine where Ollama runs elsewhere, so that its GGUF cannot be opened here. The id holds the digest of the model:
a model that was pulled anew is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

from membank_llama.core.errors import EncodingError, ModelError, ModelNotFoundError
from membank_llama.core.types import Vector

from .base import ModelAdapter

PREFIX = "ollama-"
SECONDS = 60.0
_FAMILIES = ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "gemma-embedding")


class OllamaAdapter(ModelAdapter):
    """Encodes texts over HTTP.

    Args:
        address: as in ``http://127.0.0.1:11434``.
        model: as Ollama lists it; None for the first embedding model there is.

    Raises:
        ModelError: Ollama does not answer, or the model gives no vectors.
        ModelNotFoundError: it has no such model.
    """

    def __init__(self, address: str, model: str | None = None) -> None:
        self._client = httpx.Client(base_url=address, timeout=SECONDS, trust_env=False)
        try:
            found = _chosen(self._asked("GET", "/api/tags").get("models"), model)
            self._model, digest = str(found["name"]), str(found.get("digest", ""))
            self._id = f"{PREFIX}{self._model}-{digest.removeprefix('sha256:')[:16]}"
            self._source = f"{address}#{self._model}"
            self._dim = len(self._embedded(["hello"])[0])
        except BaseException:
            self._client.close()
            raise

    @property
    def hidden_dim(self) -> int:
        return self._dim

    @property
    def name(self) -> str:
        return f"{self._model} (through Ollama)"

    @property
    def source(self) -> str | None:
        return self._source

    def model_id(self) -> str:
        """Name and digest, as Ollama gives them."""
        return self._id

    def encode(self, text: str) -> Vector:
        vector: Vector = self.encode_batch([text])[0]
        return vector

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """Encode several texts in one call: float32 ``(len(texts), hidden_dim)``, of unit length."""
        if not texts:
            return np.zeros((0, self._dim), np.float32)
        try:
            rows = np.asarray(self._embedded(list(texts)), np.float64)
        except (ValueError, TypeError) as exc:
            raise EncodingError(f"{self._model} gave vectors of several lengths, or none: {exc}") from exc
        if rows.ndim != 2 or not rows.shape[1]:
            raise EncodingError(f"{self._model} gave vectors of shape {rows.shape}, expected a list of numbers a text")
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)

    def _embedded(self, texts: list[str]) -> list[list[float]]:
        rows = self._asked("POST", "/api/embed", {"model": self._model, "input": texts}).get("embeddings")
        if not isinstance(rows, list) or len(rows) != len(texts) or not all(rows):
            raise EncodingError(f"{self._model} gave no vectors; choose an embedding model, such as nomic-embed-text")
        return rows

    def _asked(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, json=body)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as exc:
            raise ModelError(f"Ollama at {self._client.base_url} does not answer as it should: {exc}") from exc
        if response.status_code != 200 or not isinstance(answer, dict):
            said = answer.get("error") if isinstance(answer, dict) else answer
            raise ModelError(f"Ollama refused {path}: {said}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def same_address(one: str, other: str) -> bool:
    """Whether two addresses are of the same Ollama, however they are written."""
    return _place(one) == _place(other)


def _place(address: str) -> tuple[str, str, int | None, str] | str:
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, TypeError):
        return address
    if url.userinfo or url.query:
        return address
    host = "127.0.0.1" if url.host in ("localhost", "::1") else url.host
    return url.scheme, host, url.port, url.path.rstrip("/")


def _chosen(models: Any, wanted: str | None) -> dict[str, Any]:
    listed = [model for model in models or () if isinstance(model, dict) and isinstance(model.get("name"), str)]
    for model in listed:
        if wanted is not None and model["name"] in (wanted, f"{wanted}:latest"):
            return model
        if wanted is None and _embeds(model):
            return model
    raise ModelNotFoundError(f"Ollama has no {'embedding model' if wanted is None else f'model {wanted}'}; pull one")


def _embeds(model: dict[str, Any]) -> bool:
    details = model.get("details")
    family = details.get("family") if isinstance(details, dict) else None
    return family in _FAMILIES or "embed" in model["name"]
