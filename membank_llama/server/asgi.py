"""HTTP as engine and proxy share it: bodies with a limit, errors in the shape that the caller's API has.

Ollama answers ``{"error": "…"}``, OpenAI ``{"error": {"message": "…", …}}``; which of them by the path alone, so that a
client gets what it can read even where its request could not be.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp as ASGIApp
from starlette.types import Message as Message
from starlette.types import Receive as Receive
from starlette.types import Scope as Scope
from starlette.types import Send as Send

from membank_llama.core.surrogates import repaired

MAX_BODY_BYTES = 8 * 1024 * 1024
BODY_SECONDS = 30.0
"""The longest silence in the middle of a body; also what a body may take in all, beyond its time at the rate below."""
BODY_BYTES_A_SECOND = 32 * 1024

# escaped, in bytes that are nearly UTF-8, and anything in UTF-16 or 32, all of which json reads
_HALVES = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]|\0")
_ABSOLUTE = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\:;,'\"()]+[/\\])+[^\s/\\:;,'\"()]*")
_OPENAI_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class WireError(Exception):
    """A request that is answered with an error, in the shape of the API it came by."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class ClientGoneError(Exception):
    """The client hung up before its request was whole: there is nobody to answer."""


def outward(error: Exception | str) -> str:
    """What an error says, for a client: files by their names alone, as where they lie is nobody else's business."""
    return _ABSOLUTE.sub(lambda found: re.split(r"[/\\\\]", found.group().rstrip("/\\"))[-1], str(error))


class AbandonedError(Exception):
    """Nobody waits for this answer any more."""


def is_openai(path: str) -> bool:
    """Whether a path belongs to the OpenAI API."""
    return path.startswith("/v1/")


def error_body(path: str, status: int, message: str) -> bytes:
    """The body of an error, as the API of this path has it."""
    if not is_openai(path):
        return json.dumps({"error": message}, ensure_ascii=False).encode()
    kind = _OPENAI_KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    error = {"message": message, "type": kind, "param": None, "code": None}
    return json.dumps({"error": error}, ensure_ascii=False).encode()


async def send_error(scope: Scope, send: Send, error: WireError) -> None:
    """Answer with an error."""
    await send_json(send, error.status, error_body(scope["path"], error.status, str(error)), error.headers)


async def send_json(send: Send, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Answer with a whole JSON body."""
    await send_whole(send, status, body, "application/json; charset=utf-8", headers)


async def send_whole(
    send: Send, status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with a whole body of any type."""
    response = Response(body, status, {"content-type": content_type, **(headers or {})})
    await send({"type": "http.response.start", "status": status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": body})


async def parts_of_body(receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """The body of a request as it comes.

    Raises:
        WireError: it is longer than `limit` bytes, stopped coming, or comes by drops.
        ClientGoneError: the client hung up.
    """
    size, started = 0, time.monotonic()
    while True:
        # a slow line has time for what it sends; a byte now and then keeps nothing open
        left = started + BODY_SECONDS + size / BODY_BYTES_A_SECOND - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, min(left, BODY_SECONDS)))
        except asyncio.TimeoutError as exc:
            raise WireError(
                408, f"the rest of the request did not come within {BODY_SECONDS:g} s", {"connection": "close"}
            ) from exc
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(limit)
        yield part
        if not message.get("more_body"):
            return


def too_large(limit: int) -> WireError:
    """The answer to a body of more than so many bytes."""
    return WireError(
        413,
        f"the request is larger than {limit:,} bytes; send less at once, or start with a larger --max-body",
        {"connection": "close"},
    )


def parse_object(body: bytes) -> dict[str, Any]:
    """A request's JSON object.

    Raises:
        WireError: it is empty, no JSON, not UTF-8, or no object; the wording of an empty one is Ollama's.
    """
    if not body.strip():
        raise WireError(400, "missing request body")
    try:
        parsed = read_json(body)
    except (ValueError, RecursionError) as exc:
        raise WireError(400, f"the request is no valid JSON: {exc}") from exc
    if not isinstance(parsed, dict):
        raise WireError(400, f"the request must be a JSON object, not {type(parsed).__name__}")
    return parsed


def read_json(body: bytes) -> Any:
    """What JSON says, with all text in it encodable: this is where requests come in.

    Raises:
        ValueError, RecursionError: it is none.
    """
    parsed = json.loads(body)
    return parsed if _HALVES.search(body) is None else repaired(parsed)


def header(scope: Scope, name: str) -> str | None:
    """A request header, or None."""
    wanted = name.lower().encode("latin-1")
    for key, value in scope["headers"]:
        if key == wanted:
            return str(value.decode("latin-1"))
    return None


def headers(scope: Scope, name: str) -> list[bytes]:
    """All values that a request gives a header, as they came."""
    wanted = name.lower().encode("latin-1")
    return [bytes(value) for key, value in scope["headers"] if key == wanted]


def for_body(scope: Scope, body: bytes) -> Scope:
    """The scope of a request whose body is this."""
    headers = [(k, v) for k, v in scope["headers"] if k not in (b"content-length", b"transfer-encoding")]
    headers.append((b"content-length", str(len(body)).encode()))
    return {**scope, "headers": headers}


def replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives this body, and afterwards what the client does."""
    first = True

    async def receiving() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receiving


async def live(receive: Receive, send: Send, close: Callable[[], Awaitable[None]]) -> None:
    """A server's lifespan, of which only the end matters: it closes the app."""
    while True:
        kind = (await receive())["type"]
        if kind == "lifespan.shutdown":
            await close()
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
