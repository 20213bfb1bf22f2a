"""llama.cpp's own llama-server with SmolLM2, for the tests of this folder: skipped, by name, where it was not built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chat_models import cache
from support.llama_server import VARIABLE, llama_server, serving

QWEN = "qwen2.5-0.5b-instruct-q4_k_m.gguf"


@pytest.fixture(scope="session")
def binary() -> Path:
    found = llama_server()
    if found is None:
        pytest.skip(f"needs llama-server: make servers, or {VARIABLE}=its path")
    return found


@pytest.fixture(scope="session")
def smollm2_server(binary: Path, smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one with SmolLM2, with 2,048 tokens of context."""
    folder = tmp_path_factory.mktemp("llama-server")
    arguments = ("--model", smollm2_gguf, "--ctx-size", 2048, "--parallel", 1, "--alias", "smollm2")
    with serving(binary, folder, *arguments) as url:
        yield url


@pytest.fixture(scope="session")
def qwen_server(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one with Qwen2.5 0.5B, which answers from what stands in its prompt."""
    model = cache() / QWEN
    if not model.is_file():
        pytest.skip(f"needs {QWEN} in {cache()}")
    folder = tmp_path_factory.mktemp("llama-server")
    with serving(binary, folder, "--model", model, "--ctx-size", 2048, "--parallel", 1, "--alias", "smollm2") as url:
        yield url
