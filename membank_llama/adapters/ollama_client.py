"""`OllamaAdapter`: vectors of an embedding model that a running Ollama serves.

The id holds the digest of the model: a model that was pulled anew is another one.
"""

from __future__ import annotations

from typing import Any

from membank_llama.core.errors import EncodingError, ModelNotFoundError

from .served import ServedAdapter

PREFIX = "ollama-"
_FAMILIES = ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "gemma-embedding")


class OllamaAdapter(ServedAdapter):
    """Encodes texts with a model of Ollama's.

    Args:
        address: as in ``http://127.0.0.1:11434``.
        model: as Ollama lists it; None for the first embedding model there is.

    Raises:
        ModelError: Ollama does not answer, or the model gives no vectors.
        ModelNotFoundError: it has no such model.
    """

    def __init__(self, address: str, model: str | None = None) -> None:
        self._wanted = model
        super().__init__(address, "Ollama")

    def _found(self) -> tuple[str, str]:
        found = _chosen(self._asked("GET", "/api/tags").get("models"), self._wanted)
        name, digest = str(found["name"]), str(found.get("digest", ""))
        return name, f"{PREFIX}{name}-{digest.removeprefix('sha256:')[:16]}"

    def _embedded(self, texts: list[str]) -> list[list[float]]:
        rows = self._asked("POST", "/api/embed", {"model": self._model, "input": texts}).get("embeddings")
        if not isinstance(rows, list) or len(rows) != len(texts) or not all(rows):
            raise EncodingError(f"{self._model} gave no vectors; choose an embedding model, such as nomic-embed-text")
        return rows


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
