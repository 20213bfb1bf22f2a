"""Long texts cut into passages.

A text is cut where it hurts least: between paragraphs, then sentences, then words, and within a word only where a
single one is too long. Passages in order hold every character of the text but white space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Spans

MAX_CHARS = 1200
LONG = 1600
"""Characters above which a memory is encoded in passages; up to there one vector holds it."""

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
# the look behind keeps a long row of dots from being tried again from each of them
_SENTENCE = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’»)\]]*\s+|[。！？]+[」』”’）]*\s*")
_SPACE = re.compile(r"\s+")
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_JOINER = "\u200d"


def clean_text(text: str) -> str:
    """The text with U+FFFD in place of NUL and lone surrogates, which cannot be stored."""
    return UNSTORABLE.sub("\ufffd", text)


def split_passages(text: str, max_chars: int = MAX_CHARS) -> list[str]:
    """Cut a text into passages of at most `max_chars` characters, none of them empty or blank.

    Neighbouring paragraphs (or sentences, or words) stay together as long as they fit.

    Raises:
        InvalidInputError: max_chars below 1.
    """
    if max_chars < 1:
        raise InvalidInputError(f"max_chars must be at least 1, got {max_chars}")
    spans = _pack(text, 0, len(text), max_chars, (_PARAGRAPH, _SENTENCE, _SPACE))
    return [text[start:end] for start, end in spans]


def clean_passages(text: str) -> list[str]:
    """The passages of a text that was said, each of which can be stored."""
    return split_passages(clean_text(text))


def passage_spans(text: str) -> Spans:
    """The passages in which a memory is encoded: the whole where it is no longer than `LONG`."""
    if len(text) <= LONG:
        return ((0, len(text)),)
    starts = [0, *(start for start, _ in _pack(text, 0, len(text), MAX_CHARS, (_PARAGRAPH, _SENTENCE, _SPACE))[1:])]
    return tuple(zip(starts, [*starts[1:], len(text)], strict=True))


def passages_of_texts(texts: Sequence[str]) -> tuple[list[Spans], list[str]]:
    """The passages of each text, and what is encoded of all of them in order: the text itself, or its passages without
    the white space around them."""
    spans = [passage_spans(text) for text in texts]
    encoded = [
        text if len(cuts) == 1 else text[start:stop].strip()
        for text, cuts in zip(texts, spans, strict=True)
        for start, stop in cuts
    ]
    return spans, encoded


def _pack(text: str, start: int, end: int, limit: int, bounds: tuple[re.Pattern[str], ...]) -> list[tuple[int, int]]:
    """Spans of text[start:end] without outer white space, each at most `limit` long."""
    start, end = _trim(text, start, end)
    if start == end:
        return []
    if end - start <= limit:
        return [(start, end)]
    if not bounds:
        return _cut(text, start, end, limit)
    cuts = [match.end() for match in bounds[0].finditer(text, start, end)]
    spans: list[tuple[int, int]] = []
    for piece in zip([start, *cuts], [*cuts, end], strict=True):
        low, high = _trim(text, *piece)
        if low == high:
            continue
        if spans and high - spans[-1][0] <= limit:
            spans[-1] = (spans[-1][0], high)
        elif high - low <= limit:
            spans.append((low, high))
        else:
            spans += _pack(text, low, high, limit, bounds[1:])
    return spans


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _cut(text: str, start: int, end: int, limit: int) -> list[tuple[int, int]]:
    """Cut one long word, not within a letter and its accents or a joined emoji where that can be helped."""
    spans = []
    while end - start > limit:
        cut = start + limit
        while cut > start + max(1, limit // 2) and _belongs_to_the_left(text, cut):
            cut -= 1
        if _belongs_to_the_left(text, cut):
            cut = start + limit
        spans.append((start, cut))
        start = cut
    return [*spans, (start, end)]


def _belongs_to_the_left(text: str, position: int) -> bool:
    letter = text[position]
    joined = _JOINER in (letter, text[position - 1])
    return joined or unicodedata.category(letter).startswith("M") or "\U0001f3fb" <= letter <= "\U0001f3ff"
