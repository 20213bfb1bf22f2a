"""What the page is made of: HTML from Jinja's templates, style, script and icon from files, and the headers of all.

Everything that a memory says is escaped where it is put in; no script and no style stands in HTML, and the browser is
told to run none that does, and to ask no other server for anything.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from membank_llama.core.byte_sizes import size

from ..asgi import WireError

_HERE = Path(__file__).parent
ASSETS = {
    "page.css": "text/css; charset=utf-8",
    "theme.js": "text/javascript; charset=utf-8",
    "hx.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Files that the page asks for, and their types."""
AT = "/membank/page/static/"
_FIRST = ("base.html", "memories.html", "memory_results.html", "memory_rows.html", "memory_macros.html", "fresh.html")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SAFE = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    # with no-referrer a form would be sent as a stranger's
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def render(template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> Response:
    """HTML of a template; kept by nobody on the way."""
    html = _environment().get_template(template).render(**values)
    return HTMLResponse(html, status, {**_SAFE, "cache-control": "no-store", **(headers or {})})


def compile_first() -> None:
    """Compile what the first view is made of, before anybody waits for it."""
    for name in _FIRST:
        _environment().get_template(name)


def nothing_new() -> Response:
    """The answer where the page may stay as it is."""
    return Response(status_code=204, headers={**_SAFE, "cache-control": "no-store"})


def redirected(place: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a form: go and look there."""
    return Response(
        status_code=303, headers={**_SAFE, "cache-control": "no-store", "location": place, **(headers or {})}
    )


def asset(name: str, etag: str | None) -> Response:
    """One of the page's files; `etag`: of the one that the browser has.

    Raises:
        WireError: 404, there is none of this name.
    """
    if name not in ASSETS:
        raise WireError(404, "there is nothing at this path")
    body, tag = _read(name)
    headers = {**_SAFE, "content-type": ASSETS[name], "etag": f'"{tag}"', "cache-control": "no-cache"}
    if etag == f'"{tag}"':
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers)


@lru_cache(maxsize=len(ASSETS))
def _read(name: str) -> tuple[bytes, str]:
    body = (_HERE / "static" / name).read_bytes()
    return body, hashlib.sha256(body).hexdigest()[:16]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {"marked": marked, "number": "{:,}".format, "bytes": size}
    made.globals["static"] = AT
    return made


def marked(text: str, letters: str) -> Markup:
    """A text with the letters that were looked for marked in it."""
    if not letters.strip():
        return escape(text)
    parts = re.split(f"({re.escape(letters.strip())})", text, flags=re.IGNORECASE)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(one) if n % 2 else escape(one) for n, one in enumerate(parts)
    )
