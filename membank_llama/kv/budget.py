"""How much disk the pieces of KV state may take, as a person says it and as the disk allows."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from membank_llama.core.errors import InvalidInputError

DEFAULT_BYTES = 4 << 30
LEAST_FREE_BYTES = 1 << 30
LEAST_FREE_SHARE = 0.05
MOST_FREE_BYTES = 16 << 30
"""Of the disk stays free, whatever the budget says: a share of it, no less than the one and no more than the other."""

_SIZE = re.compile(r"\A(\d{1,9}(?:\.\d{1,3})?) ?([kmgt]?)(?:i?b)?\Z", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_OFF = ("off", "no", "none", "0")


@dataclass(frozen=True)
class KVBudget:
    """Bytes on disk, at most; 0: nothing is written and nothing restored."""

    nbytes: int = DEFAULT_BYTES

    def __bool__(self) -> bool:
        return self.nbytes > 0

    def excess(self, used: int, coming: int, directory: Path) -> int:
        """Bytes that have to go, of what is used, for so many to come; whoever it was that filled the disk."""
        return max(0, min(used, max(used + coming - self.nbytes, coming - _spare(directory))))

    def admits(self, nbytes: int, directory: Path) -> bool:
        """Whether so many bytes more can be written at all."""
        return nbytes <= min(self.nbytes, _spare(directory))


def _spare(directory: Path) -> int:
    """Bytes of the disk that may be taken; below 0 where it is too full already."""
    disk = shutil.disk_usage(directory)
    return disk.free - min(MOST_FREE_BYTES, max(LEAST_FREE_BYTES, int(LEAST_FREE_SHARE * disk.total)))


def kv_budget(text: str | int | bool | None = None) -> KVBudget:
    """A budget as given: ``2G``, ``500MB``, ``off``, bytes, True for the default; None: $MEMBANK_KV, or the default.

    Raises:
        InvalidInputError: it is no size.
    """
    given: str | int | bool = os.environ.get("MEMBANK_KV", True) if text is None else text
    if isinstance(given, bool):
        return KVBudget() if given else KVBudget(0)
    if not isinstance(given, int | str):
        raise InvalidInputError(f"the KV budget is {given!r}; write a size (2G, 500MB) or off")
    if isinstance(given, int):
        if given < 0:
            raise InvalidInputError(f"the KV budget is {given} bytes; use 0 for none, or a number above it")
        return KVBudget(given)
    said = given.strip()
    if said.lower() in _OFF:
        return KVBudget(0)
    if said.lower() in ("on", ""):
        return KVBudget()
    found = _SIZE.match(said)
    if found is None:
        raise InvalidInputError(f"the KV budget is {given!r}; write a size (2G, 500MB) or off")
    return KVBudget(int(float(found[1]) * _UNITS[found[2].lower()]))
