"""The routes of REST."""

from __future__ import annotations

from ..bank_faces import Face
from ..face_context import FaceContext


def rest_routes(context: FaceContext, *, proxied: bool = False) -> Face:
    """REST under `/membank/`."""
    return Face([])
