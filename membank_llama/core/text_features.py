"""What a memory's own text and fields say of it, read once when it is stored: who speaks, and whether it asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .dialogue_acts import QUESTION_MARKS, tells_nothing
from .letters import folded
from .provenance import MODEL_ROLES, PERSON_ROLES, TOOL_ROLES

GENERIC_ROLES = MODEL_ROLES | PERSON_ROLES | TOOL_ROLES | {"system", "note"}
"""Roles that are nobody's name."""

_NAME = r"[^\W\d_a-z][\w'’.-]{0,30}"
_SPOKEN = re.compile(rf"({_NAME}(?: {_NAME}){{0,2}}): +\S")
_ASIDE = re.compile(r"(?:\s*(?:\[[^\[\]]*\]|\([^()]*\)))+\s*\Z")


def speaker_of(text: str, role: str, metadata: Mapping[str, Any] | None = None) -> str | None:
    """The name of who says it: of the metadata's "speaker", of a role that is a name, or of a text "Name: …". A model
    that writes "Note: …" is still the model."""
    named = (metadata or {}).get("speaker")
    if isinstance(named, str) and named.strip():
        return named.strip()
    plain = folded(role)
    if role and plain not in GENERIC_ROLES:
        return role
    spoken = None if plain in MODEL_ROLES else _SPOKEN.match(text)
    return spoken[1] if spoken else None


def is_question(text: str) -> bool:
    """Whether a text ends with a question; what stands in brackets after it does not count."""
    return _ASIDE.sub("", text[-600:]).rstrip().endswith(QUESTION_MARKS)


ASKS, TELLS_NOTHING = 1, 2
"""Bits of a memory's column `asks`: whether it ends with a question, and whether a person says nothing in it that
could be so (dialogue_acts.py). Transcripts of several people ask and answer each other: there the first alone is told.
"""


def acts_of(text: str, role: str) -> int:
    """The bits of a memory with this text and role."""
    nothing = folded(role) in PERSON_ROLES and tells_nothing(text)
    return ASKS * is_question(text) + TELLS_NOTHING * nothing
