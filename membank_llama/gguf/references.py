"""From what a person calls a model to a GGUF file on this machine.

A reference is one of three things, tried in this order: `hf:owner/repo/file.gguf` (with `@revision` at its
end if wanted), fetched once by huggingface_hub into its cache; the path of a file; the name of a model in
Ollama's own store (ollama_store.py). What comes back begins with the GGUF magic.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants as hub_constants
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    get_session,
)

from membank_llama.core.errors import ModelError, ModelFileError, ModelNotFoundError

from .header import checked_gguf
from .ollama_store import find_manifest, gguf_of_manifest, list_ollama_models, ollama_stores, parse_name
from .split_files import part_names, part_number

logger = logging.getLogger("membank_llama")

REACH_SECONDS = 5.0
"""How long the hub may take to answer at all; $HF_HUB_ETAG_TIMEOUT where that is set."""

_HUB_REF = re.compile(r"(?P<repo>[^/@\s]+/[^/@\s]+)/(?P<file>[^@]+\.gguf)(?:@(?P<revision>\S+))?", re.IGNORECASE)


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
    if path.is_dir() and (_is_path(text) or find_manifest(text) is None):
        raise ModelFileError(f"{text} is a directory; {_ggufs_of(path)}")
    if path.exists() and not path.is_dir():
        return checked_gguf(path)
    if _is_path(text):
        raise ModelNotFoundError(f"there is no file {text!r}; {_ggufs_of(path.parent, path.name)}")
    found = find_manifest(text)
    if found is None:
        raise ModelNotFoundError(_not_found(text))
    return gguf_of_manifest(*found)


def _from_hub(ref: str, progress: bool) -> Path:
    match = _HUB_REF.fullmatch(ref.removeprefix("hf:"))
    if match is None:
        raise ModelNotFoundError(
            f"{ref!r} names no GGUF file; write hf:owner/repo/file.gguf, with @revision at the end if needed"
        )
    repo, name, revision = match["repo"], match["file"], match["revision"]
    # llama.cpp opens the first part and looks for the others beside it
    names = part_names(name) if part_number(name) == 1 else [name]
    silenced = not progress and not are_progress_bars_disabled()
    if silenced:
        disable_progress_bars()
    try:
        if _hub_answers():
            paths = [Path(str(huggingface_hub.hf_hub_download(repo, part, revision=revision))) for part in names]
        else:
            paths = _from_cache(repo, names, revision)
    except Exception as error:
        # connection errors come from another library in each version of the hub's
        raise _hub_error(ref, repo, error) from error
    finally:
        if silenced:
            enable_progress_bars()
    return checked_gguf(paths[0])


def _from_cache(repo: str, names: Iterable[str], revision: str | None) -> list[Path]:
    """These files where they were fetched before; nothing is asked over the network for it."""
    found = [huggingface_hub.try_to_load_from_cache(repo, name, revision=revision) for name in names]
    if not all(isinstance(path, str) for path in found):
        raise hub_errors.LocalEntryNotFoundError(f"{repo} is not in the cache")
    return [Path(str(path)) for path in found]


def _hub_answers() -> bool:
    """Whether the hub can be reached: one short try, where its library makes six and waits 25 seconds between them, for
    a file too that lies in its cache."""
    if hub_constants.HF_HUB_OFFLINE:
        return False
    chosen = "HF_HUB_ETAG_TIMEOUT" in os.environ
    try:
        get_session().head(
            hub_constants.ENDPOINT, timeout=hub_constants.HF_HUB_ETAG_TIMEOUT if chosen else REACH_SECONDS
        )
    except Exception as exc:  # noqa: BLE001
        # of another library in each version of the hub's
        logger.debug("the hub does not answer: %s", exc)
        return False
    return True


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
