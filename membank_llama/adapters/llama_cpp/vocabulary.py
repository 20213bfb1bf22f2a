"""`Vocabulary`: what injection needs of a model's tokenizer.

Prompts are tokenized with special tokens parsed, so a recalled text that spells a control token would become one.
Here is which texts those are, and whether a text is free of them.
"""

from __future__ import annotations

import llama_cpp

from .tokenizer import Tokenizer, needs_cuts

SPECIAL = (
    llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
)


class Vocabulary:
    """The tokenizer of a loaded `llama_cpp.Llama`, which it keeps alive."""

    def __init__(self, llm: llama_cpp.Llama) -> None:
        self._llm = llm
        vocab = llama_cpp.llama_model_get_vocab(llm.model)
        self.tokenizer = Tokenizer(lambda: llama_cpp.llama_model_get_vocab(llm.model))
        self._control: dict[int, str] = {}
        for token in range(llm.n_vocab()):
            attr = int(llama_cpp.llama_vocab_get_attr(vocab, token))
            if attr & SPECIAL:
                text = llama_cpp.llama_vocab_get_text(vocab, token).decode("utf-8", "replace")
                # words that a vocabulary merely lists apart (digits, runs of spaces) have no power in a prompt
                if attr & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL or (text[:1] in "<[" and text[-1:] in ">]"):
                    self._control[token] = text

    @property
    def n_ctx(self) -> int:
        """Tokens that prompt and reply share."""
        return int(self._llm.n_ctx())

    @property
    def controls(self) -> tuple[str, ...]:
        """The texts that become control tokens when a prompt is tokenized."""
        return tuple(text for text in self._control.values() if text.strip())

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; `special` parses control tokens as prompts do."""
        if not text:
            return []
        # by the Llama's own method: it may have been given another tokenizer
        pieces = (piece.encode("utf-8", "replace") for piece in self.tokenizer.pieces(text))
        return [token for piece in pieces for token in self._llm.tokenize(piece, add_bos=False, special=special)]

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.tokens(text))

    def is_clean(self, text: str) -> bool:
        """Whether tokenizing the text as part of a prompt gives no control token."""
        if needs_cuts(text) and any(mark in text for mark in self.controls):
            # here it is tokenized in pieces: what a cut may have parted is still one text to whoever reads it whole
            return False
        return self._control.keys().isdisjoint(self.tokens(text, special=True))

    def pieces(self, tokens: list[int]) -> list[bytes]:
        """The bytes of each token, control tokens spelled out."""
        return [self._llm.detokenize([token], special=True) for token in tokens]
