"""Whether a model's KV state can be cut out, put back and cut short with nothing lost: tried at its first use.

On recurrent and hybrid models, and wherever llama.cpp keeps less than it says, a restore may report success and hold
nothing. What was found is kept in the cache directory, for this model, context and version of llama.cpp.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from membank_llama.core.atomic_files import write_whole
from membank_llama.core.paths import default_cache

from .agreement import TOLERANCE, distance
from .cells import ContextCells, top_of

logger = logging.getLogger("membank_llama")

NAME = "kv-self-tests.json"
_VERSION = 2
_LENGTH, _CUT, _AGAIN = 24, 10, 12
_MOST = 1 << 20
_SAME = 0.01
"""What logits may differ by where the same state is gone on with in the same way."""


@dataclass(frozen=True)
class SelfTest:
    """What was found. `drift`: the distance of the logits after a restore, as `agreement.distance` measures it."""

    holds: bool
    drift: float
    reason: str = ""


def tested(
    key: str, cells: ContextCells, n_vocab: int, directory: Path | None = None, *, whole: bool = False
) -> SelfTest:
    """What holds of a model: as it was found before, or found now in a context that holds nothing.

    The context holds nothing afterwards.
    """
    path, key = (directory or default_cache()) / NAME, f"{_VERSION}-{key}"
    known = _read(path)
    found = _verdict(known.get(key))
    if found is not None:
        return found
    result = _try_whole(cells, n_vocab) if whole else _try(cells, n_vocab)
    if not result.holds:
        logger.info("KV state of this model is not kept: %s", result.reason)
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, json.dumps(_read(path) | {key: asdict(result)}).encode())
    return result


def _try(cells: ContextCells, n_vocab: int) -> SelfTest:
    tokens = _some_tokens(n_vocab)
    last = _LENGTH - 1
    try:
        if not cells.evaluate(0, tokens, 0):
            return _no("it could not be evaluated")
        first, second = cells.take(0, 0, _CUT), cells.take(0, _CUT, _LENGTH)
        logits = cells.logits_behind(0, tokens[last], last)
        if first is None or second is None or logits is None:
            return _no("parts of it can't be taken out")
        expected = top_of(logits)
        cells.drop(0)
        drift = 0.0
        for held in (0, _AGAIN):
            # whole, then cut back to the middle of a piece, to its beginning, and filled up again
            cells.drop(0, held)
            if cells.span(0) != (0, held):
                return _no("it can't be cut back")
            cells.drop(0, min(held, _CUT))
            if held == 0 and not cells.put(0, first, (0, _CUT), 0, _CUT):
                return _no("it can't be put back")
            if not cells.put(0, second, (_CUT, _LENGTH), _CUT, _LENGTH) or cells.span(0) != (0, _LENGTH):
                return _no("it can't be put back in parts")
            found = cells.logits_behind(0, tokens[last], last)
            if found is None:
                return _no("it could not be evaluated again")
            drift = max(drift, distance(expected, found))
        again = cells.take(0, 0, _CUT)
        if again is None or not np.array_equal(again, first):
            return _no("what is taken out again is not the same")
        return SelfTest(drift <= TOLERANCE, drift, "" if drift <= TOLERANCE else "its answers change")
    finally:
        cells.drop(0)


def _try_whole(cells: ContextCells, n_vocab: int) -> SelfTest:
    """The same of a state that can't be cut: taken out whole, put back, and gone on with."""
    tokens = _some_tokens(n_vocab)
    last = _LENGTH - 1
    found = []
    try:
        if not cells.evaluate(0, tokens[:last], 0):
            return _no("it could not be evaluated")
        state = cells.take_whole(0, last)
        for again in (False, True):
            if again:
                cells.drop(0)
                if state is None or cells.span(0) != (0, 0) or not cells.put_whole(0, state, last):
                    return _no("it can't be put back")
            if not cells.evaluate(0, tokens[last:], last):
                return _no("it could not be evaluated again")
            found.append(cells.top_logits())
        same = np.array_equal(found[0].ids, found[1].ids)
        drift = float(np.sqrt(np.mean((found[0].values - found[1].values) ** 2))) if same else 1.0
        return SelfTest(drift <= _SAME, drift, "" if drift <= _SAME else "its answers change")
    finally:
        cells.drop(0)


def _verdict(found: object) -> SelfTest | None:
    """What a file says that was found before; None where it is nothing of ours."""
    if not isinstance(found, dict):
        return None
    holds, drift, reason = found.get("holds"), found.get("drift"), found.get("reason")
    if isinstance(holds, bool) and isinstance(drift, float) and isinstance(reason, str):
        return SelfTest(holds, drift, reason)
    return None


def _some_tokens(n_vocab: int) -> list[int]:
    return [(7 + 13 * n) % n_vocab for n in range(_LENGTH)]


def _no(reason: str) -> SelfTest:
    return SelfTest(False, 0.0, reason)


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
