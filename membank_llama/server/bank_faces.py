"""`BankFaces`: what a server answers from the bank itself: REST under `/membank/`, the page at `/`, MCP at `/mcp`.

Each is a list of Starlette routes over one `FaceContext`; who asks, and for which namespace, was settled before.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match, Router

from .asgi import NAMESPACE, Receive, Scope, Send, WireError
from .face_context import CALLER, MOUNT
from .proxy.namespace_auth import Caller


class BankFaces:
    """An ASGI app over some routes.

    Args:
        routes: of REST, the page and MCP.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._router = Router(routes, redirect_slashes=False)

    def answers(self, scope: Scope) -> bool:
        """Whether a request is for one of these, by its path and its method."""
        return any(route.matches(scope)[0] is Match.FULL for route in self._router.routes)

    def knows(self, scope: Scope) -> bool:
        """Whether a request's path is one of these, whatever its method."""
        return any(route.matches(scope)[0] is not Match.NONE for route in self._router.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        """Answer one request.

        Raises:
            WireError: it cannot be answered.
        """
        if not self.knows(scope):
            raise WireError(404, "there is nothing at this path")
        by_path = caller.named[0] if caller.named else None
        mount = "" if by_path is None else f"/ns/{by_path}"
        inner = {**scope, NAMESPACE: caller.namespace(), CALLER: caller, MOUNT: mount}
        await self._router(inner, receive, send)
