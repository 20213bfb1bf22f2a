"""Signing in, where tokens are given out: a browser cannot send one in a header, so it keeps it in a cookie.

The cookie is read by this server alone, by no script, and counts for what the page itself asks (namespace_auth.py).
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from ..asgi import NAMESPACE
from ..bank_faces import SIGN_IN
from ..face_context import FaceContext
from ..proxy.namespace_auth import SIGN_IN_COOKIE
from .page_requests import PageRequest, page_route
from .page_templates import redirected

SIGN_OUT = "/membank/page/sign-out"
KEPT_SECONDS = 30 * 86_400
_LONGEST = 2000


def sign_in_routes(context: FaceContext) -> list[Route]:
    """The form, and what becomes of it."""
    return [
        page_route(context, SIGN_IN, show_form),
        page_route(context, SIGN_IN, sign_in, "POST"),
        page_route(context, SIGN_OUT, sign_out, "POST"),
    ]


def show_form(asked: PageRequest) -> Response:
    """The form."""
    if asked.context.opens is None or asked.scope[NAMESPACE]:
        return redirected(f"{asked.at}/")
    return asked.show("sign_in.html", 401, title="Sign in", view="sign-in", said="")


def sign_in(asked: PageRequest) -> Response:
    """Let the browser keep the token, if it is one."""
    token, opens = asked.form.get("token", "").strip(), asked.context.opens
    if opens is None:
        return redirected(f"{asked.at}/")
    if len(token) > _LONGEST or not opens(token):
        return asked.show("sign_in.html", 401, title="Sign in", view="sign-in", said="That is none of the tokens here.")
    return redirected(f"{asked.at}/", {"set-cookie": _cookie(asked, token, KEPT_SECONDS)})


def sign_out(asked: PageRequest) -> Response:
    """Let the browser forget the token."""
    return redirected(f"{asked.at}/", {"set-cookie": _cookie(asked, "", 0)})


def _cookie(asked: PageRequest, token: str, seconds: int) -> str:
    kept = Response()
    kept.set_cookie(
        SIGN_IN_COOKIE,
        token,
        max_age=seconds,
        path="/",
        httponly=True,
        samesite="strict",
        secure=asked.scope.get("scheme") == "https",
    )
    return kept.headers["set-cookie"]
