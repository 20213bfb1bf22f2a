"""From what a person calls a model to a GGUF file on this machine.

A reference is one of three things, tried in this order: `hf:owner/repo/file.gguf` (with `@revision` at its
end if wanted), fetched once by huggingface_hub into its cache; the path of a file; the name of a model in
Ollama's own store, written as Ollama does: `[host/][namespace/]model[:tag]`. What comes back begins with the
GGUF magic. Ollama's store is only read: manifests/HOST/NAMESPACE/MODEL/TAG names a file in blobs/.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from membank_llama.core.errors import MembankError, ModelError, ModelFileError, ModelNotFoundError

_MAGIC = b"GGUF"
_HUB_REF = re.compile(r"(?P<repo>[^/@\s]+/[^/@\s]+)/(?P<file>[^@]+\.gguf)(?:@(?P<revision>\S+))?", re.IGNORECASE)
_SPLIT = re.compile(r"-00001-of-(\d{5})\.gguf$", re.IGNORECASE)

_OLLAMA_HOST, _OLLAMA_NAMESPACE, _OLLAMA_TAG = "registry.ollama.ai", "library", "latest"
_OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")
_OLLAMA_LAYER = "application/vnd.ollama.image.model"
_NAME_PART = re.compile(r"\w[\w.:-]{0,199}", re.ASCII)
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


@dataclass(frozen=True)
class OllamaModel:
    """A model in Ollama's store: the name by which `ollama run` knows it, and its GGUF."""

    name: str
    path: Path


def resolve_model(ref: str | Path, *, progress: bool = True) -> Path:
    """The GGUF file that `ref` means, downloaded first where it has to be.

    Args:
        ref: a path, `hf:owner/repo/file.gguf[@revision]`, or a model of Ollama's.
        progress: whether a download shows a bar on standard error.

    Raises:
        ModelNotFoundError: it leads nowhere; the message lists what was tried and names that are near.
        ModelFileError: it leads to something that is not a GGUF file, or cannot be read.
        ModelError: the hub cannot be reached, or does not let one in.
    """
    text = os.fspath(ref)
    if text.startswith("hf:"):
        return _from_hub(text, progress)
    if not text.strip():
        raise ModelNotFoundError("the model reference is empty; give a path, hf:owner/repo/file.gguf or a name")
    path = Path(text).expanduser()
    if path.is_dir() and (_is_path(text) or _find_in_ollama(text) is None):
        raise ModelFileError(f"{text} is a directory; {_ggufs_of(path)}")
    if path.exists() and not path.is_dir():
        return _checked(path)
    if _is_path(text):
        raise ModelNotFoundError(f"there is no file {text!r}; {_ggufs_of(path.parent, path.name)}")
    found = _find_in_ollama(text)
    if found is None:
        raise ModelNotFoundError(_not_found(text))
    return _gguf_of_manifest(found[0], found[1])


def find_ollama_model(name: str) -> Path | None:
    """The GGUF of a model in Ollama's stores; None where they have none of this name. Nothing but a name is understood.

    Raises:
        ModelFileError: the model is there and cannot be used.
    """
    found = _find_in_ollama(name)
    return None if found is None else _gguf_of_manifest(*found)


def list_ollama_models() -> list[OllamaModel]:
    """The models in Ollama's stores that are GGUF files, sorted by name; [] where there is no Ollama."""
    models: dict[str, OllamaModel] = {}
    for store in ollama_stores():
        for name, manifest in manifests(store):
            try:
                path = _gguf_of_manifest(store, manifest)
            except MembankError:
                # what cannot be opened cannot be offered
                continue
            models.setdefault(name, OllamaModel(name, path))
    return [models[name] for name in sorted(models)]


def _from_hub(ref: str, progress: bool) -> Path:
    match = _HUB_REF.fullmatch(ref.removeprefix("hf:"))
    if match is None:
        raise ModelNotFoundError(
            f"{ref!r} names no GGUF file; write hf:owner/repo/file.gguf, with @revision at the end if needed"
        )
    repo, name, revision = match["repo"], match["file"], match["revision"]
    names = [name]
    if split := _SPLIT.search(name):
        # llama.cpp opens the first part and looks for the others beside it
        head, count = name[: split.start()], split[1]
        names = [f"{head}-{part:05d}-of-{count}.gguf" for part in range(1, int(count) + 1)]
    silenced = not progress and not are_progress_bars_disabled()
    if silenced:
        disable_progress_bars()
    try:
        paths = [Path(str(huggingface_hub.hf_hub_download(repo, part, revision=revision))) for part in names]
    except Exception as error:
        # connection errors come from another library in each version of the hub's
        raise _hub_error(ref, repo, error) from error
    finally:
        if silenced:
            enable_progress_bars()
    return _checked(paths[0])


def _hub_error(ref: str, repo: str, error: Exception) -> ModelError:
    """What to tell of a failed download; the order matters, some of these are kinds of others."""
    if isinstance(error, hub_errors.LocalEntryNotFoundError | hub_errors.OfflineModeIsEnabled):
        return ModelError(
            f"{ref} is not in the cache and the hub cannot be reached; check the connection, HF_ENDPOINT and "
            "HF_HUB_OFFLINE, or download the file by other means and give its path"
        )
    if isinstance(error, hub_errors.GatedRepoError):
        return ModelError(f"{repo} asks for its terms to be accepted; do so on its page, then run `hf auth login`")
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        return ModelNotFoundError(
            f"the hub knows no repository {repo}, or does not show it to you; check the spelling, "
            "or run `hf auth login` if it is private"
        )
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return ModelNotFoundError(f"{repo} has no such revision: {ref}; leave out the part after @ for the newest")
    if isinstance(error, hub_errors.EntryNotFoundError):
        return ModelNotFoundError(f"{repo} has no such file: {ref}; look at the list of files on its page")
    if isinstance(error, hub_errors.HFValidationError):
        return ModelNotFoundError(f"{ref!r} is no reference the hub can have: {error}; use hf:owner/repo/file.gguf")
    return ModelError(
        f"{ref} could not be downloaded: {error}; try again, a download goes on where it stopped, "
        "or download the file by other means and give its path"
    )


def _checked(path: Path) -> Path:
    """The path itself, when a GGUF file is there."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"there is no file {path}; check the path") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}; check its owner and mode") from error
    if magic != _MAGIC:
        raise ModelFileError(
            f"{path} is not a GGUF file (it begins with {magic!r}); convert the model with llama.cpp's "
            "convert_hf_to_gguf.py, or download a .gguf"
        )
    return path


def _is_path(text: str) -> bool:
    """Whether this can only have been meant as a path."""
    return text.lower().endswith(".gguf") or parse_name(text) is None


def _ggufs_of(folder: Path, wanted: str = "") -> str:
    """What to do about a path that is no file: the GGUF files at hand."""
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() == ".gguf")
    except OSError:
        return f"nor can the directory {folder} be read; check the path"
    if not names:
        return f"there is no .gguf in {folder}; give the path of a GGUF file"
    return f"in {folder} there is: {_nearest(wanted, names)}"


def _nearest(wanted: str, names: Iterable[str]) -> str:
    names = list(names)
    near = get_close_matches(wanted, names, n=5, cutoff=0.5) or names[:8]
    more = "" if len(names) <= len(near) else f" and {len(names) - len(near)} more"
    return ", ".join(near) + more


def _not_found(text: str) -> str:
    stores = ollama_stores()
    tried = f"Ollama's store ({', '.join(map(str, stores))}) has none of this name" if stores else "there is no Ollama"
    known = [model.name for model in list_ollama_models()]
    near = f"; it has: {_nearest(text, known)}" if known else ""
    return (
        f"no model {text!r}: there is no such file, and {tried}{near}. "
        f"Give a path, hf:owner/repo/file.gguf, or run `ollama pull {text}` first"
    )


def ollama_stores() -> list[Path]:
    """Where Ollama keeps its models: that of this user, and that of the Linux service."""
    named = os.environ.get("OLLAMA_MODELS")
    stores = [Path(named).expanduser() if named else Path.home() / ".ollama" / "models"]
    if sys.platform == "linux":
        stores.append(_OLLAMA_SERVICE)
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
    host = front[0] if len(front) == 2 else _OLLAMA_HOST
    namespace = front[-1] if front else _OLLAMA_NAMESPACE
    parts = (host, namespace, model, tag if colon else _OLLAMA_TAG)
    return parts if all(_NAME_PART.fullmatch(part) for part in parts) else None


def _find_in_ollama(text: str) -> tuple[Path, Path] | None:
    """Store and manifest of a model, or None; upper and lower case are one to Ollama."""
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
    if host != _OLLAMA_HOST:
        return f"{host}/{namespace}/{model}:{tag}"
    return f"{model}:{tag}" if namespace == _OLLAMA_NAMESPACE else f"{namespace}/{model}:{tag}"


def _gguf_of_manifest(store: Path, manifest: Path) -> Path:
    try:
        content = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"Ollama's manifest {manifest} cannot be read: {error}; pull the model again") from error
    layer = _model_layer(content)
    digest = str(layer.get("digest", ""))
    if digest_hex(digest) is None:
        raise ModelFileError(f"Ollama's manifest {manifest} names no GGUF; choose a model that llama.cpp can load")
    blob = find_blob([store], digest)
    if blob is None:
        raise ModelFileError(f"{store / 'blobs'} lacks the file that {manifest} names; run `ollama pull` again")
    return _checked(blob)


def digest_hex(digest: str) -> str | None:
    """The 64 hex digits of ``sha256:…``, or None where this is no digest."""
    found = _DIGEST.fullmatch(digest)
    return found[1] if found else None


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


def _model_layer(content: Any) -> dict[str, Any]:
    layers = content.get("layers") if isinstance(content, dict) else None
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, dict) and layer.get("mediaType") == _OLLAMA_LAYER:
            return layer
    return {}
