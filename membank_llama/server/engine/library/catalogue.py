"""Which models can be asked for: files, a folder of them, our own store and Ollama's, looked at anew on each call.

The first source to know a name has it. Whatever was read from a file is kept for as long as the file's date and size
stay as they were, so that a call costs some `stat`s and never reads a model; models that are pulled, created or copied
into the folder meanwhile appear by themselves. Ollama's stores are only read.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from membank_llama.core.errors import ModelError, ModelFileError, ModelNotFoundError
from membank_llama.gguf.fingerprint import fingerprint
from membank_llama.gguf.header import checked_gguf, read_header
from membank_llama.gguf.ollama_manifest import Manifest, read_manifest
from membank_llama.gguf.ollama_store import (
    find_blob,
    manifests,
    ollama_stores,
    parse_name,
    read_layer_json,
    read_layer_texts,
    short_name,
)
from membank_llama.gguf.split_files import part_number, parts_of, whole_name

from .served_model import ServedModel

_UNFIT = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class CatalogueEntry:
    """A model and where it comes from.

    Args:
        origin: ``file``, ``folder``, ``own`` or ``ollama``.
        manifest: what it is made of, where it lies in a store.
        config: what Ollama's description of the whole says about it.
    """

    model: ServedModel
    origin: str
    manifest: Path | None = None
    projectors: tuple[Path, ...] = ()
    config: Mapping[str, Any] | None = None
    parent: str = ""


class Catalogue:
    """The models of this machine, by name; may be asked from any thread.

    Args:
        files: GGUF files that were named one by one.
        folder: a folder of GGUF files, which may lie one level deeper.
        store: our own store, in Ollama's layout.
        use_ollama: whether models of Ollama's own stores are offered.

    Raises:
        ModelFileError: one of `files` is missing or no model.
    """

    def __init__(
        self, files: Sequence[Path] = (), folder: Path | None = None, *, store: Path, use_ollama: bool = True
    ) -> None:
        self.files = tuple(files)
        self.folder = folder
        self.store = store
        self.use_ollama = use_ollama
        self._lock = threading.Lock()
        self._kept: dict[tuple[Path, str], tuple[tuple[int, int], CatalogueEntry | None]] = {}
        for path in self.files:
            read_header(path)

    def models(self) -> list[ServedModel]:
        """All models, each name once."""
        return [entry.model for entry in self.entries()]

    def find(self, name: str) -> ServedModel:
        """The model of this name; `:latest` may be left out, and case does not count.

        Raises:
            ModelNotFoundError: there is none.
        """
        return self.entry(name).model

    def entries(self) -> list[CatalogueEntry]:
        """All models with where they come from."""
        with self._lock:
            found: dict[str, CatalogueEntry] = {}
            for entry in self._all():
                found.setdefault(entry.model.name.casefold(), entry)
            return list(found.values())

    def entry(self, name: str) -> CatalogueEntry:
        """As `find`, with where the model comes from."""
        wanted = canonical(name).casefold()
        for entry in self.entries():
            if entry.model.name.casefold() == wanted:
                return entry
        raise ModelNotFoundError(f"model '{name}' not found")

    def stores(self) -> list[Path]:
        """Where blobs may lie: our own store, then Ollama's."""
        return [self.store, *(ollama_stores() if self.use_ollama else [])]

    def _all(self) -> Iterator[CatalogueEntry]:
        taken: set[str] = set()
        for path in self.files:
            yield from self._plain(path, "file", taken)
        if self.folder is not None:
            for path in _ggufs(self.folder):
                yield from self._plain(path, "folder", taken)
        stores = self.stores()
        for store in stores:
            origin = "own" if store == self.store else "ollama"
            # a model of ours may name a file that Ollama has; Ollama's own never lie with us
            places = stores if origin == "own" else [store]
            for name, path in manifests(store):
                entry = self._cached(path, name, partial(_stored, name, path, origin, places), lasting=False)
                if entry is not None:
                    yield entry

    def _plain(self, path: Path, origin: str, taken: set[str]) -> Iterator[CatalogueEntry]:
        name = f"{_fit(Path(whole_name(path.name)).stem)}:latest"
        if name.casefold() in taken:
            # of two files of one name, the later one is told by its folder
            name = f"{_fit(path.absolute().parent.name)}/{name}"
        taken.add(name.casefold())
        # the other parts may still be on their way
        lasting = part_number(path.name) is None
        entry = self._cached(path, name, partial(_from_file, name, path, origin), lasting=lasting)
        if entry is not None:
            yield entry

    def _cached(
        self, path: Path, name: str, make: Callable[[], CatalogueEntry | None], *, lasting: bool
    ) -> CatalogueEntry | None:
        """What was made of a file, for as long as the file stays as it is; what cannot be used is None.

        `lasting` says whether a file that could not be used stays so until it changes itself.
        """
        try:
            status = path.stat()
        except OSError:
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        kept = self._kept.get((path, name))
        if kept is not None and kept[0] == stamp and (lasting if kept[1] is None else kept[1].model.path.is_file()):
            return kept[1]
        entry: CatalogueEntry | None = None
        with suppress(ModelError, OSError):
            entry = make()
        self._kept[path, name] = (stamp, entry)
        return entry


def canonical(name: str) -> str:
    """A name as the catalogue lists it, from one as people write it."""
    parsed = parse_name(name)
    if parsed is not None:
        return short_name(*parsed)
    *front, last = name.split("/")
    model, _, tag = last.partition(":")
    return "/".join([*front, f"{_fit(model)}:{tag or 'latest'}"])


def _fit(stem: str) -> str:
    return _UNFIT.sub("-", stem).strip("-.") or "model"


def _ggufs(folder: Path) -> list[Path]:
    """The GGUF files of a folder and of the folders in it; of a model in parts, the first."""
    found = []
    for path in [*sorted(folder.glob("*")), *sorted(folder.glob("*/*"))]:
        if path.suffix.lower() == ".gguf" and part_number(path.name) in (None, 1):
            found.append(path)
    return found


def _from_file(name: str, path: Path, origin: str) -> CatalogueEntry | None:
    header = read_header(path)
    if header.architecture == "clip":
        # the eyes of another model, no model
        return None
    facts = repr((fingerprint(path), sorted(header.metadata.items(), key=lambda item: item[0])))
    parts = parts_of(path)
    return CatalogueEntry(
        ServedModel(
            name=name,
            path=path,
            digest=hashlib.sha256(facts.encode("utf-8", "replace")).hexdigest(),
            size=sum(part.stat().st_size for part in parts),
            modified_at=max(part.stat().st_mtime for part in parts),
            named=origin == "file",
        ),
        origin,
    )


def _stored(name: str, path: Path, origin: str, stores: Sequence[Path]) -> CatalogueEntry:
    """A model of a store.

    Raises:
        ModelFileError: it is none that llama.cpp can load, or its file is not there.
    """
    manifest = read_manifest(path)
    layers = manifest.of_kind("model")
    file = find_blob(stores, layers[0].digest) if layers else None
    if file is None:
        raise ModelFileError(f"the file that {path} names is not there; pull the model again")
    checked_gguf(file)
    config = read_layer_json(manifest.config, stores)
    projectors = [find_blob(stores, layer.digest) for layer in manifest.of_kind("projector")]
    return CatalogueEntry(
        model=ServedModel(
            name=name,
            path=file,
            digest=manifest.digest,
            size=manifest.size,
            modified_at=path.stat().st_mtime,
            **_modelfile(manifest, stores),
        ),
        origin=origin,
        manifest=path,
        projectors=tuple(found for found in projectors if found),
        config=config if isinstance(config, dict) else None,
        parent=layers[0].origin,
    )


def _modelfile(manifest: Manifest, stores: Sequence[Path]) -> dict[str, Any]:
    """What a Modelfile sets, from the parts that hold it; the last of a kind counts, as with Ollama."""
    params = manifest.of_kind("params")
    parameters = read_layer_json(params[-1], stores) if params else None
    messages = manifest.of_kind("messages")
    said = read_layer_json(messages[-1], stores) if messages else None
    template = [*read_layer_texts(manifest, "prompt", stores), *read_layer_texts(manifest, "template", stores)]
    system = read_layer_texts(manifest, "system", stores)
    return {
        "parameters": parameters if isinstance(parameters, dict) else {},
        "system": system[-1] if system else None,
        "template": template[-1] if template else None,
        "license": tuple(read_layer_texts(manifest, "license", stores)),
        "messages": tuple(m for m in said if isinstance(m, dict)) if isinstance(said, list) else (),
    }
