"""Whom a server on this machine answers: programs here, and pages that belong here.

A page from anywhere can make a browser call an address of this machine, and by rebinding its own name even read the
answer. Ollama's rules are followed: what listens on the loopback address wants a host name of this machine, and a
page's origin must be local, an application's, or named in ``OLLAMA_ORIGINS``. A request that a browser sends without
asking first (a form's, plain text) does its harm even though its answer is kept from the page: so the origin counts for
whatever is not a mere look.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket

from .asgi import Message, Scope, Send, WireError, header, send_whole

_LOCAL = r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(:\d+)?|(app|file|tauri|vscode-webview|vscode-file)://.*"
LOOKING = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""

_METHODS = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_ENDINGS = (".localhost", ".local", ".internal")


def allowed_origins() -> str:
    """A pattern of the origins that are answered; ``*`` in ``OLLAMA_ORIGINS`` stands for anything."""
    named = (origin.strip() for origin in os.environ.get("OLLAMA_ORIGINS", "").split(","))
    return "|".join([_LOCAL, *(re.escape(origin).replace(r"\*", ".*") for origin in named if origin)])


def check_host(scope: Scope) -> None:
    """Refuse a name that is not this machine's, where it listens for this machine alone.

    Raises:
        WireError: 403.
    """
    server = scope.get("server")
    if server is None or not _is_loopback(str(server[0])):
        return
    host = re.sub(r":\d+$", "", header(scope, "host") or "").strip("[]").lower()
    known = {"", "localhost", socket.gethostname().lower()}
    named = host.endswith(_ENDINGS) and re.fullmatch(r"[\w.-]+", host)
    if host not in known and not named and not _is_address(host):
        raise WireError(403, f"{host[:100]} is no name of this machine")


def check_origin(scope: Scope) -> None:
    """Refuse a page from elsewhere.

    Raises:
        WireError: 403.
    """
    origin = header(scope, "origin")
    if origin is not None and not re.fullmatch(allowed_origins(), origin):
        raise WireError(403, f"pages of {origin[:100]} are not answered; name it in OLLAMA_ORIGINS to allow it")


def check_fetch(scope: Scope) -> None:
    """Refuse what a page from elsewhere loads as a picture or a script, of which a browser names no origin.

    Raises:
        WireError: 403.
    """
    if header(scope, "origin") is None and header(scope, "sec-fetch-site") == "cross-site" and not _navigates(scope):
        raise WireError(403, "other sites load nothing from here")


def is_of_own_page(scope: Scope) -> bool:
    """Whether a browser asks this for a page of this very server, or for somebody who typed its address.

    A cookie counts for nothing else: pages of other ports of this machine have it too.
    """
    site, origin = header(scope, "sec-fetch-site"), header(scope, "origin")
    if scope["method"] in LOOKING:
        return site in (None, "none", "same-origin") or _navigates(scope)
    if site is not None:
        return site == "same-origin"
    return origin is not None and origin.partition("://")[2] == (header(scope, "host") or "")


def _navigates(scope: Scope) -> bool:
    return header(scope, "sec-fetch-mode") == "navigate"


def is_preflight(scope: Scope) -> bool:
    """Whether a browser asks here what a page may send; it never adds a token to that."""
    asked = header(scope, "origin"), header(scope, "access-control-request-method")
    return scope["method"] == "OPTIONS" and None not in asked


async def answer_preflight(scope: Scope, send: Send) -> None:
    """Tell a browser that a page may send its request.

    Raises:
        WireError: 403, the page is from elsewhere.
    """
    check_origin(scope)
    lines = {
        "access-control-allow-origin": header(scope, "origin") or "",
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": header(scope, "access-control-request-headers") or "*",
        "access-control-max-age": "43200",
        "vary": "Origin",
    }
    await send_whole(send, 200, b"OK", "text/plain; charset=utf-8", lines)


def for_page(scope: Scope, send: Send) -> Send:
    """`send` whose answers a page that belongs here may read, errors too."""
    origin = header(scope, "origin")
    if origin is None or not re.fullmatch(allowed_origins(), origin):
        return send

    async def sending(message: Message) -> None:
        lines = message.get("headers", ())
        if message["type"] == "http.response.start" and not any(k == b"access-control-allow-origin" for k, _ in lines):
            allowed = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
            message = {**message, "headers": [*lines, *allowed]}
        await send(message)

    return sending


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_loopback
