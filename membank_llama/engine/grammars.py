"""Grammars: what `format` asks for, in the language that llama.cpp constrains its choice by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llama_cpp import llama_grammar

from ..wire import WireError

_DEEPEST = 64
_LONGEST = 2000  # llama.cpp repeats a rule no more often
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
# the converter lets control characters through in strings, which is no JSON
_LOOSE, _STRICT = r'char ::= [^"\\] |', r'char ::= [^"\\\x7F\x00-\x1F] |'


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
    _check(schema)
    try:
        return str(llama_grammar.json_schema_to_gbnf(json.dumps(schema))).replace(_LOOSE, _STRICT)
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError) as exc:
        reason = str(exc)[:200] or type(exc).__name__
        raise WireError(400, f"invalid JSON schema in format: {reason}") from exc


def _check(schema: Any) -> None:
    """Refuse what would take the converter more time or memory than a schema is worth."""
    depth, level = 0, [schema]
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise WireError(400, "invalid JSON schema in format: it is nested too deeply")
        inner: list[Any] = []
        for one in level:
            if isinstance(one, Mapping):
                inner.extend(one.values())
                _check_counts(one)
            elif isinstance(one, list):
                inner.extend(one)
        level = inner


def _check_counts(schema: Mapping[str, Any]) -> None:
    for name in _COUNTS:
        count = schema.get(name)
        if isinstance(count, int) and count > _LONGEST:
            raise WireError(400, f"invalid JSON schema in format: {name} is larger than {_LONGEST:,}")
