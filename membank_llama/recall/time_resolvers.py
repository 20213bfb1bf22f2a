"""What the parts of a time expression come to: "two" and "weeks" ago, "8" and "May", "last" and "Friday".

One set for all languages: a language (time_words.py) says which number each of its words stands for, and a resolver is
given these numbers by name, and the day of the question. It answers with beginning and end as the clock on the wall
says them. What is said without a year means the latest one that has begun; weeks begin on Monday.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import IntEnum

Said = Mapping[str, int]
"""The parts of an expression by name: `month`, `weekday`, `count`, …"""
Walls = tuple[datetime, datetime]
Resolver = Callable[[Said, datetime], Walls]
"""From what is said, and the midnight at which the day of the question began, to a beginning and an end.

Raises ValueError or OverflowError where no calendar has such a day.
"""


class Unit(IntEnum):
    """What is counted, and what can be the last one or this one."""

    DAY = 1
    WEEKEND = 2
    NIGHT = 3
    WEEK = 7
    MONTH = 30
    YEAR = 365


WEEK_AGO: Said = {"unit": Unit.WEEK, "count": 1}
FORTNIGHT_AGO: Said = {"unit": Unit.WEEK, "count": 2}
LAST_NIGHT: Said = {"period": Unit.NIGHT, "back": 1}
LAST: Said = {"last": 1}

_LENGTH = {Unit.DAY: 1, Unit.WEEK: 7, Unit.MONTH: 30.4, Unit.YEAR: 365.25}


def calendar(said: Said, today: datetime) -> Walls:
    """A day, a month, a season (by its first month) or a year: "8 May 2023", "last May", "summer of last year".

    `yearsback` counts from the year of the question; `short` is a month that is abbreviated.
    """
    year = today.year - said["yearsback"] if "yearsback" in said else said.get("year")
    month = said.get("month") or said.get("short") or said.get("season")
    if month is None:
        year = today.year if year is None else year
        return datetime(year, 1, 1), datetime(year + 1, 1, 1)
    day = said.get("day", 1)
    start = _latest(today, month, day) if year is None else datetime(year, month, day)
    if "day" in said:
        return _days(start, 1)
    if "last" in said and start.month == today.month:
        # in May, "last May" is not this one
        start = _months(start, -12)
    return start, _months(start, 3 if "season" in said else 1)


def ago(said: Said, today: datetime) -> Walls:
    """ "two weeks ago": a day, the week or month around one, a whole year."""
    count, unit = said["count"], said["unit"]
    if unit == Unit.DAY:
        return _days(today - timedelta(days=count), 1)
    if unit == Unit.WEEK:
        return _days(today - timedelta(days=7 * count + 3), 7)
    if unit == Unit.MONTH:
        middle = today - timedelta(days=30.4 * count)
        return middle - timedelta(days=15), middle + timedelta(days=15)
    return datetime(today.year - count, 1, 1), datetime(today.year - count + 1, 1, 1)


def past(said: Said, today: datetime) -> Walls:
    """ "in the last three weeks", the day of the question among them."""
    return today - timedelta(days=said["count"] * _LENGTH[Unit(said["unit"])]), today + timedelta(days=1)


def period(said: Said, today: datetime) -> Walls:
    """ "last week", "this month", "last night": the one that many back, 0 for the one that has begun."""
    back, unit = said.get("back", 0), said["period"]
    if unit == Unit.WEEK:
        return _days(today - timedelta(days=today.weekday() + 7 * back), 7)
    if unit == Unit.MONTH:
        start = _months(today, -back)
        return start, _months(start, 1)
    if unit == Unit.YEAR:
        return datetime(today.year - back, 1, 1), datetime(today.year - back + 1, 1, 1)
    if unit == Unit.NIGHT:
        evening = today - timedelta(days=back)
        return evening, evening + timedelta(hours=30)
    begun = today.weekday() >= 5
    saturday = today - timedelta(days=(today.weekday() - 5) % 7 + 7 * (back if begun else max(back - 1, 0)))
    return _days(saturday, 2)


def weekday(said: Said, today: datetime) -> Walls:
    """ "on Friday", with `last` the one before today, with `weeksback` the one of that week."""
    if "weeksback" in said:
        return _days(today - timedelta(days=today.weekday() + 7 * said["weeksback"] - said["weekday"]), 1)
    back = (today.weekday() - said["weekday"]) % 7 or (7 if "last" in said else 0)
    return _days(today - timedelta(days=back), 1)


def some_day(said: Said, today: datetime) -> Walls:
    """ "today", "yesterday", "the day before yesterday"."""
    return _days(today - timedelta(days=said["daysback"]), 1)


def _days(start: datetime, count: int) -> Walls:
    return start, start + timedelta(days=count)


def _months(start: datetime, count: int) -> datetime:
    """The first of the month that many months later."""
    number = start.year * 12 + start.month - 1 + count
    return datetime(number // 12, number % 12 + 1, 1)


def _latest(today: datetime, month: int, day: int) -> datetime:
    """The latest such day that has begun; it may be the 29th of February."""
    for year in range(today.year, today.year - 9, -1):
        try:
            start = datetime(year, month, day)
        except ValueError:
            continue
        if start <= today:
            return start
    raise ValueError(f"no month {month} has a day {day}")
