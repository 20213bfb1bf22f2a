"""HTTP as engine and proxy share it: errors in the shape that the caller's API has.

Ollama answers ``{"error": "…"}``, OpenAI ``{"error": {"message": "…", …}}``, Anthropic
``{"type": "error", "error": {…}}``; which of them by the path alone, so that a client gets what it can read even where
its request could not be.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp as ASGIApp
from starlette.types import Message as Message
from starlette.types import Receive as Receive
from starlette.types import Scope as Scope
from starlette.types import Send as Send

from membank_llama.core.surrogates import repaired

MAX_BODY_BYTES = 8 * 1024 * 1024
NAMESPACE, KEPT_SINCE = "membank.namespace", "membank.kept-since"
"""Of a scope, said by the proxy and by no client: whose request it is, and whether what is evaluated for it may be kept
on disk."""

# escaped, in bytes that are nearly UTF-8, and anything in UTF-16 or 32, all of which json reads
_HALVES = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]|\0")
_ABSOLUTE = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\:;,'\"()]+[/\\])+[^\s/\\:;,'\"()]*")
_OPENAI_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_ANTHROPIC_KINDS = {**_OPENAI_KINDS, 413: "request_too_large", 503: "overloaded_error", 529: "overloaded_error"}
_ANTHROPIC = ("/v1/messages", "/messages")
# as llama.cpp's own server has them, beside those under /v1
_BARE = ("/chat/completions", "/completions", "/completion", "/responses", "/embeddings", "/models")


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


def is_anthropic(path: str) -> bool:
    """Whether a path belongs to the Anthropic API."""
    return path.startswith(tuple(f"{one}/" for one in _ANTHROPIC)) or path in _ANTHROPIC


def is_openai(path: str) -> bool:
    """Whether a path belongs to the OpenAI API."""
    return (path.startswith("/v1/") or path in _BARE) and not is_anthropic(path)


def error_body(path: str, status: int, message: str) -> bytes:
    """The body of an error, as the API of this path has it."""
    fallback = "invalid_request_error" if status < 500 else "api_error"
    error: dict[str, Any] = {"error": message}
    if is_anthropic(path):
        told = {"type": _ANTHROPIC_KINDS.get(status, fallback), "message": message}
        error = {"type": "error", "error": told, "request_id": f"req_{secrets.token_hex(12)}"}
    elif is_openai(path):
        kind = _OPENAI_KINDS.get(status, fallback)
        error = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return json.dumps(error, ensure_ascii=False).encode()


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


def repaired_json(body: bytes) -> bytes:
    """JSON for a parser that knows no halves of surrogate pairs, and refuses all of it for one: as it came, but with
    those replaced."""
    if _HALVES.search(body) is None:
        return body
    try:
        return json.dumps(read_json(body), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return body


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


def with_body(scope: Scope, receive: Receive, body: bytes, without: Container[bytes] = ()) -> tuple[Scope, Receive]:
    """A request with this body in place of its own, and without some of its headers; what the client does next comes
    after it."""
    gone = (b"content-length", b"transfer-encoding")
    lines = [(key, value) for key, value in scope["headers"] if key not in gone and key not in without]
    lines.append((b"content-length", str(len(body)).encode()))
    first = True

    async def receiving() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return {**scope, "headers": lines}, receiving


async def live(receive: Receive, send: Send, close: Callable[[], Awaitable[None]]) -> None:
    """A server's lifespan, of which only the end matters: it closes the app."""
    while True:
        kind = (await receive())["type"]
        if kind == "lifespan.shutdown":
            await close()
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def is_request(scope: Scope, receive: Receive, send: Send, close: Callable[[], Awaitable[None]]) -> bool:
    """Whether this is a request over HTTP. A server's lifespan, whose end closes the app, and other protocols are
    answered here."""
    if scope["type"] == "lifespan":
        await live(receive, send, close)
    elif scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1000})
    return bool(scope["type"] == "http")


@dataclass(frozen=True)
class Whose:
    """Whose request it is, and whether what is evaluated for it may be kept on disk.

    Args:
        since: what is forgotten from this epoch of the KV state on may be in it; None: it may not be kept at all.
    """

    namespace: str = ""
    since: str | None = None


def whose(scope: Scope) -> Whose:
    """What the proxy has said of a request; no client can."""
    return Whose(str(scope.get(NAMESPACE, "")), scope.get(KEPT_SINCE))
