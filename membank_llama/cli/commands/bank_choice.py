"""Which bank is meant where nobody names one: the default one, or else the one that was used last.

A chat with the toy makes a bank beside the default one, so that whoever starts with `membank chat` alone has a bank and
no default one. What is taken is named in one line.
"""

from __future__ import annotations

import sys
from pathlib import Path

from membank_llama.core.errors import InvalidInputError


def bank_at_hand(default: Path, *, sure: bool = False) -> Path:
    """The default bank where it is there, or nothing else is; another one of the same folder otherwise.

    Args:
        sure: what is done cannot be taken back: no program goes by a guess.

    Raises:
        InvalidInputError: there are several, none is the default one, and nobody is there to look at the choice.
    """
    from ..terminal import err, note

    others = banks_in(default.parent)
    if not others or default in others:
        if others and others[0] != default and err.is_terminal:
            note(f"using the bank {default}; {others[0].name} was used later (--bank {others[0]})")
        return default
    chosen, *rest = others
    names = ", ".join(path.name for path in rest)
    if not rest:
        note(f"using the bank {chosen}")
    elif sure and not sys.stdin.isatty():
        raise InvalidInputError(
            f"there are several banks in {default.parent} ({chosen.name}, {names}): name one with --bank"
        )
    else:
        note(f"using the bank {chosen}, used last; there is also {names} (--bank DIR)")
    return chosen


def is_bank(path: Path) -> bool:
    """Whether there is a bank in this directory; one that this user may not look into is taken for a bank, so that
    whoever opens it is told why that fails."""
    from membank_llama.store.bank_files import DATABASE

    try:
        (path / DATABASE).stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def banks_in(folder: Path) -> list[Path]:
    """The banks of a folder, the one used last first."""
    try:
        found = [(_used(path), path) for path in folder.iterdir() if is_bank(path)]
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)]


def _used(bank: Path) -> float:
    try:
        return max((entry.lstat().st_mtime for entry in bank.iterdir()), default=0.0)
    except PermissionError:
        return 0.0
