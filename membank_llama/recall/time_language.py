"""How a language is told to time expressions: its words, and the phrases that they stand in.

A phrase is a pattern whose groups are written ``<month>`` or ``<count>``; each stands for any of the language's words
of that name (or for a number in digits), and its resolver is given the numbers that they mean. Patterns are written for
texts as `plain_text` gives them, and have no part that repeats without a bound: a text of any length is read once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from .time_resolvers import Resolver

MASK = "|"
"""Stands in a text where an expression was read, so that a date is not read again as its month."""
ACCENT = "´"
"""Stands among the words of a text that had accents other than dots."""

DIGITS: Mapping[str, str] = {"year": r"(?:19|20)\d\d", "day": r"\d{1,2}", "count": r"\d{1,3}"}
"""Parts that may be written in digits, and how."""
WAKING = ("month", "short", "weekday", "season", "unit", "period", "daysback")
"""Of these parts every phrase has one, but for those that digits alone make."""

_NUMERALS = str.maketrans("〇零一二三四五六七八九", "00123456789")
WORD = re.compile(r"[^\W\d_]+")
"""What wakes a language, or shows it."""


class Phrase(NamedTuple):
    """One way to name a time.

    `said` are parts that the phrase has without a word for them; `unsure` ones are read only where the rest of the text
    looks as if it were of the language.
    """

    resolve: Resolver
    pattern: str
    said: Mapping[str, int] = {}
    unsure: bool = False


@dataclass(frozen=True)
class Language:
    """The words for parts of times, by the name of the part, and the phrases, the most exact first.

    `digits` says which parts may be written in digits, `common` by which words a text shows its language.
    """

    words: Mapping[str, Mapping[str, int]]
    phrases: tuple[Phrase, ...]
    digits: Mapping[str, str] = field(default_factory=lambda: DIGITS)
    common: str = ""

    @cached_property
    def patterns(self) -> tuple[tuple[re.Pattern[str], Phrase], ...]:
        """Compiled when the language is first met."""
        return tuple((re.compile(re.sub(r"<(\w+)>", self._group, one.pattern)), one) for one in self.phrases)

    @cached_property
    def waking(self) -> frozenset[str]:
        """Words of which one stands in every phrase."""
        named = [words for name in WAKING for words in self.words.get(name, ())]
        return frozenset(max(WORD.findall(words), key=len) for words in named)

    @cached_property
    def common_words(self) -> frozenset[str]:
        """`common`, word by word."""
        return frozenset(self.common.split())

    def said(self, match: re.Match[str], phrase: Phrase) -> Mapping[str, int]:
        """The parts that a match names."""
        return {**phrase.said, **{name: self._value(name, text) for name, text in match.groupdict().items() if text}}

    def _value(self, name: str, text: str) -> int:
        found = self.words.get(name, {}).get(text)
        return _number(text) if found is None else found

    def _group(self, marker: re.Match[str]) -> str:
        name = marker[1]
        choices = [re.escape(word) for word in sorted(self.words.get(name, ()), key=len, reverse=True)]
        return f"(?P<{name}>{'|'.join([*filter(None, [self.digits.get(name)]), *choices])})"


def _number(text: str) -> int:
    """Of digits, or of Chinese numerals up to 99."""
    tens, ten, ones = text.translate(_NUMERALS).partition("十")
    return 10 * int(tens or 1) + int(ones or 0) if ten else int(tens)


def spelled(numbered: str, first: int = 1) -> dict[str, int]:
    """Words and their numbers: those between bars count up from `first`; ``_`` stands for a space in a word."""
    return words_for(dict(enumerate(numbered.split("|"), first)))


def words_for(numbers: Mapping[int, str]) -> dict[str, int]:
    """The same, of numbers and the words for them."""
    return {word.replace("_", " "): number for number, words in numbers.items() for word in words.split()}
