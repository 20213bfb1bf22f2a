"""`Downloads`: blobs on their way into a store, one writer for each, however many wait for it.

What has come lies beside its place as ``.partial``, under a name that its source is part of, so that no registry can
hold up or spoil what another one gives. A download goes on where it stopped; what turns out to be wrong is removed.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from membank_llama.gguf.ollama_manifest import Layer

from ...asgi import WireError
from .model_store import ModelStore
from .network_policy import asked

TOLD_EVERY = 0.1
MOST_RUNNING = 8
KEPT_SECONDS = 14 * 86_400.0
"""How long the beginning of a download waits to be gone on with."""

_PIECE = 1 << 20
_RECEIVED = 1 << 16


class _SpoiledError(Exception):
    """What came is not what was announced."""


class Downloads:
    """Everything that is being fetched by this process. Belongs to one event loop."""

    def __init__(self) -> None:
        self._running: dict[Path, _Download] = {}

    async def fetch(self, store: ModelStore, url: str, layer: Layer) -> AsyncGenerator[int, None]:
        """Bring a blob into a store; tells a few times a second how much is there.

        Raises:
            WireError: it could not be had.
        """
        partial = _partial(store, url, layer)
        download = self._running.get(partial)
        if download is None or download.task.done():
            if len(self._running) >= MOST_RUNNING:
                raise WireError(503, "pull model: too much is being pulled already; wait until some of it is done")
            pending = sum(other.missing for other in self._running.values())
            download = self._running[partial] = _Download(store, url, layer, partial, pending)
        download.watchers += 1
        try:
            while not download.task.done():
                yield download.done
                await asyncio.wait({download.task}, timeout=TOLD_EVERY)
            download.task.result()
            yield layer.size
        finally:
            download.watchers -= 1
            if not download.watchers:
                if self._running.get(partial) is download:
                    del self._running[partial]
                await download.end()

    def sweep(self, store: ModelStore) -> None:
        """Remove what nobody has gone on with for long."""
        for partial in (store.root / "blobs").glob("*.partial"):
            with suppress(OSError):
                if partial not in self._running and time.time() - partial.stat().st_mtime > KEPT_SECONDS:
                    partial.unlink()


def begun(store: ModelStore, url: str, layer: Layer) -> int:
    """Bytes of a blob that an earlier download has left."""
    try:
        return _partial(store, url, layer).stat().st_size
    except OSError:
        return 0


def _partial(store: ModelStore, url: str, layer: Layer) -> Path:
    path = store.blob(layer.digest)
    source = hashlib.sha256(f"{url} {layer.size}".encode()).hexdigest()
    return path.with_name(f"{path.name}-{source[:16]}.partial")


class _Download:
    """One blob on its way, in a task of its own."""

    def __init__(self, store: ModelStore, url: str, layer: Layer, partial: Path, pending: int) -> None:
        self._store = store
        self._url = url
        self._layer = layer
        self._partial = partial
        self._pending = pending
        self.done = begun(store, url, layer)
        self.watchers = 0
        self.task = asyncio.ensure_future(self._work())

    @property
    def missing(self) -> int:
        """Bytes that are still to come."""
        return max(0, self._layer.size - self.done)

    async def end(self) -> None:
        """Stop where it is; what has come stays."""
        if not self.task.done():
            self.task.cancel()
        with suppress(asyncio.CancelledError, WireError, OSError):
            await self.task

    async def _work(self) -> None:
        self._store.check_room(self.missing + self._pending)
        lock = FileLock(f"{self._partial}.lock")
        try:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as exc:
            raise WireError(409, "pull model: another process is pulling it; wait until that is done") from exc
        except OSError as exc:
            raise self._store.no_room(exc) from exc
        try:
            await self._fetched()
            await asyncio.to_thread(_settle, self._partial, self._store.blob(self._layer.digest), self._layer)
        except _SpoiledError as exc:
            self._partial.unlink(missing_ok=True)
            raise WireError(502, str(exc)) from exc
        except OSError as exc:
            self._partial.unlink(missing_ok=True)
            raise self._store.no_room(exc) from exc
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    async def _fetched(self) -> None:
        """The rest of the file."""
        total = self._layer.size
        self.done = begun(self._store, self._url, self._layer)
        if self.done == total:
            return
        headers = {"Range": f"bytes={self.done}-"} if self.done else {}
        async with asked(self._url, headers) as response:
            if response.status_code not in (200, 206):
                raise WireError(502, f"pull model: the registry answered {response.status_code} for a part of it")
            if response.status_code == 200:
                self.done = 0
            with self._partial.open("ab" if self.done else "wb") as file:
                async for piece in response.aiter_raw(_RECEIVED):
                    if self.done + len(piece) > total:
                        raise _SpoiledError("pull model: the registry sends more than it said")
                    await asyncio.to_thread(file.write, piece)
                    self.done += len(piece)
        if self.done < total:
            raise WireError(502, f"pull model: it broke off at {self.done:,} of {total:,} bytes; pull again to go on")


def _settle(partial: Path, path: Path, layer: Layer) -> None:
    """Move a whole download to its place."""
    digesting = hashlib.sha256()
    if not layer.size:
        partial.touch()
    with partial.open("rb") as file:
        while piece := file.read(_PIECE):
            digesting.update(piece)
    if f"sha256:{digesting.hexdigest()}" != layer.digest:
        raise _SpoiledError(f"digest mismatch, file must be downloaded again: {layer.digest}")
    partial.replace(path)
