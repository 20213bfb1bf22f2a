"""Where a memory is from, and what that makes it worth.

What a person says of herself is known. What a document, an import or a tool says is known to be said there. What the
model said is a record: it may have made it up, and nothing that is derived from it is worth more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

from .errors import InvalidInputError
from .letters import folded

KEY = "provenance"
"""Of a memory's metadata, where its role and source do not say it."""

MODEL_ROLES = frozenset({"assistant", "ai", "model", "bot"})
PERSON_ROLES = frozenset({"user", "human"})
TOOL_ROLES = frozenset({"tool", "function"})


class Provenance(IntEnum):
    """Who or what a memory is from; the higher outranks the lower."""

    MODEL = 0
    TOOL = 1
    IMPORT = 2
    DOCUMENT = 3
    PERSON = 4


NAMES = {one.name.lower(): one for one in Provenance}


def provenance_named(name: str) -> Provenance:
    """A provenance by its name, ``person`` or ``model``.

    Raises:
        InvalidInputError: there is none of this name.
    """
    found = NAMES.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidInputError(f"there is no provenance {str(name)[:40]!r}; there are {', '.join(NAMES)}")
    return found


def provenance_of(role: str, source: str | None = None, metadata: Mapping[str, Any] | None = None) -> Provenance:
    """Where a memory with these fields is from; a part of a file is a document, whoever is said to say it."""
    known = metadata or {}
    said = known.get(KEY)
    # what another program wrote there is no reason to refuse the memory
    named = NAMES.get(said) if isinstance(said, str) else None
    spoken = folded(role)
    if spoken in MODEL_ROLES:
        own = Provenance.MODEL
    elif spoken in TOOL_ROLES:
        own = Provenance.TOOL
    elif source is not None and "part" in known:
        own = Provenance.DOCUMENT
    else:
        own = Provenance.PERSON
    return own if named is None else min(own, named)


def least(provenances: Iterable[Provenance]) -> Provenance:
    """What is derived from several is worth what the least of them is."""
    return min(provenances, default=Provenance.PERSON)
