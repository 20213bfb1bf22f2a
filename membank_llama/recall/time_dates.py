"""Dates and years in digits, which no language owns; read before and after the languages."""

from __future__ import annotations

from .time_language import DIGITS, Language, Phrase
from .time_resolvers import calendar
from .time_words import WHEN
from .time_words_romance import FRENCH, PORTUGUESE, SPANISH

_FREE, _END = r"(?<!\d)(?<!\d[-./])", r"(?!\d|[-./]\d)"
_NOT_COUNTED = r"(?! (?:jahren?|ans|anos|euros?|meter|metern|metres|metros|km)\b)"

DATES = Language(
    words={},
    digits={**DIGITS, "month": r"\d{1,2}"},
    phrases=(
        Phrase(calendar, rf"{_FREE}<year>-<month>-<day>{_END}"),
        # no part of an address of a page
        Phrase(calendar, r"(?<![\da-z/])<year>/<month>/<day>(?![\da-z/])"),
        Phrase(calendar, rf"{_FREE}<day>\. ?<month>\. ?<year>{_END}"),
        # in America 8/5/2023 is in August
        Phrase(calendar, rf"{_FREE}<day>/<month>/<year>{_END}", unsure=True),
    ),
    common=f"{FRENCH.common} {SPANISH.common} {PORTUGUESE.common}",
)
"""Dates of digits alone."""

YEARS = Language(
    words={},
    phrases=(
        Phrase(
            calendar,
            rf"\b(?:{WHEN})[ -](?:early |late |mid-?)?<year>\b",
        ),
        Phrase(calendar, rf"\b(?:jahr|jahre|jahres|seit|vor|nach|anfang|mitte|ende|bis) <year>\b{_NOT_COUNTED}"),
        Phrase(
            calendar,
            rf"\b(?:en|em|de|del|annee|ano|depuis|avant|apres|debut|fin|desde|hasta|ate) <year>\b{_NOT_COUNTED}",
        ),
    ),
)
"""Years of digits, behind a word that makes them one; read last."""
