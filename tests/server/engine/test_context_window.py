"""What fits of a conversation, and what is never tokenized because it can't."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from support.engines import running, user

from membank_llama.core.errors import ModelError
from membank_llama.core.message_layouts import TemplateMessage
from membank_llama.server.asgi import AbandonedError, WireError
from membank_llama.server.engine.generation.chat_template import ChatTemplate
from membank_llama.server.engine.generation.context_window import fitting
from membank_llama.server.engine.generation.generation_context import GenerationContext
from membank_llama.server.engine.generation.sampling_options import SamplingOptions, resolve

TEMPLATE = ChatTemplate(None)


class Counted(GenerationContext):
    """The real model, and how many bytes it tokenized."""

    tokenized = 0

    def tokenize(self, text: str, *, whole: bool = True) -> list[int]:
        self.tokenized += len(text.encode())
        return super().tokenize(text, whole=whole)


@pytest.fixture
def model(recall_tiny: Path) -> Iterator[Counted]:
    made = Counted(recall_tiny, n_ctx=256, n_threads=1, n_gpu_layers=0)
    yield made
    made.close()


def turns(count: int, text: str = "turn") -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[n % 2], "content": f"{text} {n}"} for n in range(count)]


def longest_that_fits(model: GenerationContext, said: Sequence[TemplateMessage], room: int) -> list[int]:
    """The answer by trying them all."""
    for start in range(len(said)):
        if start == 0 or said[start]["role"] == "user":
            tokens = model.tokenize(TEMPLATE.render([m for n, m in enumerate(said) if n >= start]))
            if len(tokens) < room:
                return tokens
    return tokens


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 21, 33, 101, 300])
@pytest.mark.parametrize("text", ["t", "a somewhat longer turn, of more words than one", "a" * 90])
def test_the_longest_end_that_fits(model: Counted, count: int, text: str) -> None:
    said = turns(count, text)
    found = fitting(model, said, TEMPLATE.render, -1)
    assert found == longest_that_fits(model, said, model.n_ctx - model.n_ctx // 8)


def test_a_long_history_costs_what_fits_of_it(model: Counted) -> None:
    fitting(model, turns(2001), TEMPLATE.render, -1)
    short = model.tokenized
    model.tokenized = 0
    fitting(model, turns(40_001), TEMPLATE.render, -1)
    assert model.tokenized < 2 * short


def test_what_is_certainly_too_long_is_not_tokenized(model: Counted) -> None:
    longest = model._model.tokenizer.longest
    for text in ("a" * (longest * 257), "word " * 100_000, "🙂" * (longest * 600)):
        with pytest.raises(WireError, match="exceeds the context length of 256 tokens by far"):
            fitting(model, [user("before"), user(text)], TEMPLATE.render, -1)
    assert model.tokenized == 0
    # a text that could fit by its bytes is counted
    text = max((model._piece(token, special=False) for token in range(model.n_vocab)), key=len).decode()
    assert len(fitting(model, [user(text * 200)], TEMPLATE.render, -1)) < 256


def test_a_hang_up_ends_it(model: Counted) -> None:
    gone = Event()
    gone.set()
    with pytest.raises(AbandonedError):
        fitting(model, turns(3), TEMPLATE.render, -1, gone)


def test_through_the_socket(tmp_path: Path, recall_tiny: Path) -> None:
    with running(tmp_path, recall_tiny) as (_, client):
        text, options = "a" * 500_000, {"num_predict": 2}
        for path, body in (
            ("/api/chat", {"messages": [user(text)]}),
            ("/api/generate", {"prompt": text}),
            ("/api/generate", {"prompt": text, "raw": True}),
            ("/api/generate", {"prompt": "x", "system": text}),
            ("/v1/completions", {"prompt": text}),
            ("/v1/chat/completions", {"messages": [user(text)]}),
        ):
            response = client.post(path, json={"model": "recall-tiny", "stream": False, "options": options, **body})
            assert response.status_code == 400
            assert "exceeds the context length" in response.text
        many = [*turns(30_001, "m")]
        asked = {"model": "recall-tiny", "stream": False, "options": options, "messages": many}
        assert client.post("/api/chat", json=asked).status_code == 200


@pytest.mark.parametrize("stop", [["x"] * 257, ["x" * 5000]])
def test_stops_are_few_and_short(stop: list[str]) -> None:
    with pytest.raises(WireError, match="at most"):
        resolve({}, {"stop": stop})
    assert resolve({}, {"stop": "one"}) == SamplingOptions(stop=("one",))


def test_a_context_that_no_memory_holds(recall_tiny: Path) -> None:

    with pytest.raises(ModelError, match="no memory for a context"):
        GenerationContext(recall_tiny, n_ctx=2_000_000_000, n_threads=1, n_gpu_layers=0)
