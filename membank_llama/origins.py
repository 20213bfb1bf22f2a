"""Whom a server on this machine answers: programs here, and pages that belong here.

A page from anywhere can make a browser call an address of this machine, and by rebinding its own name even read the
answer. Ollama's rules are followed: what listens on the loopback address wants a host name of this machine, and a
page's origin must be local, an application's, or named in ``OLLAMA_ORIGINS``.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket

from .wire import Scope, WireError, header

_LOCAL = r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(:\d+)?|(app|file|tauri|vscode-webview|vscode-file)://.*"
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
    if host not in known and not host.endswith(_ENDINGS) and not _is_address(host):
        raise WireError(403, f"{host[:100]} is no name of this machine")


def check_origin(scope: Scope) -> None:
    """Refuse a page from elsewhere.

    Raises:
        WireError: 403.
    """
    origin = header(scope, "origin")
    if origin is not None and not re.fullmatch(allowed_origins(), origin):
        raise WireError(403, f"pages of {origin[:100]} are not answered; name it in OLLAMA_ORIGINS to allow it")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_loopback
