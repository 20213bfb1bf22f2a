"""Contexts that are closed behind a test, and models that are looked for where fetched ones lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support import chat_models
from support.own_contexts import Opened, OwnContext, pieces_of

from membank_llama.adapters.llama_cpp.loaded_model import LoadedModel
from membank_llama.kv.piece_store import PieceStore

GEMMA = "gemma-3-270m-q4_k_m.gguf"


@pytest.fixture(autouse=True)
def no_budget_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMBANK_KV", raising=False)


@pytest.fixture(params=["stories", "recall-tiny"])
def either_gguf(request: pytest.FixtureRequest) -> Path:
    """One and then the other of the small models."""
    name = "stories_chatml_gguf" if request.param == "stories" else "recall_tiny"
    return Path(request.getfixturevalue(name))


@pytest.fixture(scope="session")
def gemma_gguf() -> Path:
    """A model of sliding windows of 512 tokens."""
    path = chat_models.cache() / GEMMA
    if not path.is_file():
        pytest.skip(f"needs {GEMMA}")
    return path


@pytest.fixture
def store(tmp_path: Path) -> PieceStore:
    return pieces_of(tmp_path / "bank")


@pytest.fixture(scope="session")
def loaded() -> Iterator[Callable[[Path], LoadedModel]]:
    """Every model is loaded once."""
    with ExitStack() as stack:

        @cache
        def load(path: Path) -> LoadedModel:
            model = LoadedModel(path)
            stack.callback(model.close)
            return model

        yield load


@pytest.fixture
def opened(loaded: Callable[[Path], LoadedModel]) -> Iterator[Opened]:
    """Makes contexts of one's own."""
    with ExitStack() as stack:

        def make(path: Path, store: PieceStore | None = None, **more: Any) -> OwnContext:
            return stack.enter_context(OwnContext(path, store, model=loaded(path), **more))

        yield make
