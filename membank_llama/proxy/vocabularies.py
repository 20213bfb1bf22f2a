"""Tokens of the models that answer: counted by their own GGUF where that is at hand, or else estimated upwards.

A vocabulary is read in the background the first time a model is asked; until then, and where there is no file, a token
is taken to be three bytes, and the control tokens are those of the chat formats in use.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import llama_cpp
from llama_cpp._internals import LlamaModel

from ..capture import quiet
from ..errors import MembankError
from ..gguf_checks import check_loadable
from ..reminder import Tokens
from ..trial import prove
from ..vocabulary import Vocabulary

logger = logging.getLogger("membank_llama")

BYTES_A_TOKEN = 3
MOST_VOCABULARIES = 8

COMMON_CONTROLS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|eom_id|>", "<|python_tag|>", "<|begin_of_text|>", "<|end_of_text|>", "<start_of_turn>", "<end_of_turn>",
    "<bos>", "<eos>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "<<SYS>>", "<</SYS>>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
    "<|start|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>", "<tool_call>", "</tool_call>",
    "<tool_response>", "</tool_response>", "<think>", "</think>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>",
)  # fmt: skip


@dataclass(frozen=True)
class Estimated:
    """A tokenizer in the place of one that is not at hand."""

    n_ctx: int
    controls: Sequence[str] = COMMON_CONTROLS

    def count(self, text: str) -> int:
        """Tokens of a text, rather more than fewer."""
        return -(-len(text.encode("utf-8", "replace")) // BYTES_A_TOKEN)

    def is_clean(self, text: str) -> bool:
        """Whether none of the known control tokens is in the text."""
        return not any(mark in text for mark in self.controls)


class Exact:
    """The tokenizer of a GGUF, opened for its vocabulary alone."""

    def __init__(self, path: Path) -> None:
        check_loadable(path)
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        with quiet():
            model = cast(Any, LlamaModel(path_model=str(path), params=params, verbose=False))
        self._model = model
        # of a Llama it asks what the model alone knows
        self._vocabulary = Vocabulary(model)

    @cached_property
    def controls(self) -> tuple[str, ...]:
        """See `Vocabulary`."""
        return self._vocabulary.controls

    def with_context(self, n_ctx: int) -> Tokens:
        """The same for a context of so many tokens."""
        return _Sized(self, n_ctx)

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
class _Sized:
    _exact: Exact
    n_ctx: int

    @property
    def controls(self) -> Sequence[str]:
        return self._exact.controls

    def count(self, text: str) -> int:
        return self._exact.count(text)

    def is_clean(self, text: str) -> bool:
        return self._exact.is_clean(text)


class Vocabularies:
    """The tokenizers of all models that were asked.

    Args:
        find: the GGUF of a model's name; None where it is not on this machine.
    """

    def __init__(self, find: Callable[[str], Path | None]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._opened: dict[str, Exact | None] = {}
        self._opening: list[threading.Thread] = []

    def get(self, model: str, n_ctx: int) -> Tokens:
        """What counts tokens for a model with a context of so many."""
        with self._lock:
            if model not in self._opened and len(self._opened) < MOST_VOCABULARIES:
                self._opened[model] = None
                thread = threading.Thread(target=self._open, args=(model,), name="membank-vocabulary", daemon=True)
                self._opening = [other for other in self._opening if other.is_alive()] + [thread]
                thread.start()
            exact = self._opened.get(model)
        return Estimated(n_ctx) if exact is None else exact.with_context(n_ctx)

    def _open(self, model: str) -> None:
        try:
            path = self._find(model)
            if path is not None:
                prove(path, vocabulary_only=True)
            exact = None if path is None else Exact(path)
        except (MembankError, ValueError, OSError) as exc:
            logger.warning("tokens of %s are estimated: %s", model, exc)
            return
        with self._lock:
            self._opened[model] = exact

    def close(self) -> None:
        """Wait for those that are being read, and free all."""
        for thread in self._opening:
            thread.join()
        with self._lock:
            for exact in self._opened.values():
                if exact is not None:
                    exact.close()
            self._opened.clear()
