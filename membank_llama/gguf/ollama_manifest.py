"""A manifest as Ollama writes it: what a model is made of, each part a file named by its digest.

Only the reading is here. A manifest may come from anywhere, so nothing in it is believed before it was looked at: a
digest is 64 hex digits or it is nothing, and a part that cannot be read counts as absent, except the model itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from membank_llama.core.errors import ModelFileError

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.ollama.image."
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


@dataclass(frozen=True)
class Layer:
    """One part of a model: ``kind`` is ``model``, ``params``, ``system``, … or, of another sort, the whole type."""

    kind: str
    digest: str
    size: int
    origin: str = ""

    def as_json(self) -> dict[str, Any]:
        """The part as a manifest holds it."""
        media = self.kind if "/" in self.kind else LAYER_TYPE + self.kind
        content: dict[str, Any] = {"mediaType": media, "digest": self.digest, "size": self.size}
        return {**content, "from": self.origin} if self.origin else content


@dataclass(frozen=True)
class Manifest:
    """A manifest's parts, and the digest of its own bytes."""

    layers: tuple[Layer, ...]
    config: Layer | None
    digest: str

    @property
    def size(self) -> int:
        """Bytes of all parts, as Ollama counts a model's size."""
        return sum(layer.size for layer in self.parts)

    @property
    def parts(self) -> tuple[Layer, ...]:
        """Every part, the description of the whole at the end."""
        return (*self.layers, *([self.config] if self.config else []))

    def of_kind(self, kind: str) -> list[Layer]:
        """The parts of one kind."""
        return [layer for layer in self.layers if layer.kind == kind]


def parse_manifest(data: bytes) -> Manifest:
    """A manifest from its bytes.

    Raises:
        ModelFileError: this is no manifest.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"the manifest is no JSON: {error}; pull the model again") from error
    rows = content.get("layers") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ModelFileError("the manifest lists no layers; pull the model again")
    layers = tuple(layer for layer in map(_layer, rows) if layer)
    return Manifest(layers, _layer(content.get("config")), hashlib.sha256(data).hexdigest())


def read_manifest(path: Path) -> Manifest:
    """A manifest from its file.

    Raises:
        ModelFileError: it cannot be read, or is none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"the manifest {path} cannot be read: {error.strerror or error}") from error
    return parse_manifest(data)


def _layer(row: Any) -> Layer | None:
    if not isinstance(row, dict):
        return None
    found = digest_hex(str(row.get("digest", "")))
    size = row.get("size")
    if found is None or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return None
    kind = str(row.get("mediaType", "")).removeprefix(LAYER_TYPE)
    return Layer(kind, f"sha256:{found}", size, str(row.get("from", "")))


def digest_hex(digest: str) -> str | None:
    """The 64 hex digits of ``sha256:…``, or None where this is no digest."""
    found = _DIGEST.fullmatch(digest)
    return found[1] if found else None
