"""Where digits are spent: each goes to the axis whose expected error falls most by it.

The error left after p digits is a function sampled at p = 0, 1, 2 …; its HGNS derivative there is the difference
quotient to the next digit. The rule takes the steepest descent until the budget is used up: with errors convex in p
that is the best way to spend it. The error of a score Σ qⱼxⱼ counts the coordinate's error by the energy of qⱼ, and
questions have their energy where memories have it: so an axis of variance v counts v·v·D(p), D being the part of a
normal source's variance that p digits leave.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from membank_llama.core.types import Vector

from .gradient import Floats, sampled_derivative

Counts = npt.NDArray[np.uint8]

BITS = 8


def spend(spread: Vector, left: Floats, budget: int) -> Counts:
    """Digits for each axis, `budget` in all or fewer, uint8 of the shape of `spread`.

    Args:
        spread: standard deviation along each axis, shape (n,).
        left: D(0), D(1) … D(most): the part of the variance that so many digits leave, falling and convex.
    """
    variance = np.square(spread.astype(np.float64))
    errors = np.square(variance)[:, np.newaxis] * left
    slopes = -sampled_derivative(errors)[:, :-1]
    order = np.argsort(-slopes, axis=None, kind="stable")[: max(0, budget)]
    worth = order[slopes.reshape(-1)[order] > 0]
    return np.bincount(worth // slopes.shape[1], minlength=len(spread)).astype(np.uint8)


def pack(digits: Counts, width: int, room: int) -> list[list[int]]:
    """Axes that share a byte, for each byte; an axis takes digits × width bits and stays within one byte.

    First fit, axes of most digits first. What finds no room in `room` bytes is left out.
    """
    bytes_: list[list[int]] = []
    free: list[int] = []
    for axis in np.argsort(-digits.astype(int), kind="stable").tolist():
        bits = int(digits[axis]) * width
        if not bits:
            break
        place = next((n for n, spare in enumerate(free) if spare >= bits), None)
        if place is None:
            if len(free) == room:
                continue
            place = len(free)
            free.append(BITS)
            bytes_.append([])
        bytes_[place].append(axis)
        free[place] -= bits
    return bytes_


def spend_packed(spread: Vector, left: Floats, width: int, room: int) -> tuple[Counts, list[list[int]]]:
    """Digits for each axis and the bytes they share: as many digits as `pack` finds room for."""
    most = room * BITS // width
    # bits that no byte has left are spent on nothing; the search for the largest budget that fits is short
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        digits = spend(spread, left, middle)
        placed = sum(len(axes) for axes in pack(digits, width, room))
        low, high = (middle, high) if placed == int((digits > 0).sum()) else (low, middle - 1)
    digits = spend(spread, left, low)
    return digits, pack(digits, width, room)
