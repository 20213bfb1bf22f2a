"""`/mcp`: the tools over streamable HTTP, for the namespace that a request's token, path or header names.

Every request stands for itself and is answered with one JSON message, so that nothing is lost where the server starts
anew and nothing is held for an agent that is gone. Whose a request is, and whether its host and its origin may ask, was
settled before; the SDK's own check knows fewer names of this machine and stays off.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from membank_llama.core.errors import MissingExtraError

from ..asgi import NAMESPACE, Receive, Scope, Send
from ..face_context import FaceContext
from .mcp_sdk import load_sdk
from .mcp_server import McpServer
from .reading_tools import AgentCall

PATH = "/mcp"
MAX_BODY_BYTES_OF_CALL = 1 << 20


class AgentEndpoint:
    """An ASGI app that speaks MCP over one bank."""

    def __init__(self, context: FaceContext) -> None:
        self._context = context
        self._server: McpServer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            server = self._server = self._server or McpServer(self._call, writable=not self._context.bank.read_only)
        except MissingExtraError as exc:
            await JSONResponse({"error": str(exc)}, 501)(scope, receive, send)
            return
        if scope["method"] != "POST":
            told = {"error": "every request stands for itself here: there is no stream to open and no session to end"}
            await JSONResponse(told, 405, {"allow": "POST"})(scope, receive, send)
            return
        manager = load_sdk("mcp.server.streamable_http_manager").StreamableHTTPSessionManager(
            server.sdk_server, json_response=True, stateless=True, max_request_body_size=MAX_BODY_BYTES_OF_CALL
        )
        async with manager.run():
            await manager.handle_request(scope, receive, send)

    def _call(self, context: Any, client: str) -> AgentCall:
        scope = context.request.scope
        memories = self._context.memories(scope)
        recalls = partial(self._context.recalls, str(scope[NAMESPACE]))
        return AgentCall(memories, client, recalls, writable=not self._context.bank.read_only)


def mcp_routes(context: FaceContext) -> list[Route]:
    """The one route of agents."""
    return [Route(PATH, AgentEndpoint(context), methods=["GET", "POST", "DELETE"])]
