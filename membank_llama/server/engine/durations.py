"""Durations and times as Ollama writes them: ``5m``, seconds, nanoseconds, RFC 3339."""

from __future__ import annotations

import math
import re
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from ..asgi import WireError

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_LONGEST = 64
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_FOREVER = timedelta(days=106_751)  # the longest that a duration of Go's can be


def keep_alive(value: Any) -> float | None:
    """Seconds from a request's `keep_alive`; negative: forever; None: not given.

    Raises:
        WireError: it is neither a number nor a duration.
    """
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and (isinstance(value, int) or math.isfinite(value)):
        return float(max(-1.0, min(value, 1e9)))
    if isinstance(value, str) and len(value) <= _LONGEST:
        found = _seconds(value.strip())
        if found is not None:
            return found
    raise WireError(
        400, f'"keep_alive" must be a duration such as "5m" or a number of seconds, not {str(value)[:40]!r}'
    )


def _seconds(text: str) -> float | None:
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if digits == "0":
        return 0.0
    parts = _PART.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        return None
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return max(-1.0, min(sign * total, 1e9))


def now() -> str:
    """The time, in UTC."""
    return rfc3339(time.time())


def rfc3339(seconds: float | None) -> str:
    """A time in seconds since 1970 as Go writes it into JSON; None is what Ollama shows for never."""
    shown = datetime.now(timezone.utc) + _FOREVER if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
    return shown.isoformat(timespec="microseconds").replace("+00:00", "Z")
