"""Fields of a request's JSON, read by type: null counts as not given, a wrong type is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..asgi import WireError

MOST_OBJECTS = 50_000
"""Of one list: messages, tools, calls."""


def text(body: Mapping[str, Any], name: str, default: str = "") -> str:
    """A string."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise _wrong(name, "a string", value)
    return value


def flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    """A boolean."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _wrong(name, "a boolean", value)
    return value


def integer(body: Mapping[str, Any], name: str) -> int | None:
    """A whole number, or None."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "an integer", value)
    return value


def mapping(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object; empty where there is none."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    return value


def objects(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects; empty where there is none."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _wrong(name, "a list of objects", value)
    if len(value) > MOST_OBJECTS:
        raise WireError(400, f'"{name}" has {len(value):,} entries, at most {MOST_OBJECTS:,} are taken')
    return value


def model_name(body: Mapping[str, Any]) -> str:
    """The name of the model asked for."""
    name = text(body, "model")
    if not name.strip():
        raise WireError(400, "model is required")
    return name


def _wrong(name: str, kind: str, value: Any) -> WireError:
    return WireError(400, f'"{name}" must be {kind}, not {type(value).__name__}')
