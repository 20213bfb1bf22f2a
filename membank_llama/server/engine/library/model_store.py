"""`ModelStore`: the models that were pulled or made here, in the layout that Ollama's own store has.

A blob is there whole and checked, or not at all: it is written beside its place, hashed, and moved. A manifest comes
after the blobs that it names. Names and digests are taken apart before they become paths.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from membank_llama.core.atomic_files import replacing
from membank_llama.core.errors import ModelFileError
from membank_llama.gguf.ollama_manifest import (
    CONFIG_TYPE,
    MANIFEST_TYPE,
    Layer,
    Manifest,
    digest_hex,
    parse_manifest,
    read_manifest,
)
from membank_llama.gguf.ollama_store import manifests, parse_name

from ...asgi import WireError

KEPT_FREE = 256 * 1024 * 1024
"""Bytes of the disk that no model may take."""

_PIECE = 1 << 20
_CHECKED_EVERY = 16 * _PIECE


class ModelStore:
    """A folder of blobs and manifests; made when the first model comes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, digest: str) -> Path:
        """Where a blob lies or would lie.

        Raises:
            WireError: 400, this is no digest.
        """
        found = digest_hex(digest)
        if found is None:
            raise WireError(400, "invalid digest format")
        return self.root / "blobs" / f"sha256-{found}"

    def has(self, digest: str) -> bool:
        """Whether a blob is here."""
        return self.blob(digest).is_file()

    def check_room(self, size: int) -> None:
        """Whether so many bytes more leave the disk with what everything else needs.

        Raises:
            WireError: 507, they do not.
        """
        place = self.root.absolute()
        while not place.is_dir() and place != place.parent:
            place = place.parent
        room = shutil.disk_usage(place).free - KEPT_FREE
        if size > room:
            raise WireError(507, f"the model takes {size:,} bytes and {max(0, room):,} are free for models; make room")

    @staticmethod
    def no_room(exc: OSError) -> WireError:
        """What to answer where the disk refuses."""
        return WireError(507, f"the model could not be stored: {exc.strerror or type(exc).__name__}")

    def put(self, kind: str, data: bytes) -> Layer:
        """Keep some bytes as a part of a model."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = self.blob(digest)
        if not path.is_file():
            self._keep(path, data)
        return Layer(kind, digest, len(data))

    async def receive(self, digest: str, parts: AsyncIterator[bytes]) -> None:
        """Keep what comes, piece by piece, if it is what its digest says.

        Raises:
            WireError: 400, it is something else; 507, there is no room. Nothing of it stays.
        """
        path = self.blob(digest)
        self.check_room(0)
        digesting = hashlib.sha256()
        since = 0
        with self._writing(path) as file:
            async for part in parts:
                digesting.update(part)
                await asyncio.to_thread(file.write, part)
                since += len(part)
                if since >= _CHECKED_EVERY:
                    self.check_room(since := 0)
            if digesting.hexdigest() != digest_hex(digest):
                raise WireError(400, f"digest mismatch, expected {digest!r}, got 'sha256:{digesting.hexdigest()}'")

    def adopt(self, path: Path) -> Layer:
        """A file of somebody else's as a blob: the same file under another name where the disk allows it."""
        digesting = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    digesting.update(piece)
            digest = f"sha256:{digesting.hexdigest()}"
            blob = self.blob(digest)
            if not blob.is_file():
                blob.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(path, blob)
                except OSError:
                    self.check_room(path.stat().st_size)
                    self._copy(path, blob)
            return Layer("model", digest, path.stat().st_size)
        except OSError as exc:
            raise ModelFileError(f"{path} could not be taken over: {exc.strerror or exc}") from exc

    def write(self, name: str, layers: Iterable[Layer], config: Layer) -> None:
        """Make these parts a model of this name."""
        content: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {**config.as_json(), "mediaType": CONFIG_TYPE},
            "layers": [layer.as_json() for layer in layers],
        }
        self.write_raw(name, json.dumps(content, separators=(",", ":")).encode())

    def write_raw(self, name: str, manifest: bytes) -> None:
        """Keep a manifest as it came."""
        parse_manifest(manifest)
        self._keep(self.manifest(name), manifest)

    def manifest(self, name: str) -> Path:
        """Where the manifest of a name lies or would lie.

        Raises:
            WireError: 400, no model can be called so.
        """
        parsed = parse_name(name)
        if parsed is None or any(part in (".", "..") for part in parsed):
            raise WireError(400, f"invalid model name: {name[:200]}")
        return self.root.joinpath("manifests", *parsed)

    def remove(self, manifest: Path) -> None:
        """Take a model away, and the blobs that no other model of this store has."""
        try:
            with suppress(ModelFileError):
                parts = read_manifest(manifest).parts
                manifest.unlink(missing_ok=True)
                used = {layer.digest for other in self._all() for layer in other.parts}
                for layer in parts:
                    if layer.digest not in used:
                        self.blob(layer.digest).unlink(missing_ok=True)
            manifest.unlink(missing_ok=True)
        except OSError as exc:
            raise WireError(507, f"the model could not be deleted: {exc.strerror or type(exc).__name__}") from exc

    def _all(self) -> list[Manifest]:
        found = []
        for _, path in manifests(self.root):
            with suppress(ModelFileError):
                found.append(read_manifest(path))
        return found

    def _keep(self, path: Path, data: bytes) -> None:
        with self._writing(path) as file:
            file.write(data)

    def _copy(self, path: Path, blob: Path) -> None:
        with replacing(blob) as copy, path.open("rb") as file:
            shutil.copyfileobj(file, copy, _PIECE)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[IO[bytes]]:
        """A new file that takes this place when it is whole.

        Raises:
            WireError: 507, the disk refuses.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                yield file
        except OSError as exc:
            raise self.no_room(exc) from exc
