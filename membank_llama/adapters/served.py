"""`ServedAdapter`: vectors of an embedding model that another program serves over HTTP.

For a machine where the model runs elsewhere, so that its file cannot be opened here. What differs between servers is
how their models are listed and asked: one method each. A text that is longer than the server takes is encoded by its
beginning.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

from membank_llama.core.errors import EncodingError, ModelError
from membank_llama.core.types import Vector

from .base import ModelAdapter

SECONDS = 60.0
SHORTEST = 256
"""Characters of a text below which it is not its length that a server refuses."""


_OF_LENGTH = ("too large", "too long", "exceed", "maximum", "context")
"""Words with which servers refuse a text for its length."""


class TextRefusedError(ModelError):
    """A server refused a text for its length."""


class ServedAdapter(ModelAdapter):
    """Encodes texts over HTTP.

    Args:
        address: as in ``http://127.0.0.1:11434``.
        server: what people call the program there.
    """

    def __init__(self, address: str, server: str) -> None:
        self._server = server
        self._address = address
        self._client = httpx.Client(base_url=address, timeout=SECONDS, trust_env=False)
        self._dim = 0
        try:
            self._model, self._id = self._found()
            self._dim = len(self._embedded(["hello"])[0])
        except BaseException:
            self._client.close()
            raise

    @abstractmethod
    def _found(self) -> tuple[str, str]:
        """The model's name at the server, and an id of it."""

    @abstractmethod
    def _embedded(self, texts: list[str]) -> list[list[float]]:
        """A row of numbers for each text.

        Raises:
            TextRefusedError: one of them is longer than the server takes.
            ModelError: the server does not answer, or not with vectors.
        """

    @property
    def hidden_dim(self) -> int:
        return self._dim

    @property
    def name(self) -> str:
        return f"{self._model} (through {self._server})"

    @property
    def source(self) -> str | None:
        return f"{self._address}#{self._model}"

    def model_id(self) -> str:
        """As the server gives it."""
        return self._id

    def encode(self, text: str) -> Vector:
        vector: Vector = self.encode_batch([text])[0]
        return vector

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """Encode several texts in one call: float32 ``(len(texts), hidden_dim)``, of unit length."""
        if not texts:
            return np.zeros((0, self._dim), np.float32)
        try:
            rows = np.asarray(self._rows(list(texts)), np.float64)
        except (ValueError, TypeError) as exc:
            raise EncodingError(f"{self._model} gave vectors of several lengths, or none: {exc}") from exc
        if rows.ndim != 2 or not rows.shape[1]:
            raise EncodingError(f"{self._model} gave vectors of shape {rows.shape}, expected a list of numbers a text")
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)

    def _rows(self, texts: list[str]) -> list[list[float]]:
        try:
            return self._embedded(texts)
        except TextRefusedError:
            if len(texts) > 1:
                return [row for text in texts for row in self._rows([text])]
            if len(texts[0]) < SHORTEST:
                raise
        return self._rows([texts[0][: len(texts[0]) // 2]])

    def _asked(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, json=body)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as exc:
            raise ModelError(
                f"{self._server} at {self._client.base_url} does not answer as it should: {exc}; is it running there?"
            ) from exc
        if response.status_code != 200 or not isinstance(answer, dict):
            said = answer.get("error") if isinstance(answer, dict) else answer
            kind = TextRefusedError if _is_of_length(response.status_code, str(said)) else ModelError
            raise kind(f"{self._server} refused {path}: {said}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _is_of_length(status: int, said: str) -> bool:
    return status in (400, 413, 422, 500) and any(word in said.lower() for word in _OF_LENGTH)


def same_address(one: str, other: str) -> bool:
    """Whether two addresses are of the same server, however they are written."""
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
