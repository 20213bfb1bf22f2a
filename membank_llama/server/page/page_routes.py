"""The routes of the page."""

from __future__ import annotations

from ..bank_faces import Face
from ..face_context import FaceContext


def page_routes(context: FaceContext) -> Face:
    """The page at `/` and what it loads."""
    return Face([])
