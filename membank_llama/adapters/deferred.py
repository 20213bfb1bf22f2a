"""`DeferredAdapter`: a model that made a bank and cannot be reached yet: its server is not running.

The bank can be opened and read meanwhile; what is to be encoded fails until the server is there, and is tried again by
whoever asked for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from membank_llama.core.errors import ModelError, ModelMismatchError
from membank_llama.core.types import Vector

from .base import ModelAdapter

AGAIN_SECONDS = 5.0


class DeferredAdapter(ModelAdapter):
    """Stands for a model until it can be opened, and passes everything on to it from then on.

    Args:
        model_id, name, source, dim: as the bank records them.
        open_model: opens it; raises ModelError where it is not there yet.
    """

    def __init__(
        self, model_id: str, name: str, source: str | None, dim: int, open_model: Callable[[], ModelAdapter]
    ) -> None:
        self._id, self._name, self._source, self._dim = model_id, name, source, dim
        self._open_model = open_model
        self._lock = threading.Lock()
        self._opened: ModelAdapter | None = None
        self._failure: ModelError | None = None
        self._tried = 0.0

    @property
    def hidden_dim(self) -> int:
        return self._dim

    @property
    def name(self) -> str:
        return self._name

    @property
    def source(self) -> str | None:
        return self._source

    def model_id(self) -> str:
        """That of the model it stands for."""
        return self._id

    @property
    def is_there(self) -> bool:
        """Whether the model was opened."""
        return self._opened is not None

    def encode(self, text: str) -> Vector:
        return self._model().encode(text)

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """Encode several texts: float32 ``(len(texts), hidden_dim)``."""
        return self._model().encode_batch(texts)

    def _model(self) -> ModelAdapter:
        with self._lock:
            if self._opened is not None:
                return self._opened
            if self._failure is not None and time.monotonic() - self._tried < AGAIN_SECONDS:
                raise ModelError(str(self._failure)) from self._failure
            try:
                opened = self._open_model()
            except ModelError as exc:
                self._failure, self._tried = exc, time.monotonic()
                raise
            if opened.model_id() != self._id:
                opened.close()
                self._tried = time.monotonic()
                self._failure = ModelMismatchError(
                    f"{self._name} is another model by now ({opened.model_id()}); move the bank to it with: membank "
                    f"reencode '{self._source}'"
                )
                raise self._failure
            self._opened = opened
            return opened

    def close(self) -> None:
        """Close the model, where it was opened."""
        if self._opened is not None:
            self._opened.close()
