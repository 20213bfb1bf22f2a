"""Grammars: what `format` asks for, in the language that llama.cpp constrains its choice by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llama_cpp import llama_grammar

from ..wire import WireError

_DEEPEST = 64


def of_format(wanted: Any) -> str | None:
    """The grammar of a request's `format`: ``"json"``, a JSON schema, or nothing.

    Raises:
        WireError: it is neither, or the schema asks for what can't be written down.
    """
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return str(llama_grammar.JSON_GBNF)
    if not isinstance(wanted, dict):
        shown = json.dumps(wanted)[:80]
        raise WireError(400, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')
    return of_schema(wanted)


def of_schema(schema: Mapping[str, Any]) -> str:
    """The grammar of a JSON schema.

    Raises:
        WireError: the schema is impossible.
    """
    if _depth(schema) > _DEEPEST:
        raise WireError(400, "invalid JSON schema in format: it is nested too deeply")
    try:
        return str(llama_grammar.json_schema_to_gbnf(json.dumps(schema)))
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError) as exc:
        reason = str(exc)[:200] or type(exc).__name__
        raise WireError(400, f"invalid JSON schema in format: {reason}") from exc


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= _DEEPEST:
        depth += 1
        inner: list[Any] = []
        for one in level:
            inner.extend(one.values() if isinstance(one, Mapping) else one if isinstance(one, list) else ())
        level = inner
    return depth
