"""Days and clock times: the person's. The rule stands here and nowhere else.

Times are kept as instants, seconds since 1970. Wherever a day or a time is written or read without saying where (a
date in the prompt, "yesterday" in a question, ``2025-01-31T18:00`` in a file or on the command line), it is that of
one time zone: the one that is given, or else this machine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .errors import InvalidInputError

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


def parse_instant(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 date or time; without an offset it is this machine's.

    Raises:
        ValueError, OverflowError, OSError: it is none.
    """
    # Python 3.10 does not know the Z
    return instant_of(datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip())))
