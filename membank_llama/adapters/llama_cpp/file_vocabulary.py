"""`FileVocabulary`: the tokenizer of a GGUF whose weights stay on the disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from membank_llama.core.types import TokenCounter
from membank_llama.gguf.checks import check_loadable

from .loaded_model import quiet
from .private_api import vocabulary_of_file
from .vocabulary import Vocabulary


class FileVocabulary:
    """The tokenizer of a GGUF, opened for its vocabulary alone."""

    def __init__(self, path: Path) -> None:
        check_loadable(path)
        with quiet():
            self._model = vocabulary_of_file(path)
        # of a Llama it asks what the model alone knows
        self._vocabulary = Vocabulary(self._model)

    @cached_property
    def controls(self) -> tuple[str, ...]:
        """See `Vocabulary`."""
        return self._vocabulary.controls

    def with_context(self, n_ctx: int) -> TokenCounter:
        """The same for a context of so many tokens."""
        return _WithContext(self, n_ctx)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return self._vocabulary.count(text)

    def is_clean(self, text: str) -> bool:
        """See `Vocabulary`."""
        return self._vocabulary.is_clean(text)

    def close(self) -> None:
        """Free it."""
        self._model.close()


@dataclass(frozen=True)
class _WithContext:
    _vocabulary: FileVocabulary
    n_ctx: int

    @property
    def controls(self) -> Sequence[str | re.Pattern[str]]:
        return self._vocabulary.controls

    def count(self, text: str) -> int:
        return self._vocabulary.count(text)

    def is_clean(self, text: str) -> bool:
        return self._vocabulary.is_clean(text)
