"""`BankApp`: the ASGI app of a bank alone, for REST, the page and MCP, with nothing behind it that generates."""

from __future__ import annotations

from dataclasses import replace

from .agents.mcp_routes import mcp_routes
from .asgi import ClientGoneError, Message, Receive, Scope, Send, WireError, is_request, send_error
from .bank_faces import BankFaces
from .face_context import FaceContext
from .origins import answer_preflight, check_host, for_page, is_preflight
from .page.page_routes import page_routes
from .proxy.namespace_auth import BearerTokens, located
from .rest.rest_routes import rest_routes


def faces_of(context: FaceContext, tokens: BearerTokens, *, proxied: bool = False) -> BankFaces:
    """All faces of a bank.

    Args:
        proxied: whether a proxy answers beside them, with `/membank/status`, `why`, `recall` and `learn`.
    """
    if tokens.by_token:
        context = replace(context, opens=tokens.opens)
    return BankFaces([rest_routes(context, proxied=proxied), page_routes(context), mcp_routes(context)], tokens)


class BankApp:
    """The faces of a bank, checked as the proxy checks what comes.

    Args:
        context: its bank is closed by whoever opened it.
        tokens: who may come in, and to which namespace.
    """

    def __init__(self, context: FaceContext, tokens: BearerTokens | None = None) -> None:
        self._faces = faces_of(context, tokens or BearerTokens({}))

    async def close(self) -> None:
        """Leave what the faces hold."""
        await self._faces.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not await is_request(scope, receive, send, self.close):
            return
        answer = _Started(for_page(scope, send))
        try:
            check_host(scope)
            by_path, inner = located(scope)
            if scope["method"] == "OPTIONS" and is_preflight(scope):
                await answer_preflight(scope, answer)
            else:
                await self._faces(inner, receive, answer, by_path)
        except WireError as exc:
            if not answer.has_begun:
                await send_error(scope, answer, exc)
        except ClientGoneError:
            pass


class _Started:
    """Passes messages on, and knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        self.has_begun = True
        await self._send(message)
