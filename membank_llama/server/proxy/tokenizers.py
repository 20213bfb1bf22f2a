"""Tokens of the models that answer: counted by their own GGUF where that is at hand, or else estimated upwards.

A vocabulary is read in the background the first time a model is asked; until then, and where there is no file, a token
is taken to be three bytes, and whatever is written as a control token of any family counts as one.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.adapters.llama_cpp.trial_load import prove
from membank_llama.core.bounded import keep_newest
from membank_llama.core.control_tokens import COMMON, FORMS
from membank_llama.core.errors import MembankError
from membank_llama.core.types import TokenCounter

logger = logging.getLogger("membank_llama")

BYTES_A_TOKEN = 3
MOST_VOCABULARIES = 8
MOST_OPENING = 4
MOST_NAMES = 256
AGAIN_SECONDS = 60.0
"""How long a model that could not be found or read is not looked for again."""


COMMON_CONTROLS: tuple[str | re.Pattern[str], ...] = (*COMMON, *FORMS)
"""What may be a control token of some model."""


@dataclass(frozen=True)
class Estimated:
    """A tokenizer in the place of one that is not at hand."""

    n_ctx: int
    controls: Sequence[str | re.Pattern[str]] = COMMON_CONTROLS

    def count(self, text: str) -> int:
        """Tokens of a text, rather more than fewer."""
        return -(-len(text.encode("utf-8", "replace")) // BYTES_A_TOKEN)

    def is_clean(self, text: str) -> bool:
        """Whether none of the known control tokens is in the text."""
        marks = (mark for mark in self.controls if isinstance(mark, str))
        forms = (form for form in self.controls if isinstance(form, re.Pattern))
        return not (any(mark in text for mark in marks) or any(form.search(text) for form in forms))


class Vocabularies:
    """The tokenizers of the models that were asked last.

    A name is a client's: what cannot be found or read takes no place, and is looked for again after a while.

    Args:
        find: the GGUF of a model's name; None where it is not on this machine.
    """

    def __init__(self, find: Callable[[str], Path | None]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._places: OrderedDict[str, Path] = OrderedDict()
        self._opened: OrderedDict[Path, FileVocabulary] = OrderedDict()
        self._opening: dict[str, threading.Thread] = {}
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._closed = False

    def get(self, model: str, n_ctx: int) -> TokenCounter:
        """What counts tokens for a model with a context of so many."""
        with self._lock:
            path = self._places.get(model)
            exact = None if path is None else self._opened.get(path)
            if exact is not None and path is not None:
                self._opened.move_to_end(path)
                self._places.move_to_end(model)
            elif self._may_open(model):
                thread = threading.Thread(target=self._open, args=(model,), name="membank-vocabulary", daemon=True)
                self._opening[model] = thread
                thread.start()
        return Estimated(n_ctx) if exact is None else exact.with_context(n_ctx)

    def _may_open(self, model: str) -> bool:
        if self._closed or model in self._opening or len(self._opening) >= MOST_OPENING:
            return False
        return time.monotonic() - self._failed.get(model, -AGAIN_SECONDS) >= AGAIN_SECONDS

    def _open(self, model: str) -> None:
        path, exact = None, None
        try:
            path = self._find(model)
            with self._lock:
                exact = None if path is None else self._opened.get(path)
            if path is not None and exact is None:
                prove(path, vocabulary_only=True)
                exact = FileVocabulary(path)
        except (MembankError, ValueError, OSError) as exc:
            logger.warning("tokens of %.200s are estimated: %s", model, exc)
        with self._lock:
            del self._opening[model]
            if path is None or exact is None:
                keep_newest(self._failed, model, time.monotonic(), MOST_NAMES)
            else:
                keep_newest(self._places, model, path, MOST_NAMES)
                # what is let go is freed with the last request that counts by it
                keep_newest(self._opened, path, exact, MOST_VOCABULARIES)

    def close(self) -> None:
        """Wait for those that are being read, and free all."""
        with self._lock:
            self._closed = True
            opening = list(self._opening.values())
        for thread in opening:
            thread.join()
        with self._lock:
            for exact in self._opened.values():
                exact.close()
            self._opened.clear()
