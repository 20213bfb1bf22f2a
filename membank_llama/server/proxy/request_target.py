"""Where a request goes: one path, whatever way a client wrote it, and the namespace that it begins with.

Base addresses that end in a slash give `//api/chat`; that is `/api/chat`. What is no path at all, as in a request to
another server, is refused here, before anything is decided by it.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from ..asgi import Scope, WireError
from .namespace_auth import checked_name

_SLASHES = re.compile(rb"/{2,}")
_PREFIX = re.compile(rb"/ns/([^/]+)(/.*)?", re.DOTALL)


def located(scope: Scope) -> tuple[str | None, Scope]:
    """The namespace that a request's path names, if any, and the request without it.

    Raises:
        WireError: 400, it has no path, or what stands there can be no namespace.
    """
    raw = bytes(scope.get("raw_path") or scope["path"].encode())
    if not raw.startswith(b"/"):
        raise WireError(400, "the request names no path of this server; begin it with /")
    raw = _SLASHES.sub(b"/", raw)
    name, found = None, _PREFIX.fullmatch(raw)
    if found is not None:
        name, raw = checked_name(unquote(found[1].decode("latin-1"))), found[2] or b"/"
    elif _decoded(raw).startswith("/ns/"):
        raise WireError(400, "write the namespace as /ns/NAME/…, with its slashes as they are")
    return name, {**scope, "path": _decoded(raw), "raw_path": raw}


def _decoded(raw: bytes) -> str:
    return unquote(raw.decode("latin-1"))
