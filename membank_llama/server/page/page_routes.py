"""The routes of the page: a bank for people, in a browser.

Pages are made on the server and work without scripts as far as one only looks. The scripts are our own and few: hx.js
understands the part of htmx's attributes that the templates use, so that a part of the page is asked for and put in its
place; page.js has keys, selection and notes; theme.js the chosen theme. There is no build step and no file of others.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..asgi import header
from ..bank_faces import SIGN_IN, Face
from ..face_context import FaceContext
from .bank_view import bank_routes
from .import_view import PageImports, import_routes
from .map_view import map_routes
from .memories_view import memories_routes
from .page_jobs import PageJobs
from .page_templates import ASSETS, AT, asset, compile_first
from .recalls_view import why_routes
from .sign_in import SIGN_OUT, sign_in_routes


def page_routes(context: FaceContext) -> Face:
    """The page at `/` and what it loads."""
    compile_first()
    jobs = PageJobs()
    imports = PageImports(context, jobs)
    routes = [
        *memories_routes(context),
        *why_routes(context),
        *map_routes(context),
        *bank_routes(context, jobs, imports),
        *import_routes(context, imports),
        *sign_in_routes(context),
        Route(f"{AT}{{name}}", _asset),
    ]
    return Face(
        routes, imports.folders.live, public=frozenset({SIGN_IN, SIGN_OUT, *(f"{AT}{name}" for name in ASSETS)})
    )


async def _asset(request: Request) -> Response:
    return asset(request.path_params["name"], header(request.scope, "if-none-match"))
