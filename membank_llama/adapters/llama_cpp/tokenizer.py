"""`Tokenizer`: text to tokens by llama.cpp, in pieces that its pre-tokenizers can bear.

Many pre-tokenizers are regular expressions that recurse once a character: one word, number or row of spaces of some ten
thousand characters ends the process, in others it takes time that grows with the square. So a run without a break is
handed over in pieces, cut where a word ends if one does nearby, and never within a control token. A text without such a
run goes over whole, and its tokens are what they always were. Everything that asks llama.cpp for tokens asks here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import llama_cpp

from membank_llama.core.errors import EncodingError

MOST_RUN = 2048
"""Characters without white space, or of white space alone, that a pre-tokenizer is given at once. With eight megabytes
of stack the worst of them dies at some 25,000; threads on other systems have one megabyte or less."""
MOST_DIGITS = 255
"""Of a number; a multiple of three, so that digits taken in groups from the left stay in their groups."""
MOST_STRETCH = 8192
"""Of a stretch with neither a line break nor ASCII punctuation: a few take words and spaces together."""
LONGEST_TOKEN = 1024
"""Bytes that a token is thought to stand for at most, whatever a file says."""

_NEARBY = 512
_LONGEST_MARK = 256
_BLANK = r" \t\n\r\f\v"
_POINT = r"\t\n\r\f\v!-/:-@\[-`{-~"
# every alternative begins only where a run does, which keeps the search linear
_LONG = re.compile(
    rf"(?<![^{_BLANK}])[^{_BLANK}]{{{MOST_RUN + 1}}}|(?<![{_BLANK}])[{_BLANK}]{{{MOST_RUN + 1}}}"
    rf"|(?<!\d)\d{{{MOST_DIGITS + 1}}}|(?<![^{_POINT}])[^{_POINT}]{{{MOST_STRETCH + 1}}}"
)
_RUN = re.compile(rf"[^{_BLANK}]+|[{_BLANK}]+")
_STRETCH = re.compile(rf"[^{_POINT}]+")
_DIGITS = re.compile(r"\d+")
_WORD_END = re.compile(r"(?<=\w)(?!\w)")
_MARKED = (
    llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
)


def needs_cuts(text: str) -> bool:
    """Whether a text has a run that is too long to be tokenized at once."""
    return len(text) > MOST_DIGITS and _LONG.search(text) is not None


class Tokenizer:
    """The tokenizer of one vocabulary.

    Args:
        vocab: gives the native vocabulary; asked on every use, as it may be closed by then.
    """

    def __init__(self, vocab: Callable[[], Any]) -> None:
        self._vocab = vocab

    @cached_property
    def _is_bpe(self) -> bool:
        return bool(llama_cpp.llama_vocab_type(self._vocab()) == llama_cpp.LLAMA_VOCAB_TYPE_BPE)

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest token: fewer than so many times less than a text's bytes it can't be in tokens."""
        vocab = self._vocab()
        texts = (llama_cpp.llama_vocab_get_text(vocab, n) for n in range(llama_cpp.llama_vocab_n_tokens(vocab)))
        return max(1, min(LONGEST_TOKEN, max((len(text) for text in texts if text), default=1)))

    @cached_property
    def _marks(self) -> re.Pattern[str] | None:
        """What finds control tokens in a text."""
        vocab = self._vocab()
        found = set()
        for token in range(llama_cpp.llama_vocab_n_tokens(vocab)):
            if llama_cpp.llama_vocab_get_attr(vocab, token) & _MARKED:
                text = llama_cpp.llama_vocab_get_text(vocab, token).decode("utf-8", "replace")
                if 1 < len(text) <= _LONGEST_MARK:
                    found.add(text)
        ordered = sorted(found, key=lambda mark: (-len(mark), mark))
        return re.compile("|".join(re.escape(mark) for mark in ordered)) if ordered else None

    def tokenize(self, text: str, *, add: bool, specials: bool) -> list[int]:
        """Token ids; `add` puts BOS and the like around, `specials` reads control tokens in the text as such.

        Raises:
            EncodingError: llama.cpp refused the text.
        """
        vocab, pieces = self._vocab(), list(self.pieces(text))
        if len(pieces) == 1:
            return _native(vocab, text, add, specials)
        tokens = self.framing(first=True) if add else []
        for piece in pieces:
            tokens += _native(vocab, piece, False, specials)
        return tokens + self.framing(first=False) if add else tokens

    def pieces(self, text: str) -> Iterator[str]:
        """A text cut wherever a run in it is too long; whole, where the vocabulary has no pre-tokenizer."""
        if not (needs_cuts(text) and self._is_bpe):
            yield text
            return
        at = 0
        for cut in sorted({self._outside_marks(text, cut) for cut in _cuts(text)}):
            if cut > at:
                yield text[at:cut]
                at = cut
        yield text[at:]

    def framing(self, *, first: bool) -> list[int]:
        """The token that a whole text begins or ends with, where the vocabulary wants one."""
        vocab = self._vocab()
        wanted = llama_cpp.llama_vocab_get_add_bos if first else llama_cpp.llama_vocab_get_add_eos
        token = int((llama_cpp.llama_vocab_bos if first else llama_cpp.llama_vocab_eos)(vocab))
        return [token] if wanted(vocab) and token >= 0 else []

    def _outside_marks(self, text: str, cut: int) -> int:
        if self._marks is None:
            return cut
        start = max(0, cut - _LONGEST_MARK)
        for match in self._marks.finditer(text, start, cut + _LONGEST_MARK):
            if match.start() >= cut:
                break
            if match.end() > cut:
                return match.start()
        return cut


def _cuts(text: str) -> Iterator[int]:
    """Where a text is to be cut, not in order."""
    for pattern, most in ((_RUN, MOST_RUN), (_STRETCH, MOST_STRETCH)):
        for run in pattern.finditer(text):
            at, end = run.span()
            while end - at > most:
                at = _cut_near(text, at + most)
                yield at
    for number in _DIGITS.finditer(text):
        yield from range(number.start() + MOST_DIGITS, number.end(), MOST_DIGITS)


def _cut_near(text: str, high: int) -> int:
    """The last place before `high` where a word ends, if there is one not far away."""
    last = high
    for match in _WORD_END.finditer(text, high - _NEARBY, high):
        last = match.start()
    return last


def _native(vocab: Any, text: str, add: bool, specials: bool) -> list[int]:
    data = text.encode("utf-8", "replace")
    size = len(data) + 8
    for _ in range(2):
        buffer = (llama_cpp.llama_token * size)()
        count = llama_cpp.llama_tokenize(vocab, data, len(data), buffer, size, add, specials)
        if count >= 0:
            return list(buffer[:count])
        size = -count
    raise EncodingError(f"the model's tokenizer refused a text of {len(data)} bytes")
