"""`OpenAIAdapter`: vectors of an embedding model behind OpenAI's `/v1/embeddings`, llama-server's or another's.

Such servers give a model no digest. The id holds the name and whatever else they tell of the model itself, such as
llama-server its numbers of parameters and bytes, and the length of its vectors.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from membank_llama.core.errors import EncodingError, ModelNotFoundError

from .served import ServedAdapter

OPENAI_PREFIX = "openai-"
"""What the ids of `OpenAIAdapter` begin with."""

_OF_THE_MODEL = ("n_vocab", "n_embd", "n_params", "size", "n_ctx_train")
"""What llama-server tells of a model that does not depend on how it was started."""

_NAMES = ("embed", "minilm", "bge-", "gte-", "e5-", "mxbai", "arctic-e")


class OpenAIAdapter(ServedAdapter):
    """Encodes texts with a model behind OpenAI's API.

    Args:
        address: as in ``http://127.0.0.1:8080``, without ``/v1``.
        model: as the server lists it; None for the one that is made for embeddings, or the only one there is.
        server: what people call the program there.

    Raises:
        ModelError: nothing answers there, or the model gives no vectors.
        ModelNotFoundError: it has no such model.
    """

    def __init__(self, address: str, model: str | None = None, *, server: str = "its server") -> None:
        self._wanted = model
        super().__init__(address.rstrip("/").removesuffix("/v1"), server)
        self._id = f"{self._id}-{self._dim}"

    def _found(self) -> tuple[str, str]:
        found = self._chosen()
        name, meta = str(found["id"]), found.get("meta")
        told = {key: meta.get(key) for key in _OF_THE_MODEL} if isinstance(meta, dict) else {}
        digest = hashlib.sha256(json.dumps([name, told], sort_keys=True).encode()).hexdigest()[:16]
        return name, f"{OPENAI_PREFIX}{name}-{digest}"

    def _chosen(self) -> dict[str, Any]:
        listed = _listed(self._asked("GET", "/v1/models"))
        if self._wanted is not None:
            named = [model for model in listed if self._wanted in (model["id"], *_aliases(model))]
        else:
            named = [model for model in listed if is_for_embeddings(model)] or (listed if len(listed) == 1 else [])
        if not named:
            what = "embedding model" if self._wanted is None else f"model {self._wanted}"
            raise ModelNotFoundError(
                f"{self._server} at {self._address} has no {what}; there "
                f"{'is' if len(listed) == 1 else 'are'}: {', '.join(model['id'] for model in listed[:10]) or 'none'}"
            )
        return named[0]

    def _embedded(self, texts: list[str]) -> list[list[float]]:
        asked = {"model": self._model, "input": texts, "encoding_format": "float"}
        rows = self._asked("POST", "/v1/embeddings", asked).get("data")
        if not isinstance(rows, list) or len(rows) != len(texts):
            raise EncodingError(f"{self._model} gave no vectors; choose an embedding model")
        placed = [row for row in rows if isinstance(row, dict) and isinstance(row.get("index", 0), int)]
        # one answer a text, in whatever order
        placed.sort(key=lambda row: row.get("index", 0))
        vectors = [row.get("embedding") for row in placed]
        if len(vectors) != len(texts) or not all(isinstance(vector, list) and vector for vector in vectors):
            raise EncodingError(f"{self._model} gave no vectors; choose an embedding model")
        return vectors  # type: ignore[return-value]


def _listed(answer: dict[str, Any]) -> list[dict[str, Any]]:
    data = answer.get("data")
    return (
        [model for model in data if isinstance(model, dict) and isinstance(model.get("id"), str)]
        if isinstance(data, list)
        else []
    )


def _aliases(model: dict[str, Any]) -> list[Any]:
    aliases = model.get("aliases")
    return aliases if isinstance(aliases, list) else []


def is_for_embeddings(model: dict[str, Any]) -> bool:
    """Whether a listed model is one made for embeddings, by what the server says of it or by its name."""
    if model.get("type") in ("embeddings", "embedding"):
        return True
    name = str(model.get("id", "")).lower()
    return any(part in name for part in _NAMES)
