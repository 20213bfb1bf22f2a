"""The context follows the request where nobody has said how large it is, and stays as it has become."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from make_tiny import make_model
from support.engines import running, user

from membank_llama.core.errors import ModelError
from membank_llama.server.engine.generation import generation_context
from membank_llama.server.engine.generation.decode import Tally, generate_text
from membank_llama.server.engine.generation.generation_context import GenerationContext
from membank_llama.server.engine.generation.sampling_options import SamplingOptions

GREEDY = {"temperature": 0, "num_predict": 2}
TRAINED = 10_000


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was made for a context larger than the usual one."""
    return make_model(tmp_path_factory.mktemp("models") / "wide.gguf", n_ctx=TRAINED)


@pytest.fixture
def served(tmp_path: Path, wide: Path) -> Iterator[httpx.Client]:
    with running(tmp_path, wide) as (_, client):
        yield client


def ask(client: httpx.Client, words: int, **more: Any) -> httpx.Response:
    said = [user("the cat " * (words // 2)), {"role": "assistant", "content": "yes"}, user("why")]
    body = {"model": "wide", "messages": said, "stream": False, "options": GREEDY, **more}
    return client.post("/api/chat", json=body)


def held(client: httpx.Client) -> int:
    (one,) = client.get("/api/ps").json()["models"]
    return int(one["context_length"])


def tools(count: int) -> list[dict[str, Any]]:
    """Of the size that interfaces send by default: some 180 tokens each."""
    return [
        {
            "type": "function",
            "function": {
                "name": f"tool_{n}",
                "description": "find some part of the world " * 20,
                "parameters": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            },
        }
        for n in range(count)
    ]


def test_a_longer_prompt_gets_a_larger_context_which_stays(served: httpx.Client) -> None:
    short = ask(served, 10).json()
    assert held(served) == 4096
    assert served.get("/api/ps").json()["models"][0]["membank"] == {"most_context": TRAINED}
    long = ask(served, 6000).json()
    assert long["prompt_eval_count"] > 6000 > short["prompt_eval_count"]
    assert held(served) == 8192
    again = ask(served, 6000).json()
    assert again["membank"]["cached_tokens"] == long["prompt_eval_count"] - 1
    (before,) = served.get("/api/ps").json()["models"]
    assert ask(served, 10).json()["prompt_eval_count"] == short["prompt_eval_count"]
    assert held(served) == 8192
    (after,) = served.get("/api/ps").json()["models"]
    assert (after["size"], after["digest"]) == (before["size"], before["digest"])


def test_tools_count_too(served: httpx.Client) -> None:
    said = [user("the cat")]
    for path, more in (("/api/chat", {}), ("/v1/chat/completions", {"max_tokens": 2})):
        body = {"model": "wide", "messages": said, "stream": False, "options": GREEDY, "tools": tools(36), **more}
        response = served.post(path, json=body)
        assert response.status_code == 200, response.text
    assert held(served) > 4096


def test_beyond_what_it_was_trained_for_the_oldest_turns_go(served: httpx.Client) -> None:
    done = ask(served, 20_000).json()
    assert done["prompt_eval_count"] < 100
    assert held(served) == TRAINED


def test_a_raw_prompt_grows_it_too(served: httpx.Client) -> None:
    body = {"model": "wide", "prompt": "the cat " * 3000, "raw": True, "stream": False, "options": GREEDY}
    assert served.post("/api/generate", json=body).json()["prompt_eval_count"] > 6000
    assert held(served) == 8192


def test_a_size_that_was_named_is_kept(tmp_path: Path, wide: Path) -> None:
    with running(tmp_path, wide) as (_, client):
        done = ask(client, 6000, options={**GREEDY, "num_ctx": 4096}).json()
        assert done["prompt_eval_count"] < 100
        assert held(client) == 4096
        assert ask(client, 6000).json()["prompt_eval_count"] > 6000
        ask(client, 10, options={**GREEDY, "num_ctx": 2048})
        assert held(client) == 2048
    with running(tmp_path, wide, n_ctx=4096) as (_, client):
        assert ask(client, 6000).json()["prompt_eval_count"] < 100
        assert held(client) == 4096
        assert client.get("/api/ps").json()["models"][0]["membank"] == {"most_context": 4096}


def test_nothing_may_be_left_out_where_the_request_says_so(served: httpx.Client) -> None:
    assert ask(served, 6000, truncate=False).json()["prompt_eval_count"] > 6000
    response = ask(served, 20_000, truncate=False)
    assert response.status_code == 400
    assert "exceeds the context length" in response.json()["error"]
    assert ask(served, 6000, truncate=False, options={**GREEDY, "num_ctx": 2048}).status_code == 400


def test_memory_bounds_it_and_what_there_was_goes_on(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = GenerationContext(wide, n_ctx=512, n_threads=1, n_gpu_layers=0, most=TRAINED)
    try:
        # room for a context of 3,000
        monkeypatch.setattr(generation_context, "available_memory", lambda: model._cache_bytes(4000))
        model.grow(8192)
        assert model.n_ctx == 2048
        model.grow(8192)
        assert (model.n_ctx, model.most) == (2048, 2048)
        monkeypatch.setattr(generation_context, "available_memory", lambda: 0)
        model.most = 4096
        with pytest.raises(ModelError, match="no memory"):
            model.grow(4096)
        monkeypatch.undo()
        model.threads(1)
        tokens = model.tokenize("the cat")
        assert list(generate_text(model, tokens, SamplingOptions(num_predict=2, seed=1), Event(), Tally()))
    finally:
        model.close()
