"""`Embedder`: a GGUF made for embeddings, loaded for as long as the pool keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.errors import ModelFileError
from membank_llama.core.types import Vector


class Embedder:
    """Vectors of unit length, one a text, as the file's own pooling gives them.

    Raises:
        ModelFileError: the file is damaged, or llama.cpp can't load it.
        ModelError: it gives no vectors.
    """

    def __init__(self, path: Path, n_threads: int | None, n_gpu_layers: int, n_ctx: int) -> None:
        # ahead of the model, which nobody would free if this failed
        try:
            self.nbytes = path.stat().st_size
        except OSError as exc:
            raise ModelFileError(f"{path} cannot be read: {exc.strerror or exc}") from exc
        self._adapter = LlamaCppAdapter(path, n_threads=n_threads, n_gpu_layers=n_gpu_layers, window=n_ctx)
        self.n_ctx = self.most = n_ctx
        self.vram = 0

    def count(self, text: str) -> int:
        """Tokens of a text, those around it included."""
        return len(self._adapter.loaded_model.tokenize(text, specials=False, add=True))

    def encode(self, texts: Sequence[str]) -> Vector:
        """float32 ``(len(texts), dim)``."""
        vectors: Vector = self._adapter.encode_batch(texts)
        return vectors

    def close(self) -> None:
        """Free the model."""
        self._adapter.close()
