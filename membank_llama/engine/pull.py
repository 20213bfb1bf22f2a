"""`pull`: a model from a registry that speaks as Ollama's does, and hf.co too.

Downloads go on where they stopped: what has come lies beside its place as ``.partial``, and only what has the right
sha256 is moved there. Each step is told in Ollama's words.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from ..errors import ModelFileError
from ..sources import parse_name
from ..wire import WireError
from .layers import MANIFEST_TYPE, Layer, parse_manifest
from .store import ModelStore

REGISTRY = "MEMBANK_REGISTRY"
SECONDS = 30.0
TOLD_EVERY = 0.1
_PIECE = 1 << 20
_RECEIVED = 1 << 16
_MOST_MANIFEST = 4 * 1024 * 1024

Status = dict[str, Any]


async def pull(store: ModelStore, name: str, *, insecure: bool = False) -> AsyncIterator[Status]:
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
    timeout = httpx.Timeout(SECONDS, read=2 * SECONDS)
    yield {"status": "pulling manifest"}
    try:
        async with httpx.AsyncClient(timeout=timeout, follow_redirects=True) as client:
            manifest = await _manifest(client, f"{url}/manifests/{tag}", name)
            for layer in parse_manifest(manifest).parts:
                async for status in _blob(client, f"{url}/blobs/{layer.digest}", store, layer):
                    yield status
    except httpx.HTTPError as exc:
        raise WireError(
            502, f"pull model: {base} cannot be reached or broke off ({exc or type(exc).__name__}); pull again to go on"
        ) from exc
    except ModelFileError as exc:
        raise WireError(502, f"pull model manifest: {exc}") from exc
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    store.write_raw(name, manifest)
    yield {"status": "success"}


async def _manifest(client: httpx.AsyncClient, url: str, name: str) -> bytes:
    response = await client.get(url, headers={"Accept": MANIFEST_TYPE})
    if response.status_code == 404:
        raise WireError(404, f"pull model manifest: file does not exist: {name}")
    if response.status_code != 200:
        raise WireError(502, f"pull model manifest: {response.status_code}: {response.text[:200]}")
    if len(response.content) > _MOST_MANIFEST:
        raise WireError(502, "pull model manifest: it is far too large for one")
    return response.content


async def _blob(client: httpx.AsyncClient, url: str, store: ModelStore, layer: Layer) -> AsyncIterator[Status]:
    path = store.blob(layer.digest)
    told = {"status": f"pulling {layer.digest[7:19]}", "digest": layer.digest, "total": layer.size}
    if path.is_file():
        yield {**told, "completed": layer.size}
        return
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = partial.stat().st_size if partial.exists() else 0
    if done > layer.size:
        partial.unlink()
        done = 0
    yield told if not done else {**told, "completed": done}
    if done < layer.size:
        async for there in _download(client, url, partial, done, layer.size):
            yield {**told, "completed": there}
    await asyncio.to_thread(_settle, partial, path, layer)


async def _download(client: httpx.AsyncClient, url: str, partial: Path, done: int, total: int) -> AsyncIterator[int]:
    """The rest of a file; gives how much is there, a few times a second."""
    headers = {"Range": f"bytes={done}-"} if done else {}
    async with client.stream("GET", url, headers=headers) as response:
        if response.status_code not in (200, 206):
            raise WireError(502, f"pull model: the registry answered {response.status_code} for a part of it")
        if response.status_code == 200:
            done = 0
        last = time.monotonic()
        with partial.open("ab" if done else "wb") as file:
            async for piece in response.aiter_bytes(_RECEIVED):
                if done + len(piece) > total:
                    raise WireError(502, "pull model: the registry sends more than it said")
                await asyncio.to_thread(file.write, piece)
                done += len(piece)
                if time.monotonic() - last >= TOLD_EVERY:
                    last = time.monotonic()
                    yield done
    if done < total:
        raise WireError(502, f"pull model: it broke off at {done:,} of {total:,} bytes; pull again to go on")
    yield done


def _settle(partial: Path, path: Path, layer: Layer) -> None:
    """Move a whole download to its place."""
    digesting = hashlib.sha256()
    with partial.open("rb") as file:
        while piece := file.read(_PIECE):
            digesting.update(piece)
    if f"sha256:{digesting.hexdigest()}" != layer.digest:
        partial.unlink()
        raise WireError(502, f"digest mismatch, file must be downloaded again: {layer.digest}")
    partial.replace(path)
