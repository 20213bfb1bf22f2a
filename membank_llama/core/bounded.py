"""`keep_newest`: a mapping that forgets its oldest entries above a number of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep_newest(kept: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Keep a value as the newest of `most`; the caller holds the lock, if there is one."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
