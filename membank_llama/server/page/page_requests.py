"""`page_route`: a route of the page, from a function that takes a `PageRequest` and gives a response.

The function runs in a thread, as it reads and writes the bank. What goes wrong is answered as HTML: a whole page where
a person went there, a note in the corner where the page's script asked.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from membank_llama.core.days import zone_named
from membank_llama.core.errors import InvalidInputError, MembankError, MemoryNotFoundError
from membank_llama.memory.namespace_memories import NamespaceMemories

from ..asgi import NAMESPACE, Scope, WireError, header, outward
from ..bank_faces import status_of
from ..face_context import MOUNT, FaceContext
from ..origins import LOOKING, is_of_own_page
from ..proxy.namespace_auth import TIME_ZONE_HEADER
from .page_templates import render

logger = logging.getLogger("membank_llama")

ZONE_COOKIE = "membank_zone"
"""Set by the page's script: whose days are shown."""
MOST_ID = 2**63 - 1
PageHandler = Callable[["PageRequest"], Response]
Received = TypeVar("Received")


@dataclass(frozen=True)
class PageRequest:
    """What a browser asks.

    Args:
        at: what all of the page's paths begin with: ``/ns/work``, or nothing.
        query, form: what it says in its address and in its body; of a name given twice, the last.
        values: all of its body's, in order.
    """

    context: FaceContext
    scope: Scope
    at: str
    query: Mapping[str, str]
    form: Mapping[str, str]
    values: tuple[tuple[str, str], ...] = ()

    @cached_property
    def mine(self) -> NamespaceMemories:
        """The memories that it is about."""
        return self.context.memories(_with_zone(self.scope))

    @cached_property
    def zone(self) -> Any:
        """Whose days are shown; None for this machine's."""
        return self.mine.zone

    @property
    def by_script(self) -> bool:
        """Whether the page's script asks, for a part of the page."""
        return header(self.scope, "hx-request") == "true"

    @property
    def memory_id(self) -> int:
        """The memory that the path names.

        Raises:
            MemoryNotFoundError: there can be none of this id.
        """
        found = int(self.scope["path_params"]["memory_id"])
        if found > MOST_ID:
            raise MemoryNotFoundError("there is no such memory")
        return found

    def ids(self) -> list[int]:
        """The memories that were chosen.

        Raises:
            InvalidInputError: these are none.
        """
        try:
            found = [int(value) for name, value in self.values if name == "ids"]
        except ValueError as exc:
            raise InvalidInputError("ids are whole numbers") from exc
        if any(not 0 < one <= MOST_ID for one in found):
            raise InvalidInputError("ids are whole numbers above 0")
        return found

    def show(
        self, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> Response:
        """HTML of a template, with what all of them know."""
        return render(template, status, headers, at=self.at, namespace=str(self.scope[NAMESPACE]), **values)


def page_route(context: FaceContext, path: str, handler: PageHandler, *methods: str) -> Route:
    """A route of the page; GET where no method is named."""

    async def form_of(request: Request) -> tuple[tuple[str, str], ...]:
        if request.method in LOOKING:
            return ()
        async with context.body_budget.body(request.scope, request.receive) as raw:
            return _form_of(raw)

    def with_form(asked: PageRequest, values: tuple[tuple[str, str], ...]) -> Response:
        return handler(replace(asked, form=dict(values), values=values))

    async def endpoint(request: Request) -> Response:
        return await answered(context, request, with_form, form_of)

    return Route(path, endpoint, methods=list(methods or ("GET",)))


async def answered(
    context: FaceContext,
    request: Request,
    handler: Callable[[PageRequest, Received], Response],
    receive: Callable[[Request], Awaitable[Received]],
) -> Response:
    """The answer to a request whose body `receive` takes in; changes are for the page itself alone."""
    at = quote(str(request.scope.get(MOUNT, "")), safe="/")
    asked = PageRequest(context, request.scope, at, request.query_params, {})
    try:
        if request.method not in LOOKING and not is_of_own_page(request.scope):
            raise WireError(403, "another page asked for this change; nothing was changed")
        body = await receive(request)
        return await context.in_thread(handler, asked, body)
    except (WireError, MembankError) as exc:
        return _refused(asked, exc)


def _refused(asked: PageRequest, exc: WireError | MembankError) -> Response:
    status = exc.status if isinstance(exc, WireError) else status_of(exc)
    if status >= 500:
        logger.warning("the page could not answer %s: %s", asked.scope["path"], exc)
    said, headers = outward(exc), exc.headers if isinstance(exc, WireError) else {}
    gone: list[int] = []
    if isinstance(exc, MemoryNotFoundError):
        said = "This memory is no longer there: it was corrected or forgotten elsewhere."
        if asked.scope["method"] == "PATCH":
            # what was written stays in its form, for whoever wants to keep it
            said += " What you wrote is not saved."
        elif "memory_id" in asked.scope["path_params"]:
            gone = [int(asked.scope["path_params"]["memory_id"])]
    if asked.by_script:
        return asked.show("trouble_toast.html", status, headers, said=said, gone=gone)
    return asked.show("trouble.html", status, headers, said=said, title="That did not work", view="")


def _form_of(raw: bytes) -> tuple[tuple[str, str], ...]:
    """What a form says.

    Raises:
        WireError: 400, it is none.
    """
    try:
        return tuple(parse_qsl(raw.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=20_000))
    except ValueError as exc:
        raise WireError(400, "the form cannot be read") from exc


def _with_zone(scope: Scope) -> Scope:
    """The request with the time zone that the page's script found, where no header names one."""
    if header(scope, TIME_ZONE_HEADER) is not None:
        return scope
    for part in (header(scope, "cookie") or "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == ZONE_COOKIE:
            with suppress(InvalidInputError):
                zone_named(unquote(value))
                named = (TIME_ZONE_HEADER.encode(), unquote(value).encode())
                return {**scope, "headers": [*scope["headers"], named]}
    return scope
