"""`BankFaces`: what a server answers from the bank itself: REST under `/membank/`, the page at `/`, MCP at `/mcp`.

Each face is some Starlette routes over one `FaceContext`. Here it is settled who asks and for which namespace, the same
way for all of them; what they raise becomes an answer in JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Router

from membank_llama.core.errors import (
    BankError,
    BankReadOnlyError,
    InvalidInputError,
    MembankError,
    MemoryNotFoundError,
    MissingExtraError,
)

from .asgi import NAMESPACE, Receive, Scope, Send, WireError, header, outward
from .face_context import CALLER, MOUNT
from .origins import LOOKING, check_fetch, check_origin
from .proxy.namespace_auth import BearerTokens, Caller

REST_PREFIX, MCP_PATH, SIGN_IN = "/membank/", "/mcp", "/membank/page/sign-in"
NOBODY = Caller("", False)
"""Who asks for what is shown without a token."""

_PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_STATUSES: tuple[tuple[type[MembankError], int], ...] = (
    (MemoryNotFoundError, 404),
    (InvalidInputError, 400),
    (BankReadOnlyError, 409),
    (MissingExtraError, 501),
    (BankError, 503),
)


@dataclass(frozen=True)
class Face:
    """One of the faces of a bank.

    Args:
        lifespan: what has to be entered before the first request, and left at the end, both in one task.
        public: paths that are answered without a token, where tokens are given out.
    """

    routes: Sequence[BaseRoute]
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None
    public: frozenset[str] = frozenset()


class BankFaces:
    """An ASGI app over some faces.

    Args:
        tokens: who may come in, and to which namespace.
    """

    def __init__(self, faces: Sequence[Face], tokens: BearerTokens) -> None:
        self._tokens = tokens
        self._public = frozenset(path for face in faces for path in face.public)
        self._faces = [
            (Router(face.routes, redirect_slashes=False), face.lifespan and _Lifespan(face.lifespan)) for face in faces
        ]

    def answers(self, scope: Scope) -> bool:
        """Whether a request is for a bank, and not for what else there is behind the same port."""
        path = str(scope["path"])
        if path == "/":
            reads_html = "text/html" in (header(scope, "accept") or "")
            return scope["method"] in ("GET", "HEAD") and reads_html and self._has(scope)
        return path.startswith(REST_PREFIX) or path == MCP_PATH or path.startswith(f"{MCP_PATH}/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send, by_path: str | None) -> None:
        """Answer one request; `by_path`: the namespace that its path began with.

        Raises:
            WireError: it cannot be answered.
        """
        try:
            await self._answer(scope, receive, send, by_path)
        except MembankError as exc:
            raise WireError(status_of(exc), outward(exc), _PRIVATE) from exc
        except HTTPException as exc:
            raise WireError(exc.status_code, exc.detail, {**_PRIVATE, **(exc.headers or {})}) from exc
        except WireError as exc:
            exc.headers = {**_PRIVATE, **exc.headers}
            raise

    async def _answer(self, scope: Scope, receive: Receive, send: Send, by_path: str | None) -> None:
        check_origin(scope)
        check_fetch(scope)
        caller, scope = self._admitted(scope, by_path)
        namespace = "" if caller is NOBODY else caller.namespace()
        mount = "" if by_path is None else f"/ns/{by_path}"
        inner = {**scope, NAMESPACE: namespace, CALLER: caller, MOUNT: mount}
        router, lifespan = self._face_of(inner)
        if lifespan is not None:
            await lifespan.entered()
        await router(inner, receive, send)

    async def close(self) -> None:
        """Leave what was entered for the faces."""
        for _, lifespan in self._faces:
            if lifespan is not None:
                await lifespan.close()

    def _admitted(self, scope: Scope, by_path: str | None) -> tuple[Caller, Scope]:
        """Who asks, and the request that is answered: a stranger's for the page is one to sign in."""
        path = scope["path"]
        try:
            return self._tokens.caller(scope, by_path, by_cookie=not path.startswith(MCP_PATH)), scope
        except WireError as exc:
            if exc.status != 401:
                raise
            if path in self._public:
                return NOBODY, scope
            if path == "/" and scope["method"] in LOOKING and SIGN_IN in self._public:
                return NOBODY, {**scope, "path": SIGN_IN, "raw_path": SIGN_IN.encode()}
            raise

    def _has(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for router, _ in self._faces for route in router.routes)

    def _face_of(self, scope: Scope) -> tuple[Router, _Lifespan | None]:
        """The face that a request is for.

        Raises:
            WireError: 404, none has its path; 405, they have it for other methods.
        """
        allowed: set[str] = set()
        for router, lifespan in self._faces:
            for route in router.routes:
                match = route.matches(scope)[0]
                if match is Match.FULL:
                    return router, lifespan
                if match is Match.PARTIAL:
                    allowed |= getattr(route, "methods", None) or set()
        if allowed:
            raise WireError(405, f"{scope['method']} is not allowed here", {"allow": ", ".join(sorted(allowed))})
        raise WireError(404, f"there is nothing at this path; {REST_PREFIX}openapi.json says what there is")


def status_of(error: MembankError) -> int:
    """The status that an error of the package is answered with."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 503)


class _Lifespan:
    """Enters a context when it is first asked for, and leaves it in the same task."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._opening = opening
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None]
        self._over: asyncio.Event

    async def entered(self) -> None:
        """Once it is entered; what entering it raises is raised here, and the next one tries anew."""
        if self._task is None:
            self._ready, self._over = asyncio.get_running_loop().create_future(), asyncio.Event()
            self._task = asyncio.create_task(self._live(self._ready, self._over))
        await asyncio.shield(self._ready)

    async def close(self) -> None:
        """Leave it, if it was entered."""
        task, self._task = self._task, None
        if task is not None:
            self._over.set()
            await task

    async def _live(self, ready: asyncio.Future[None], over: asyncio.Event) -> None:
        try:
            async with self._opening():
                ready.set_result(None)
                await over.wait()
        except Exception as exc:
            if ready.done():
                raise
            self._task = None
            ready.set_exception(exc)
