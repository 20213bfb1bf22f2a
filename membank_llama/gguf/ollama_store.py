"""Ollama's store of models, which is only read: ``manifests/HOST/NAMESPACE/MODEL/TAG`` names files in ``blobs/``.

A name is written as Ollama writes it: ``[host/][namespace/]model[:tag]``. Our own store has the same layout.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from membank_llama.core.errors import MembankError, ModelFileError

from .header import checked_gguf
from .ollama_manifest import Layer, Manifest, digest_hex, read_manifest

_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_SERVICE = Path("/usr/share/ollama/.ollama/models")
_NAME_PART = re.compile(r"\w[\w.:-]{0,199}", re.ASCII)
_MAX_TEXT = 16 * 1024 * 1024


@dataclass(frozen=True)
class OllamaModel:
    """A model in Ollama's store: the name by which `ollama run` knows it, and its GGUF."""

    name: str
    path: Path


def find_ollama_model(name: str) -> Path | None:
    """The GGUF of a model in Ollama's stores; None where they have none of this name. Nothing but a name is understood.

    Raises:
        ModelFileError: the model is there and cannot be used.
    """
    found = find_manifest(name)
    return None if found is None else gguf_of_manifest(*found)


def list_ollama_models() -> list[OllamaModel]:
    """The models in Ollama's stores that are GGUF files, sorted by name; [] where there is no Ollama."""
    models: dict[str, OllamaModel] = {}
    for store in ollama_stores():
        for name, manifest in manifests(store):
            try:
                path = gguf_of_manifest(store, manifest)
            except MembankError:
                # what cannot be opened cannot be offered
                continue
            models.setdefault(name, OllamaModel(name, path))
    return [models[name] for name in sorted(models)]


def ollama_stores() -> list[Path]:
    """Where Ollama keeps its models: that of this user, and that of the Linux service."""
    named = os.environ.get("OLLAMA_MODELS")
    stores = [Path(named).expanduser() if named else Path.home() / ".ollama" / "models"]
    if sys.platform == "linux":
        stores.append(_SERVICE)
    return [store for store in stores if _readable(store / "manifests")]


def _readable(folder: Path) -> bool:
    """Whether a folder is there and lets one in; that of the service belongs to another user."""
    try:
        return folder.is_dir()
    except OSError:
        return False


def parse_name(text: str) -> tuple[str, str, str, str] | None:
    """Host, namespace, model and tag, or None where this cannot be the name of a model."""
    *front, last = text.split("/")
    model, colon, tag = last.partition(":")
    if len(front) > 2:
        return None
    host = front[0] if len(front) == 2 else _HOST
    namespace = front[-1] if front else _NAMESPACE
    parts = (host, namespace, model, tag if colon else _TAG)
    return parts if all(_NAME_PART.fullmatch(part) for part in parts) else None


def find_manifest(text: str) -> tuple[Path, Path] | None:
    """The store and the manifest of a model, or None; upper and lower case are one to Ollama."""
    name = parse_name(text)
    if name is None:
        return None
    wanted = short_name(*name).casefold()
    for store in ollama_stores():
        exact = store.joinpath("manifests", *name)
        if exact.is_file():
            return store, exact
        for found, manifest in manifests(store):
            if found.casefold() == wanted:
                return store, manifest
    return None


def manifests(store: Path) -> Iterator[tuple[str, Path]]:
    """Short name and manifest of every model in a store, in the order of their paths."""
    root = store / "manifests"
    for manifest in sorted(root.glob("*/*/*/*")):
        parts = manifest.relative_to(root).parts
        if manifest.is_file() and all(_NAME_PART.fullmatch(part) for part in parts):
            yield short_name(*parts), manifest


def short_name(host: str, namespace: str, model: str, tag: str) -> str:
    """A name as Ollama lists it, without what it takes for granted."""
    if host != _HOST:
        return f"{host}/{namespace}/{model}:{tag}"
    return f"{model}:{tag}" if namespace == _NAMESPACE else f"{namespace}/{model}:{tag}"


def gguf_of_manifest(store: Path, manifest: Path) -> Path:
    """The GGUF that a model of a store is made of.

    Raises:
        ModelFileError: the manifest cannot be read or names none, or its file is not there.
    """
    layers = read_manifest(manifest).of_kind("model")
    if not layers:
        raise ModelFileError(f"Ollama's manifest {manifest} names no GGUF; choose a model that llama.cpp can load")
    blob = find_blob([store], layers[0].digest)
    if blob is None:
        raise ModelFileError(f"{store / 'blobs'} lacks the file that {manifest} names; run `ollama pull` again")
    return checked_gguf(blob)


def find_blob(stores: Iterable[Path], digest: str) -> Path | None:
    """The first file of these stores that a digest names; None where there is none, or this is no digest."""
    found = digest_hex(digest)
    if found is None:
        return None
    for store in stores:
        # the colon is how older versions wrote it
        for name in (f"sha256-{found}", f"sha256:{found}"):
            blob = store / "blobs" / name
            with suppress(OSError):
                if blob.is_file():
                    return blob
    return None


def read_layer_texts(manifest: Manifest, kind: str, stores: Iterable[Path]) -> list[str]:
    """The texts of all parts of one kind that can be read."""
    stores = list(stores)
    texts = []
    for layer in manifest.of_kind(kind):
        data = _read_layer(stores, layer)
        if data is not None:
            texts.append(data.decode("utf-8", "replace"))
    return texts


def read_layer_json(layer: Layer | None, stores: Sequence[Path]) -> Any:
    """A part's JSON; None where it cannot be read or is none."""
    data = _read_layer(stores, layer) if layer else None
    try:
        return json.loads(data) if data is not None else None
    except (ValueError, RecursionError):
        return None


def _read_layer(stores: Sequence[Path], layer: Layer) -> bytes | None:
    path = find_blob(stores, layer.digest)
    try:
        return path.read_bytes() if path and path.stat().st_size <= _MAX_TEXT else None
    except OSError:
        return None
