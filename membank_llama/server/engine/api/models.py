"""Models as clients manage them: listed, shown, pulled, made, copied, deleted; and the blobs they are made of.

Only what lies in our own store is ever written or deleted: a file that somebody named, a folder of theirs and Ollama's
own store are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from membank_llama.core.errors import ModelFileError, ModelNotFoundError
from membank_llama.gguf.capabilities import read_facts
from membank_llama.gguf.ollama_store import find_blob

from ...asgi import ClientGoneError, Receive, Scope, Send, WireError, outward, send_error, send_whole
from .. import durations, fields
from ..exchange import NDJSON, Exchange
from ..library import details, modelfile
from ..library.catalogue import Catalogue, CatalogueEntry, canonical
from ..library.model_store import ModelStore
from ..library.pull import pull
from ..library.served_model import ServedModel
from ..runtime.generation_service import GenerationService
from ..runtime.model_pool import PooledModel

VERSION = "0.32.0"
"""Clients ask for a version to know what a server can: this is the Ollama whose API is followed here."""

BLOBS = "/api/blobs/"


async def version(_: GenerationService, x: Exchange) -> None:
    """`GET /api/version`."""
    await x.reply({"version": VERSION})


async def tags(service: GenerationService, x: Exchange) -> None:
    """`GET /api/tags`."""
    await x.reply_from(lambda: {"models": _listed(service.catalogue)})


async def running(service: GenerationService, x: Exchange) -> None:
    """`GET /api/ps`."""
    loaded = [(one.request.served, _running(one)) for one in service.pool.loaded()]
    await x.reply_from(lambda: {"models": [{**row, "details": _details(served)} for served, row in loaded]})


async def show(service: GenerationService, x: Exchange) -> None:
    """`POST /api/show`."""
    name, verbose = _name(x), fields.flag(x.body, "verbose", False)
    await x.reply_from(lambda: _shown(_entry(service, name), verbose))


def _running(loaded: PooledModel) -> dict[str, Any]:
    served = loaded.request.served
    return {
        "name": served.name,
        "model": served.name,
        "size": loaded.nbytes,
        "digest": served.digest,
        "expires_at": durations.rfc3339(loaded.expires_at),
        "size_vram": loaded.vram,
        "context_length": loaded.n_ctx,
        # for who asks how long a prompt may be: more than what is there is made when it comes
        "membank": {"most_context": loaded.most},
    }


def _details(served: ServedModel) -> dict[str, Any]:
    # of its file alone: clients ask often, and going through the stores for a manifest takes long
    return details.details(CatalogueEntry(served, origin=""))


def _listed(catalogue: Catalogue) -> list[dict[str, Any]]:
    return [details.listed(entry) for entry in sorted(catalogue.entries(), key=lambda e: -e.model.modified_at)]


def _shown(entry: CatalogueEntry, verbose: bool) -> dict[str, Any]:
    model = entry.model
    shown: dict[str, Any] = {
        "modelfile": modelfile.modelfile_of(model),
        "parameters": modelfile.parameters_of(model),
        "template": model.template or read_facts(model.path).template or "",
        "details": details.details(entry),
        "model_info": details.model_info(model.path, verbose=verbose),
        "capabilities": details.capabilities(entry),
        "modified_at": durations.rfc3339(model.modified_at),
    }
    if model.license:
        shown["license"] = "\n\n".join(model.license)
    if model.system:
        shown["system"] = model.system
    if model.messages:
        shown["messages"] = list(model.messages)
    if verbose:
        shown["tensors"] = details.tensors(model.path)
    return shown


async def pull_model(service: GenerationService, x: Exchange) -> None:
    """`POST /api/pull`."""
    insecure = fields.flag(x.body, "insecure", False)
    await _told(x, pull(_store(service), _name(x), service.downloads, insecure=insecure))


async def create_model(service: GenerationService, x: Exchange) -> None:
    """`POST /api/create`."""
    _name(x)
    await _told(x, _stepped(modelfile.make_model(service.catalogue, _store(service), x.body)))


async def push_model(_: GenerationService, x: Exchange) -> None:
    """`POST /api/push`."""
    _name(x)
    raise WireError(400, "models are not pushed from here; push them with Ollama itself")


async def copy_model(service: GenerationService, x: Exchange) -> None:
    """`POST /api/copy`."""
    source, destination = fields.text(x.body, "source"), fields.text(x.body, "destination")
    store = _store(service)
    store.manifest(destination)
    entry = await asyncio.to_thread(_entry, service, source)
    if entry.manifest is not None:
        store.write_raw(destination, entry.manifest.read_bytes())
    else:
        made = modelfile.make_model(service.catalogue, store, {"model": destination, "from": source})
        await asyncio.to_thread(list, made)
    await _done(x)


async def delete_model(service: GenerationService, x: Exchange) -> None:
    """`DELETE /api/delete`."""
    entry = await asyncio.to_thread(_entry, service, _name(x))
    if entry.origin != "own" or entry.manifest is None:
        raise WireError(
            403, f"{entry.model.name} was not pulled or made here and is not deleted from here; delete it where it is"
        )
    await asyncio.to_thread(_store(service).remove, entry.manifest)
    await _done(x)


async def blob(catalogue: Catalogue, scope: Scope, receive: Receive, send: Send) -> None:
    """`HEAD` and `POST /api/blobs/:digest`: an upload goes to disk piece by piece, however large."""
    digest = scope["path"].removeprefix(BLOBS)
    store = ModelStore(catalogue.store)
    try:
        store.blob(digest)
        if scope["method"] == "HEAD":
            there = find_blob(catalogue.stores(), digest) is not None
            await send_whole(send, 200 if there else 404, b"", "text/plain")
        elif scope["method"] != "POST":
            raise WireError(405, "405 method not allowed")
        elif store.has(digest):
            await send_whole(send, 200, b"", "text/plain")
        else:
            await store.receive(digest, _parts(receive))
            await send_whole(send, 201, b"", "text/plain")
    except WireError as exc:
        await send_error(scope, send, exc)
    except ClientGoneError:
        return


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _told(x: Exchange, steps: AsyncGenerator[dict[str, Any], None]) -> None:
    """Steps as a stream, or only the last of them."""
    streamed, last = fields.flag(x.body, "stream", True), {}
    async with aclosing(steps):
        async for last in steps:
            if streamed:
                await x.push(last, NDJSON)
    if streamed:
        await x.end()
    else:
        await x.reply(last)


async def _stepped(steps: Iterator[dict[str, Any]]) -> AsyncGenerator[dict[str, Any], None]:
    """Blocking steps, each on a thread."""
    while (step := await asyncio.to_thread(next, steps, None)) is not None:
        yield step


async def _done(x: Exchange) -> None:
    await send_whole(x.send, 200, b"", "text/plain; charset=utf-8")


def _name(x: Exchange) -> str:
    name = fields.text(x.body, "model") or fields.text(x.body, "name")
    if not name.strip():
        raise WireError(400, "model is required")
    return name


def _entry(service: GenerationService, name: str) -> CatalogueEntry:
    try:
        entry = service.catalogue.entry(name)
        read_facts(entry.model.path)
    except ModelNotFoundError as exc:
        raise WireError(404, f"model '{name or canonical(name)}' not found") from exc
    except ModelFileError as exc:
        raise WireError(500, outward(exc)) from exc
    return entry


def _store(service: GenerationService) -> ModelStore:
    return ModelStore(service.catalogue.store)
