"""`/mcp`: the tools over streamable HTTP, for the namespace that a request's token, path or header names.

Every request stands for itself and is answered with one JSON message, so that nothing is lost where the server starts
anew and nothing is held for an agent that is gone. Whose a request is, and whether its host and its origin may ask, was
settled before; the SDK's own check knows fewer names of this machine and stays off.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.routing import Route

from ..asgi import NAMESPACE, Receive, Scope, Send, repaired_json, with_body
from ..bank_faces import MCP_PATH, Face
from ..face_context import FaceContext
from ..proxy.namespace_auth import zone_of
from .mcp_sdk import load_sdk
from .mcp_server import McpServer
from .reading_tools import AgentCall

LONGEST_CALL = 1 << 20
"""Bytes of a request; sixteen times the longest memory."""


class AgentEndpoint:
    """An ASGI app that speaks MCP over one bank."""

    def __init__(self, context: FaceContext) -> None:
        self._context = context
        self._server: McpServer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            MissingExtraError: the SDK is not installed.
            WireError, ClientGoneError: its body cannot be taken in.
        """
        if self._server is None:
            self._server = McpServer(self._call, writable=self._writable)
        manager = load_sdk("mcp.server.streamable_http_manager").StreamableHTTPSessionManager(
            self._server.sdk_server, json_response=True, stateless=True, max_request_body_size=LONGEST_CALL
        )
        async with self._context.body_budget.body(scope, receive) as body, manager.run():
            await manager.handle_request(*with_body(scope, receive, repaired_json(body)), send)

    def _call(self, context: Any, client: str) -> AgentCall:
        scope = context.request.scope
        recalls = partial(self._context.recalls, str(scope[NAMESPACE]))
        memories, zone = self._context.memories(scope), zone_of(scope)
        return AgentCall(memories, client, recalls, writable=self._writable, zone=zone)

    @property
    def _writable(self) -> bool:
        return not self._context.bank.read_only


def mcp_routes(context: FaceContext) -> Face:
    """MCP over HTTP at `/mcp`; there is no stream to open and no session to end, so POST is all there is."""
    return Face([Route(MCP_PATH, AgentEndpoint(context), methods=["POST"])])
