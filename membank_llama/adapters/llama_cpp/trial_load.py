"""`prove()`: a model file that was never loaded here is loaded once in a child process first.

A GGUF tells llama.cpp what to allocate and compute, and some tell it what ends the process. A file that somebody
pulled, uploaded or put into a store is therefore tried where only a child can end. What came of it is written down with
the file's size and date and llama.cpp's version, so that a file is tried once and later starts cost nothing.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import llama_cpp

from membank_llama.core.atomic_files import write_whole
from membank_llama.core.child_process import ChildError, ChildProcess
from membank_llama.core.errors import ModelFileError
from membank_llama.core.paths import default_cache
from membank_llama.gguf.checks import check_loadable
from membank_llama.gguf.split_files import parts_of

_log = logging.getLogger("membank_llama")

_WORKER = "membank_llama.server.engine.runtime.trial_worker:try_model_file"
_SECONDS = 20.0
_BYTES_A_SECOND = 20e6
_MEMORY = 1 << 30
_KEPT = 512
_GOOD, _BAD = "loads", "ends llama.cpp"
_lock = threading.Lock()
_known: dict[str, str] = {}


def prove(path: Path, *, vocabulary_only: bool = False) -> None:
    """Load a file in a child process, unless that was done before.

    Args:
        vocabulary_only: of a file that is opened for its tokenizer alone.

    Raises:
        ModelFileError: llama.cpp can't load it, dies of it, or never comes to an end.
    """
    check_loadable(path)
    path = path.resolve()
    status = path.stat()
    key = f"{path}|{status.st_size}|{status.st_mtime_ns}|{llama_cpp.__version__}"
    mine = f"{key}|vocabulary" if vocabulary_only else key
    # a model that loads has a vocabulary that does
    verdict = _verdict(mine) or (_verdict(key) if vocabulary_only else None)
    if verdict is None:
        verdict = _tried(path, vocabulary_only)
        _write_down(mine, verdict)
    if verdict == _BAD:
        raise ModelFileError(f"llama.cpp ends or never comes to an end with {path}; choose another file of this model")


def _tried(path: Path, vocabulary_only: bool) -> str:
    size = sum(part.stat().st_size for part in parts_of(path) if part.is_file())
    child = ChildProcess(_WORKER, _MEMORY + 2 * size)
    try:
        asked = json.dumps([os.fspath(path), vocabulary_only]).encode()
        answered = child.ask(asked, _SECONDS + size / _BYTES_A_SECOND)
    except ChildError as exc:
        _log.warning("%s was tried and is not loaded: the child %s", path.name, exc.why)
        return _BAD
    finally:
        child.close()
    if answered:
        # not written down: it may be for want of memory
        raise ModelFileError(answered.decode("utf-8", "replace"))
    return _GOOD


def _place() -> Path:
    return default_cache() / "models-tried.json"


def _verdict(key: str) -> str | None:
    with _lock:
        if not _known:
            _known.update(_read())
        return _known.get(key)


def _read() -> dict[str, str]:
    with suppress(OSError, ValueError):
        found: Any = json.loads(_place().read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {str(key): value for key, value in found.items() if value in (_GOOD, _BAD)}
    return {}


def _write_down(key: str, verdict: str) -> None:
    with _lock:
        _known[key] = verdict
        kept = dict(list({**_read(), key: verdict}.items())[-_KEPT:])
        try:
            place = _place()
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(place, json.dumps(kept).encode())
        except OSError as exc:
            _log.warning("model files are tried again at the next start: %s", exc)
