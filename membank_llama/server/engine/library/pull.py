"""`pull`: a model from a registry that speaks as Ollama's does, and hf.co too.

Nothing that a registry says is believed: its manifest has a bound, a blob has the size and the sha256 that the manifest
gave, and room for all of it is there before the first byte is asked for. Each step is told in Ollama's words.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from membank_llama.core.errors import ModelFileError
from membank_llama.gguf.ollama_manifest import MANIFEST_TYPE, Layer, parse_manifest
from membank_llama.gguf.ollama_store import parse_name

from ...asgi import WireError
from .downloads import Downloads, begun
from .model_store import ModelStore
from .network_policy import REGISTRY, asked

MANIFEST_SECONDS = 60.0
_MOST_MANIFEST = 4 * 1024 * 1024
_MOST_PARTS = 256


async def pull(
    store: ModelStore, name: str, downloads: Downloads, *, insecure: bool = False
) -> AsyncGenerator[dict[str, Any], None]:
    """Fetch a model, telling how far it is.

    Raises:
        WireError: there is no such model, or it could not be fetched.
    """
    parsed = parse_name(name)
    if parsed is None:
        raise WireError(400, f"invalid model name: {name[:200]}")
    host, namespace, model, tag = parsed
    base = os.environ.get(REGISTRY) or f"{'http' if insecure else 'https'}://{host}"
    url = f"{base.rstrip('/')}/v2/{namespace}/{model}"
    downloads.sweep(store)
    yield {"status": "pulling manifest"}
    try:
        manifest = await asyncio.wait_for(_manifest(f"{url}/manifests/{tag}", name), MANIFEST_SECONDS)
        parts = parse_manifest(manifest).parts
    except asyncio.TimeoutError as exc:
        raise WireError(502, "pull model manifest: it does not come; pull again") from exc
    except ModelFileError as exc:
        raise WireError(502, "pull model manifest: what the registry sent is none") from exc
    if not 0 < len(parts) <= _MOST_PARTS:
        raise WireError(502, f"pull model manifest: it has {'far too many' if parts else 'no'} parts")
    missing = {part.digest: part.size for part in parts if not store.has(part.digest)}
    store.check_room(sum(missing.values()) - sum(begun(store, _url(url, part), part) for part in parts))
    for part in parts:
        async with aclosing(_blob(store, _url(url, part), part, downloads)) as steps:
            async for status in steps:
                yield status
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    store.write_raw(name, manifest)
    yield {"status": "success"}


def _url(base: str, part: Layer) -> str:
    return f"{base}/blobs/{part.digest}"


async def _manifest(url: str, name: str) -> bytes:
    async with asked(url, {"Accept": MANIFEST_TYPE}) as response:
        if response.status_code == 404:
            raise WireError(404, f"pull model manifest: file does not exist: {name}")
        if response.status_code != 200:
            raise WireError(502, f"pull model manifest: the registry answered {response.status_code}")
        manifest = bytearray()
        async for piece in response.aiter_raw():
            manifest += piece
            if len(manifest) > _MOST_MANIFEST:
                raise WireError(502, "pull model manifest: it is far too large for one")
        return bytes(manifest)


async def _blob(
    store: ModelStore, url: str, layer: Layer, downloads: Downloads
) -> AsyncGenerator[dict[str, Any], None]:
    path = store.blob(layer.digest)
    told = {"status": f"pulling {layer.digest[7:19]}", "digest": layer.digest, "total": layer.size}
    if path.is_file():
        if path.stat().st_size != layer.size:
            raise WireError(502, f"pull model manifest: {layer.digest} is here and has another size than it says")
        yield {**told, "completed": layer.size}
        return
    yield told
    async with aclosing(downloads.fetch(store, url, layer)) as steps:
        async for there in steps:
            yield {**told, "completed": there}
