"""Models in several files, named ``…-00001-of-00003.gguf``: llama.cpp opens the first and finds the others by it."""

from __future__ import annotations

import re
from pathlib import Path

_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE)


def part_number(name: str) -> int | None:
    """Which part of a split model a file is, from 1; None for a model in one file."""
    found = _PART.search(name)
    return int(found[1]) if found else None


def whole_name(name: str) -> str:
    """A file's name without the mark that says which part it is."""
    return _PART.sub("", name)


def part_names(name: str) -> list[str]:
    """The names of all parts of the model that a file belongs to; of a model in one file, its own."""
    found = _PART.search(name)
    if found is None:
        return [name]
    head, tail = name[: found.start()], name[found.end() :]
    return [f"{head}-{number:05d}-of-{found[2]}{tail}" for number in range(1, int(found[2]) + 1)]


def parts_of(path: Path) -> list[Path]:
    """The files that a model lies in: itself, or all parts of a split one."""
    return [path.with_name(name) for name in part_names(path.name)]
