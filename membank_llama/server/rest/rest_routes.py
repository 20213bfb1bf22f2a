"""The routes of REST: each operation of the table, what comes checked by its schema, the bank asked in a thread."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from membank_llama.core.errors import InvalidInputError

from ..asgi import WireError, header
from ..bank_faces import Face
from ..face_context import CALLER, MOUNT, FaceContext
from ..proxy.namespace_auth import Caller, zone_of
from .memory_acts import RestReply, RestRequest, as_json
from .memory_schemas import ID
from .openapi import described
from .operations import DESCRIPTION, JSON, JSON_LINES, OF_THE_PROXY, OPERATIONS, RestOperation
from .value_check import Schema, check_texts, check_value

_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_MOST_PARAMETERS = 64
_MOST_DIGITS = 20


def rest_routes(context: FaceContext, *, proxied: bool = False) -> Face:
    """REST under `/membank/`.

    Args:
        proxied: whether what `membank serve` answers beside it is there, and so described.
    """
    known = (*OPERATIONS, *(OF_THE_PROXY if proxied else ()))
    routes = [Route(DESCRIPTION, partial(_describe, known), methods=["GET"])]
    routes += [
        Route(one.path, partial(_answer, context, one), methods=[one.method])
        for one in OPERATIONS
        if one.act is not None
    ]
    return Face(routes)


async def _describe(known: tuple[RestOperation, ...], request: Request) -> Response:
    _query(request, {})
    caller: Caller = request.scope[CALLER]
    told = described(known, mount=request.scope[MOUNT], tokens=caller.opened is not None)
    return _whole(RestReply(told))


async def _answer(context: FaceContext, operation: RestOperation, request: Request) -> Response:
    given = _query(request, operation.query)
    for name in operation.needed:
        if name not in given:
            raise InvalidInputError(f"{name} is missing")
    if "id" in request.path_params:
        given["id"] = _number(request.path_params["id"], ID, "the id")
    if operation.body is None:
        return await _act(context, operation, request, given)
    async with context.body_budget.body(request.scope, request.receive) as body:
        given |= _body(request, operation, body)
        return await _act(context, operation, request, given)


async def _act(context: FaceContext, operation: RestOperation, request: Request, given: Mapping[str, Any]) -> Response:
    scope = request.scope
    asked = RestRequest(context.memories(scope), given, zone_of(scope), context.may_see_all(scope), scope[MOUNT])
    return await context.in_thread(_done, operation, asked)


def _done(operation: RestOperation, asked: RestRequest) -> Response:
    if operation.act is None:
        raise WireError(404, "this is answered elsewhere")
    reply = operation.act(asked)
    if reply.lines is None:
        return _whole(reply)
    named = {"content-disposition": 'attachment; filename="memories.jsonl"'}
    return StreamingResponse(_streamed(reply.lines), media_type=JSON_LINES, headers=_HEADERS | named)


async def _streamed(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    async for some in iterate_in_threadpool(lines):
        yield some


def _whole(reply: RestReply) -> Response:
    return Response(
        as_json(reply.value), reply.status, {**_HEADERS, **reply.headers}, "application/json; charset=utf-8"
    )


# -- what comes


def _query(request: Request, schemas: Mapping[str, Schema]) -> dict[str, Any]:
    """What stands behind the ``?``, by its schemas.

    Raises:
        InvalidInputError: it is not as they say.
    """
    raw = request.scope.get("query_string", b"").decode("latin-1")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except ValueError as exc:
        raise InvalidInputError("what stands behind the ? is no UTF-8, or too much") from exc
    given: dict[str, Any] = {}
    for name, text in pairs:
        if name not in schemas:
            there = ", ".join(schemas) or "none"
            raise InvalidInputError(f"{name[:40]!r} is not known here; there are: {there}")
        if name in given:
            raise InvalidInputError(f"{name} is given twice")
        check_texts(text, name)
        given[name] = _typed(text, schemas[name], name)
        check_value(given[name], schemas[name], name)
    return given


def _typed(text: str, schema: Schema, name: str) -> Any:
    """A value as text, of the type its schema names."""
    kind = schema.get("type", "string")
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return _number(text, schema, name) if kind in ("integer", "number") else text


def _number(text: str, schema: Schema, name: str) -> float:
    try:
        number = float(text) if schema["type"] == "number" else int(text) if _is_plain(text) else None
    except ValueError:
        number = None
    if number is None or number - number != 0:
        raise InvalidInputError(f"{name} must be a {'whole ' if schema['type'] == 'integer' else ''}number")
    check_value(number, schema, name)
    return number


def _is_plain(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS


def _body(request: Request, operation: RestOperation, body: bytes) -> dict[str, Any]:
    """What is sent, by its schema.

    Raises:
        WireError: 415, it is not said to be JSON.
        InvalidInputError: it is none, or not as the schema says.
    """
    if not body and not operation.body_needed:
        return {}
    media = (header(request.scope, "content-type") or "").partition(";")[0].strip().lower()
    if media != JSON:
        raise WireError(415, f"send {JSON}, and say so: Content-Type: {JSON}")
    try:
        given = json.loads(body, parse_constant=_refused, parse_float=_finite_number, object_pairs_hook=_named_once)
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError(f"the request is no valid JSON: {exc}") from exc
    if not isinstance(given, dict):
        raise InvalidInputError("the request must be a JSON object")
    check_texts(given)
    check_value(given, operation.body or {}, "the request")
    return given


def _refused(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite_number(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError(f"{text[:40]} is too large")
    return number


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("an object names something twice")
    return named
