"""`models/make_tiny.py` as a module: GGUF files with random weights, made where they are needed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def make_tiny() -> ModuleType:
    pytest.importorskip("gguf")
    spec = importlib.util.spec_from_file_location("make_tiny", ROOT / "models" / "make_tiny.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
