"""Days and clock times: the person's. The rule stands here and nowhere else.

Times are kept as instants, seconds since 1970. Wherever a day or a time is written or read without saying where (a
date in the prompt, "yesterday" in a question, ``2025-01-31T18:00`` in a file or on the command line), it is that of
one time zone: the one that is given, or else this machine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .errors import InvalidInputError

# a day is left at either end for time zones
FIRST_SECOND = -62_135_510_400.0
LAST_SECOND = 253_402_214_400.0
"""The years from 1 to 9999."""
LAST_TOLD = 32_503_680_000.0
"""The year 3000: nothing is told later, and what would be is a count of something smaller than seconds."""
_UNITS = (1, 10**3, 10**6, 10**9)

_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,30}))? ?"
    r"(?:([Zz])|([+-]\d\d)(?::?(\d\d))?(?::?\d\d)?)?(?: [A-Z]{1,5})?"
)
"""What programs write for a moment, more of it than Python 3.10 reads."""

_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z0-9_+-]{1,31}){0,2}")
"""A name from a client is looked up among files and packages: nothing but names of zones gets there."""


def zone_named(name: str) -> tzinfo:
    """A time zone by its IANA name.

    Raises:
        InvalidInputError: there is none of this name.
    """
    try:
        if not _ZONE.fullmatch(name):
            raise ValueError("not spelled as a zone is")
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise InvalidInputError(f"{name[:80]!r} is no time zone; use a name such as Europe/Lisbon or UTC") from exc


def wall_clock(instant: float, zone: tzinfo | None = None) -> datetime:
    """What the clock on the wall says at an instant, without a zone.

    Raises:
        ValueError, OverflowError, OSError: a time that no calendar has.
    """
    return datetime.fromtimestamp(instant, zone).replace(tzinfo=None)


def instant_of(wall: datetime, zone: tzinfo | None = None) -> float:
    """The instant at which the clock on the wall says so; raises as `wall_clock`."""
    return (wall if wall.tzinfo or zone is None else wall.replace(tzinfo=zone)).timestamp()


def day_of(instant: float, zone: tzinfo | None = None) -> str:
    """The day of an instant, ``2025-01-31``; an empty text for a time that no calendar has."""
    try:
        return f"{wall_clock(instant, zone):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return ""


def days_of(instants: Iterable[float], zone: tzinfo | None = None) -> list[str]:
    """`day_of` of each."""
    return [day_of(instant, zone) for instant in instants]


def parse_instant(text: str, zone: tzinfo | None = None) -> float:
    """Seconds since 1970 of an ISO 8601 date or time; without an offset it is `zone`'s, or else this machine's.

    Raises:
        ValueError, OverflowError, OSError: it is none.
    """
    text = text.strip()
    found = _MOMENT.fullmatch(text)
    if found:
        clock, fraction, utc, hours, minutes = found.groups()
        offset = "+00:00" if utc else f"{hours}:{minutes or '00'}" if hours else ""
        text = f"{clock}{':00' if len(clock) == 16 else ''}.{(fraction or '')[:6]:0<6}{offset}"
    return instant_of(datetime.fromisoformat(text), zone)


def instant_of_number(value: float, latest: float = LAST_TOLD) -> float:
    """Seconds since 1970 of a number of seconds, milli-, micro- or nanoseconds: the first that is a time at all.

    Raises:
        ValueError, OverflowError: none of them is.
    """
    for unit in _UNITS:
        if FIRST_SECOND <= value / unit <= latest:
            return value / unit
    raise ValueError(f"{value!r:.40} counts to no time that anything was told")


def read_instant(value: Any, zone: tzinfo | None = None, latest: float = LAST_TOLD) -> float:
    """Seconds since 1970 of what a file gives for a time: a number (`instant_of_number`), or ISO 8601.

    Raises:
        ValueError, OverflowError, OSError: it is none, or in no year up to `latest`.
    """
    if isinstance(value, str):
        found = parse_instant(value, zone)
        if not FIRST_SECOND <= found <= latest:
            raise ValueError(f"{value[:40]!r} is in no year that anything was told in")
        return found
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(instant_of_number(value, latest))
    raise ValueError(f"{value!r:.40} is no time")
