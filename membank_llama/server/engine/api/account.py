"""What Ollama asks of its makers' servers: answered as one that is signed out and has its cloud switched off.

Nothing here asks anybody; what the model cannot do (draw, hear) is said in the same place.
"""

from __future__ import annotations

from ...asgi import WireError, parse_object
from .. import fields
from ..exchange import Exchange
from ..runtime.generation_service import GenerationService

_DISABLED = "cloud is disabled"


async def status(_: GenerationService, x: Exchange) -> None:
    """`GET /api/status`."""
    await x.reply({"cloud": {"disabled": True, "source": "config"}})


async def whoami(_: GenerationService, x: Exchange) -> None:
    """`POST /api/me`."""
    await x.reply({"error": "unauthorized", "signin_url": ""}, 401)


async def signout(_: GenerationService, x: Exchange) -> None:
    """`POST /api/signout` and `DELETE /api/user/keys/{key}`."""
    raise WireError(401, "you are not currently signed in")


async def recommendations(_: GenerationService, x: Exchange) -> None:
    """`GET /api/experimental/model-recommendations`."""
    await x.reply({"recommendations": []})


async def web_search(_: GenerationService, x: Exchange) -> None:
    """`POST /api/experimental/web_search`."""
    parse_object(x.raw)
    raise WireError(403, f"{_DISABLED}: web search is unavailable")


async def web_fetch(_: GenerationService, x: Exchange) -> None:
    """`POST /api/experimental/web_fetch`."""
    parse_object(x.raw)
    raise WireError(403, f"{_DISABLED}: web fetch is unavailable")


async def image_generation(service: GenerationService, x: Exchange) -> None:
    """`POST /v1/images/generations` and `/v1/images/edits`."""
    name = fields.model_name(parse_object(x.raw))
    await service.find(name)
    raise WireError(400, f'"{name}" does not support image generation')


async def transcription(_: GenerationService, x: Exchange) -> None:
    """`POST /v1/audio/transcriptions`, whose body is a form."""
    raise WireError(400, "no model here supports audio")
