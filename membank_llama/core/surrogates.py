"""Halves of surrogate pairs: JSON and Python can spell them, UTF-8 cannot.

Programs that cut text by UTF-16 units send half an emoji. Where text comes in, U+FFFD is put in its place, as Go does;
behind that no step meets text that it cannot encode.
"""

from __future__ import annotations

import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")


def repaired_text(text: str) -> str:
    """The text with halves that meet made one, and U+FFFD in the place of the others."""
    if _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def repaired(value: Any) -> Any:
    """The same for all text in lists and dicts."""
    if isinstance(value, str):
        return repaired_text(value)
    if isinstance(value, list):
        return [repaired(one) for one in value]
    if isinstance(value, dict):
        return {repaired(key): repaired(one) for key, one in value.items()}
    return value
