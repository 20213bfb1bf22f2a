"""Time expressions in a question, resolved to spans: "last May", "vor zwei Wochen", "el 8 de mayo de 2023", "昨晚".

English, German, French, Spanish, Portuguese, Chinese and Japanese. Words and phrases are tables (time_words.py and
those beside it), what they come to is one set of resolvers (time_resolvers.py). Days are the person's (days.py). Of a
question without a word for a time no pattern is tried; what no pattern knows says nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

import numpy as np
import numpy.typing as npt

from membank_llama.core.days import instant_of, wall_clock
from membank_llama.core.letters import without_heaps

from .time_dates import DATES, YEARS
from .time_language import ACCENT, MASK, WORD, Language
from .time_words import ENGLISH, GERMAN
from .time_words_asia import CHINESE, HAN, JAPANESE
from .time_words_romance import DUTCH, FRENCH, PORTUGUESE, SPANISH

DAY = 86400.0

_SPACED = (ENGLISH, GERMAN, FRENCH, SPANISH, PORTUGUESE)
_UNSPACED = (HAN, CHINESE, JAPANESE)
LANGUAGES = (DATES, *_UNSPACED, *_SPACED, YEARS)
"""In the order in which they are read."""

_WAKING = frozenset().union(*(language.waking for language in _SPACED))
_DIGIT = re.compile(r"\d")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
# all but the cedilla: without it, março is a man called Marco
_ACCENTS = dict.fromkeys([*range(0x300, 0x327), *range(0x328, 0x370)])
_SIGNS = str.maketrans({"’": "'", MASK: ","})
_ACUTE = re.compile("[\u0300-\u0302\u0327]")


@dataclass(frozen=True)
class Span:
    """From `since` to before `until`, seconds since 1970."""

    since: float
    until: float

    def closeness(self, times: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """How near to the span each time lies: 1 within, falling outside over a third of its length and two days.

        What is told soon after an event belongs to it more than what was told before.
        """
        late, early = times - self.until, self.since - times
        reach = (self.until - self.since) / 3 + 2 * DAY
        outside = np.where(late >= 0, 0.6, 0.3) * np.exp(-np.maximum(late, early) / reach)
        return np.where((late < 0) & (early <= 0), 1.0, outside).astype(np.float32)


def spans(text: str, now: float, zone: tzinfo | None = None) -> list[Span]:
    """The spans that a text names, none where it names none.

    Args:
        now: when it is asked, seconds since 1970.
        zone: whose days are meant; None for this machine's.
    """
    plain, words = plain_text(text)
    found: list[Span] = []
    for language in _heard(plain, words):
        for pattern, phrase in language.patterns:
            if pattern.search(plain) is None or (phrase.unsure and not _looks(language, words)):
                continue
            for match in pattern.finditer(plain):
                try:
                    today = wall_clock(now, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
                    start, end = phrase.resolve(language.said(match, phrase), today)
                    found.append(Span(instant_of(start, zone), instant_of(end, zone)))
                except (ValueError, OverflowError, OSError):
                    # the 31st of February, or a year before the first
                    continue
            plain = pattern.sub(MASK, plain)
    return found


def plain_text(text: str) -> tuple[str, list[str]]:
    """A text as patterns read it, and its words.

    Small letters without accents, full-width letters and digits as others, single spaces.
    """
    accented = False
    if not text.isascii():
        text = unicodedata.normalize("NFKD", without_heaps(text))
        accented = bool(_ACUTE.search(text))
        text = unicodedata.normalize("NFC", text.translate(_ACCENTS))
    plain = " ".join(text.translate(_SIGNS).casefold().split())
    return plain, WORD.findall(plain) + [ACCENT] * accented


def _heard(plain: str, words: Sequence[str]) -> list[Language]:
    """The languages that may name a time in a text."""
    known = _WAKING.intersection(words)
    digits, unspaced = _DIGIT.search(plain), not plain.isascii() and _EAST_ASIAN.search(plain)
    heard = [DATES] if digits else []
    heard += _UNSPACED if unspaced else ()
    spaced = [language for language in _SPACED if not known.isdisjoint(language.waking)] if known else []
    # "mai" is in three of them
    heard += sorted(spaced, key=lambda language: -_common(language, words))
    return [*heard, YEARS] if digits else heard


def _looks(language: Language, words: Sequence[str]) -> bool:
    """Whether the text looks as if it were of the language rather than of one whose words are alike."""
    others = [other for other in (ENGLISH, GERMAN, DUTCH) if other is not language]
    return _common(language, words) > max(_common(other, words) for other in others)


def _common(language: Language, words: Sequence[str]) -> int:
    return sum(word in language.common_words for word in words)
