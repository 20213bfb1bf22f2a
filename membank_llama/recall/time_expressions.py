"""Time expressions in a question, resolved to spans: "last May", "two weeks ago", "on 8 May 2023", "in 2022".

English, as the stop words are. What is said without a year ("in May", "on Friday", "last summer") means the latest one
that has begun by `now`; days are the person's (days.py), weeks begin on Monday. A text is scanned once per pattern;
what no pattern knows says nothing. Resolvers count in wall-clock time, which `spans` turns into instants.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

import numpy as np
import numpy.typing as npt

from membank_llama.core.days import instant_of, wall_clock

DAY = 86400.0

Walls = Iterator[tuple[datetime, datetime]]
"""Beginning and end of spans, as the clock on the wall says them."""

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SEASONS = {"winter": 12, "spring": 3, "summer": 6, "autumn": 9, "fall": 9}
NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "couple": 2, "few": 3, "several": 4,
}  # fmt: skip

_MONTH = "(" + "|".join(f"{name[:3]}(?:{name[3:]})?" if len(name) > 3 else name for name in (*MONTHS, "sept")) + r")\.?"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"((?:19|20)\d\d)"
_COUNT = r"(\d{1,3}|" + "|".join(NUMBERS) + r")(?: of)?"
_UNIT = r"(day|week|month|year)s?"
_NAMED = "|".join((*WEEKDAYS, "weekend", "week", "month", "year", "night"))


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
    found: list[Span] = []
    rest = " ".join(text.lower().split())
    for pattern, resolve in _PATTERNS:
        for match in pattern.finditer(rest):
            try:
                today = wall_clock(now, zone).replace(hour=0, minute=0, second=0, microsecond=0)
                found += [Span(instant_of(start, zone), instant_of(end, zone)) for start, end in resolve(match, today)]
            except (ValueError, OverflowError, OSError):
                # the 31st of February, or a year before the first
                continue
        # a date is not read again as a month
        rest = pattern.sub(" | ", rest)
    return found


def _span(start: datetime, end: datetime) -> Walls:
    yield start, end


def _month(name: str) -> int:
    return next(n for n, month in enumerate(MONTHS, 1) if month.startswith(name[:3]))


def _at(year: int, month: int = 1, day: int = 1) -> datetime:
    return datetime(year, month, day)


def _months(start: datetime, count: int) -> datetime:
    """The first of the month that many months later."""
    number = start.year * 12 + start.month - 1 + count
    return _at(number // 12, number % 12 + 1)


def _one_day(start: datetime) -> Walls:
    return _span(start, start + timedelta(days=1))


def _day_month_year(match: re.Match[str], _: datetime) -> Walls:
    return _one_day(_at(int(match[3]), _month(match[2]), int(match[1])))


def _month_day_year(match: re.Match[str], _: datetime) -> Walls:
    return _one_day(_at(int(match[3]), _month(match[1]), int(match[2])))


def _iso(match: re.Match[str], _: datetime) -> Walls:
    return _one_day(_at(int(match[1]), int(match[2]), int(match[3])))


def _month_year(match: re.Match[str], _: datetime) -> Walls:
    start = _at(int(match[2]), _month(match[1]))
    return _span(start, _months(start, 1))


def _latest(today: datetime, month: int, day: int = 1) -> datetime:
    start = _at(today.year, month, day)
    return start if start <= today else _at(today.year - 1, month, day)


def _day_month(match: re.Match[str], today: datetime) -> Walls:
    return _one_day(_latest(today, _month(match[2]), int(match[1])))


def _month_day(match: re.Match[str], today: datetime) -> Walls:
    return _one_day(_latest(today, _month(match[1]), int(match[2])))


def _month_alone(match: re.Match[str], today: datetime) -> Walls:
    start = _latest(today, _month(match[1]))
    if match[0].startswith("last") and start.month == today.month:
        # in May, "last May" is not this one
        start = _months(start, -12)
    return _span(start, _months(start, 1))


def _year(match: re.Match[str], _: datetime) -> Walls:
    return _span(_at(int(match[1])), _at(int(match[1]) + 1))


def _season(match: re.Match[str], today: datetime) -> Walls:
    month = SEASONS[match[1]]
    start = _at(int(match[2]), month) if match[2] else _latest(today, month)
    return _span(start, _months(start, 3))


def _ago(match: re.Match[str], today: datetime) -> Walls:
    count = int(match[1]) if match[1].isdigit() else NUMBERS[match[1]]
    if match[2] == "day":
        return _one_day(today - timedelta(days=count))
    if match[2] == "week":
        return _span(today - timedelta(days=7 * count + 3), today - timedelta(days=7 * count - 4))
    if match[2] == "month":
        middle = today - timedelta(days=30.4 * count)
        return _span(middle - timedelta(days=15), middle + timedelta(days=15))
    return _span(_at(today.year - count), _at(today.year - count + 1))


def _past(match: re.Match[str], today: datetime) -> Walls:
    """ "in the last three weeks"."""
    count = int(match[1]) if match[1].isdigit() else NUMBERS[match[1]]
    days = {"day": 1, "week": 7, "month": 30.4, "year": 365.25}[match[2]]
    return _span(today - timedelta(days=count * days), today + timedelta(days=1))


def _named(match: re.Match[str], today: datetime) -> Walls:
    """ "last week", "this month", "last Friday", "on Friday", "this weekend"."""
    last, unit = match[1] == "last", match[2]
    if unit in WEEKDAYS:
        back = (today.weekday() - WEEKDAYS.index(unit)) % 7 or (7 if last else 0)
        return _one_day(today - timedelta(days=back))
    if unit == "weekend":
        saturday = today - timedelta(days=(today.weekday() - 5) % 7 + (7 if last and today.weekday() >= 5 else 0))
        return _span(saturday, saturday + timedelta(days=2))
    if unit == "week":
        monday = today - timedelta(days=today.weekday() + (7 if last else 0))
        return _span(monday, monday + timedelta(days=7))
    if unit == "month":
        start = _months(today, -1 if last else 0)
        return _span(start, _months(start, 1))
    if unit == "night":
        return _span(today - timedelta(days=1), today + timedelta(hours=6))
    return _span(_at(today.year - last), _at(today.year - last + 1))


def _this_day(match: re.Match[str], today: datetime) -> Walls:
    back = {"today": 0, "this": 0, "tonight": 0, "yesterday": 1}
    return _one_day(today - timedelta(days=2 if match[1].startswith("the day") else back[match[1].split()[0]]))


# "this may be a silly question"
_MODAL = r"(?!this may (?:be|have|not|well|also|just|only|seem|sound|look|help|work|need|take|cause|mean|come|go)\b)"
_Resolver = Callable[[re.Match[str], datetime], Walls]
_WHEN = r"\b(?:in|during|of|by|since|until|till|for|around|before|after|early|late|mid|last|this|on|from|through)[ -]"


def _pattern(text: str, resolve: _Resolver) -> tuple[re.Pattern[str], _Resolver]:
    return re.compile(text), resolve


# the most exact first: what one has taken, the next do not see
_PATTERNS = (
    _pattern(r"\b((?:19|20)\d\d)-(\d\d)-(\d\d)\b", _iso),
    _pattern(rf"\b{_DAY} (?:of )?{_MONTH},? {_YEAR}\b", _day_month_year),
    _pattern(rf"\b{_MONTH} {_DAY},? {_YEAR}\b", _month_day_year),
    _pattern(rf"\b{_MONTH},? (?:of )?{_YEAR}\b", _month_year),
    _pattern(rf"\b(winter|spring|summer|autumn|fall),? (?:of )?{_YEAR}\b", _season),
    _pattern(rf"\b{_DAY} (?:of )?{_MONTH}(?=\W|$)", _day_month),
    _pattern(rf"\b{_MONTH} {_DAY}\b", _month_day),
    _pattern(rf"\b{_COUNT} {_UNIT} ago\b", _ago),
    _pattern(rf"\b(?:last|past) {_COUNT} {_UNIT}\b", _past),
    _pattern(
        rf"\b(last|this|on) ({'|'.join(WEEKDAYS)}|weekend|week|month|year|night)\b(?<!on week)(?<!on year)", _named
    ),
    _pattern(r"\b(today|tonight|yesterday|this (?:morning|afternoon|evening)|the day before yesterday)\b", _this_day),
    _pattern(rf"{_MODAL}{_WHEN}(?:early |late |mid-?)?{_MONTH}(?=\W|$)", _month_alone),
    _pattern(r"\b(?:last|this|in|during|over) (?:the )?(winter|spring|summer|autumn|fall)()\b", _season),
    _pattern(rf"{_WHEN}(?:early |late |mid-?)?{_YEAR}\b", _year),
)
