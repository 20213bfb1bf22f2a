"""Whether the lines that a native library prints by itself go to our log.

The command line wants that: they say nothing to whoever chats. A program that uses the package keeps them as it has
them. The library may be loaded later, or never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Switch: TypeAlias = Callable[[bool], None]
"""Called with whether the lines of one library are to be logged."""

_switches: list[Switch] = []
_wanted = [False]


def register_switch(switch: Switch) -> None:
    """Where a library is loaded: have its lines logged if that is wanted now, or is later."""
    _switches.append(switch)
    if _wanted[0]:
        switch(True)


@contextmanager
def native_lines_logged() -> Iterator[None]:
    """Log what native libraries print, until this ends."""
    _set(True)
    try:
        yield
    finally:
        _set(False)


def _set(wanted: bool) -> None:
    _wanted[0] = wanted
    for switch in _switches:
        switch(wanted)
