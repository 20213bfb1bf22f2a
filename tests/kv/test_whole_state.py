"""A recurrent model's state, which can't be cut: kept at the end of a turn, restored whole or not at all."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import numpy as np
import pytest
from support.made_models import mamba

from membank_llama.kv.piece_store import PieceStore
from membank_llama.server.engine.generation.generation_context import GenerationContext

TOLD = "The parrot of my sister Ana is called Rio, and it likes to talk in the morning."


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mamba(tmp_path_factory.mktemp("models") / "mamba.gguf")


def opened(path: Path, bank: Path) -> GenerationContext:
    bank.mkdir(exist_ok=True)
    made = GenerationContext(path, n_ctx=512, n_threads=1, n_gpu_layers=0, kv_store=PieceStore(bank))
    made.namespace = "default"
    return made


def answer(context: GenerationContext, count: int = 12) -> list[int]:
    said = []
    for _ in range(count):
        token = int(np.argmax(context.logits()))
        said.append(token)
        context.push(token)
    return said


def test_a_turn_is_gone_on_with_by_another_process(recurrent: Path, tmp_path: Path) -> None:
    first = opened(recurrent, tmp_path / "bank")
    prompt = first.tokenize(TOLD)
    assert first.evaluate(prompt, Event()).cached == 0
    said = answer(first)
    first.keep()
    more = prompt + said + first.tokenize(" What is it called?", whole=False)
    assert first.evaluate(more, Event()).cached == len(prompt) + len(said)
    expected = answer(first)
    first.close()
    second = opened(recurrent, tmp_path / "bank")
    assert second.evaluate(more, Event()).cached == len(prompt) + len(said)
    assert answer(second) == expected
    second.close()


def test_it_is_never_cut(recurrent: Path, tmp_path: Path) -> None:
    first = opened(recurrent, tmp_path / "bank")
    prompt = first.tokenize(TOLD)
    first.evaluate(prompt, Event())
    first.keep()
    first.close()
    second = opened(recurrent, tmp_path / "bank")
    # one that parts from it on the way, and one that is its beginning
    parting = prompt[:-4] + second.tokenize(" in Porto, by the river", whole=False)
    assert second.evaluate(parting, Event()).cached == 0
    found = second.logits().copy()
    assert second.evaluate(prompt[:-6], Event()).cached == 0
    second.namespace = "another"
    assert second.evaluate([*prompt, 5, 6], Event()).cached == 0
    second.close()
    plain = GenerationContext(recurrent, n_ctx=512, n_threads=1, n_gpu_layers=0)
    plain.evaluate(parting, Event())
    assert np.array_equal(plain.logits(), found)
    plain.close()


def test_what_is_forgotten_goes(recurrent: Path, tmp_path: Path) -> None:
    first = opened(recurrent, tmp_path / "bank")
    first.evaluate(first.tokenize(TOLD), Event())
    first.keep()
    first.close()
    store = PieceStore(tmp_path / "bank")
    assert len(store.files()) == 1
    assert store.forget({"default": ["The parrot of my sister Ana is called Rio"]}) == 1
    assert store.files() == []


def test_a_damaged_state_is_evaluated_anew(recurrent: Path, tmp_path: Path) -> None:
    first = opened(recurrent, tmp_path / "bank")
    prompt = first.tokenize(TOLD)
    first.evaluate(prompt, Event())
    first.keep()
    first.close()
    (path,) = PieceStore(tmp_path / "bank").files()
    data = bytearray(path.read_bytes())
    data[-100] ^= 4
    path.write_bytes(data)
    second = opened(recurrent, tmp_path / "bank")
    assert second.evaluate([*prompt, 5, 6], Event()).cached == 0
    assert not path.exists()
    second.close()
