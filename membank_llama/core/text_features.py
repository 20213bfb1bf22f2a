"""What a memory's own text and fields say of it, read once when it is stored: who speaks, whether it only asks, and
which run of memories it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .letters import folded

GENERIC_ROLES = frozenset({"user", "assistant", "system", "tool", "function", "note", "human", "ai", "model", "bot"})
"""Roles that are nobody's name."""

_NAME = r"[^\W\d_a-z][\w'’.-]{0,30}"
_SPOKEN = re.compile(rf"({_NAME}(?: {_NAME}){{0,2}}): +\S")
_ASIDE = re.compile(r"(?:\s*(?:\[[^\[\]]*\]|\([^()]*\)))+\s*\Z")


def speaker_of(text: str, role: str, metadata: Mapping[str, Any] | None = None) -> str | None:
    """The name of who says it: of the metadata's "speaker", of a role that is a name, or of a text "Name: …"."""
    named = (metadata or {}).get("speaker")
    if isinstance(named, str) and named.strip():
        return named.strip()
    if role and folded(role) not in GENERIC_ROLES:
        return role
    spoken = _SPOKEN.match(text)
    return spoken[1] if spoken else None


def is_question(text: str) -> bool:
    """Whether a text ends with a question; what stands in brackets after it does not count."""
    return _ASIDE.sub("", text[-600:]).rstrip().endswith(("?", "？", "؟"))
