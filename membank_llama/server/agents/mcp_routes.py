"""The routes of MCP."""

from __future__ import annotations

from ..bank_faces import Face
from ..face_context import FaceContext


def mcp_routes(context: FaceContext) -> Face:
    """MCP over HTTP at `/mcp`."""
    return Face([])
