"""Whether a value is as a JSON schema says: of the schemas that requests are described by, and no others.

REST is there without extras, and jsonschema comes along with MCP's alone. The keywords are those in `KEYWORDS`; a
schema of a request has no other (tests/server/rest/test_description.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from membank_llama.core.errors import InvalidInputError

Schema: TypeAlias = Mapping[str, Any]

KEYWORDS = frozenset(
    {
        "type", "enum", "anyOf", "minimum", "maximum", "minLength", "maxLength", "items", "minItems",
        "maxItems", "properties", "required", "additionalProperties", "minProperties",
    }
)  # fmt: skip
SAYING = frozenset({"description", "default", "format", "examples"})
"""Keywords that are for people alone."""

_CALLED = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_MOST_NESTED = 64


def check_value(value: Any, schema: Schema, name: str) -> None:
    """See that a value is as the schema says.

    Raises:
        InvalidInputError: it is not; the message names where.
    """
    if "anyOf" in schema:
        _check_any(value, schema["anyOf"], name)
        return
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        raise InvalidInputError(f"{name} must be {' or '.join(_CALLED[kind] for kind in kinds)}")
    if "enum" in schema and value not in schema["enum"]:
        raise InvalidInputError(f"{name} must be one of {', '.join(map(str, schema['enum']))}")
    if isinstance(value, str):
        _check_text(value, schema, name)
    elif isinstance(value, list):
        _check_list(value, schema, name)
    elif isinstance(value, dict):
        _check_object(value, schema, name)
    elif not isinstance(value, bool) and isinstance(value, int | float):
        _check_range(value, schema, name)


def check_texts(value: Any, name: str = "the request", depth: int = 0) -> None:
    """See that all texts in a value can be stored and compared.

    Raises:
        InvalidInputError: one holds a NUL, or half of a surrogate pair; or they are nested too deep.
    """
    if depth > _MOST_NESTED:
        raise InvalidInputError(f"{name} is nested more than {_MOST_NESTED} deep")
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidInputError(f"{name} holds a NUL; leave it out")
        if re.search("[\ud800-\udfff]", value):
            raise InvalidInputError(f"{name} holds half of a surrogate pair: it was cut or decoded wrongly")
    elif isinstance(value, list):
        for one in value:
            check_texts(one, name, depth + 1)
    elif isinstance(value, dict):
        for key, one in value.items():
            check_texts(key, f"a name in {name}", depth + 1)
            check_texts(one, name if depth else key, depth + 1)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str, "integer": int, "number": (int, float), "array": list, "object": dict, "null": type(None),
    }  # fmt: skip
    return kind in kinds and isinstance(value, kinds[kind])


def _check_any(value: Any, schemas: list[Schema], name: str) -> None:
    errors = []
    for one in schemas:
        try:
            check_value(value, one, name)
        except InvalidInputError as exc:
            errors.append(exc)
        else:
            return
    # of those that are of its kind, or else the first
    raise next((error for error in errors if "must be" not in str(error)), errors[0])


def _check_text(value: str, schema: Schema, name: str) -> None:
    if len(value) < schema.get("minLength", 0):
        raise InvalidInputError(f"{name} is empty")
    most = schema.get("maxLength")
    if most is not None and len(value) > most:
        raise InvalidInputError(f"{name} has {len(value):,} characters; {most:,} are the most")


def _check_list(value: list[Any], schema: Schema, name: str) -> None:
    fewest, most = schema.get("minItems", 0), schema.get("maxItems")
    if len(value) < fewest or (most is not None and len(value) > most):
        raise InvalidInputError(f"{name} has {len(value):,} entries; give {fewest:,} to {most:,}")
    for one in value:
        check_value(one, schema.get("items", {}), f"each of {name}")


def _check_object(value: dict[str, Any], schema: Schema, name: str) -> None:
    known = schema.get("properties", {})
    for key in schema.get("required", ()):
        if key not in value:
            raise InvalidInputError(f"{key} is missing")
    if len(value) < schema.get("minProperties", 0):
        raise InvalidInputError(f"{name} says nothing; there are {', '.join(known)}")
    for key, one in value.items():
        if key in known:
            check_value(one, known[key], key)
        elif schema.get("additionalProperties") is False:
            raise InvalidInputError(f"{key[:40]!r} is not known here; there are {', '.join(known)}")


def _check_range(value: float, schema: Schema, name: str) -> None:
    least, most = schema.get("minimum"), schema.get("maximum")
    if (least is not None and value < least) or (most is not None and value > most):
        raise InvalidInputError(f"{name} is out of range; give {least} to {most}")
