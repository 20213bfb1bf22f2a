"""The description of REST: OpenAPI 3.1, and as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from membank_llama._version import __version__

from .memory_schemas import ANSWERS, ID, ref
from .operations import JSON, RestOperation

_ERRORS = {
    400: "What was sent cannot be used.",
    401: "No token, or none of those given out.",
    403: "Another namespace than the token's, or a page from elsewhere.",
    404: "There is none here.",
    408: "The rest of the request did not come.",
    409: "It cannot be done as things are: nothing was changed.",
    413: "The request is too large.",
    415: "The body is not application/json.",
    503: "The bank or its model cannot do it now.",
}
_ALWAYS, _WITH_BODY = (400, 401, 403, 503), (408, 413, 415)
_DONE = {200: "Done.", 201: "It is new."}


def described(operations: Sequence[RestOperation], *, mount: str = "", tokens: bool = False) -> dict[str, Any]:
    """OpenAPI of these operations.

    Args:
        mount: what stands before each path.
        tokens: whether a token is asked for.
    """
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    answer: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "membank-llama",
            "version": __version__,
            "description": "The memories of one namespace: looked at, told, corrected, forgotten, brought back.",
        },
        "servers": [{"url": mount or "/"}],
        "paths": paths,
        "components": {"schemas": ANSWERS},
    }
    if tokens:
        answer["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        answer["security"] = [{"token": []}]
    return answer


def _operation(one: RestOperation) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": one.name, "summary": one.summary}
    parameters = [
        {"name": name, "in": "query", "required": name in one.needed, "schema": schema}
        for name, schema in one.query.items()
    ]
    if "{id}" in one.path:
        parameters.insert(0, {"name": "id", "in": "path", "required": True, "schema": ID})
    if parameters:
        told["parameters"] = parameters
    if one.body is not None:
        told["requestBody"] = {"required": one.body_needed, "content": {JSON: {"schema": one.body}}}
    answers = {
        str(status): {"description": _DONE[status], "content": {one.media: {"schema": one.answer_schema}}}
        for status in one.statuses
    }
    for status in sorted({*_ALWAYS, *one.errors, *(_WITH_BODY if one.body is not None else ())}):
        answers[str(status)] = {"description": _ERRORS[status], "content": {JSON: {"schema": ref("Error")}}}
    told["responses"] = answers
    return told


def as_table(operations: Sequence[RestOperation]) -> str:
    """These operations as Markdown, as docs/proxy.md shows them."""
    rows = [f"| `{one.method} {one.path}` | {_taken(one)} | {one.summary} |" for one in operations]
    return "\n".join(["| | takes | |", "|---|---|---|", *rows])


def _taken(one: RestOperation) -> str:
    names = one.query if one.body is None else one.body["properties"]
    return ", ".join(f"`{name}`" for name in names) or "–"
