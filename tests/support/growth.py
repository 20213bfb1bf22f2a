"""How what a piece of work costs grows with what it is given.

Told by processor time, of eight times as much: linear work then takes eight times as long, quadratic work 64 times.
`LIMIT` lies in the middle, so that neither is taken for the other where the machine is busy. Of each size the quickest
run counts, and none of them is held up by collecting garbage.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

STEP = 8
LIMIT = 22.0
QUICK = 0.1
"""Seconds that need no second look."""
TRIES = 3


def processor_seconds(work: Callable[[int], object], size: int) -> float:
    collecting = gc.isenabled()
    gc.disable()
    begun = time.process_time()
    try:
        work(size)
        return time.process_time() - begun
    finally:
        if collecting:
            gc.enable()


def grows_with_the_square(work: Callable[[int], object], size: int) -> bool:
    """Whether `work(size)` takes much longer than `work(size // 8)`, eight times over."""
    whole = part = float("inf")
    for _ in range(TRIES):
        whole = min(whole, processor_seconds(work, size))
        if whole < QUICK:
            return False
        part = min(part, *(processor_seconds(work, size // STEP) for _ in range(STEP // 2)))
        if whole < LIMIT * part:
            return False
    return True
