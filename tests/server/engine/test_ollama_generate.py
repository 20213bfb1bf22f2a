"""`/api/generate` through a socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from make_tiny import make_model
from support.engines import running

from membank_llama.gguf.capabilities import read_facts
from membank_llama.server.asgi import WireError
from membank_llama.server.engine.generation.conversation_request import RawRequest, RequestedModel
from membank_llama.server.engine.generation.generation_context import GenerationContext
from membank_llama.server.engine.generation.sampling_options import SamplingOptions
from membank_llama.server.engine.library.served_model import ServedModel

GREEDY = {"temperature": 0, "num_predict": 12}
ASKED = "My name is Anna. What is my name?"


def ask(client: httpx.Client, **more: Any) -> httpx.Response:
    body = {"model": "recall-tiny", "prompt": ASKED, "stream": False, "options": GREEDY, **more}
    return client.post("/api/generate", json=body)


def test_fields_whole_and_streamed(client: httpx.Client) -> None:
    whole = ask(client).json()
    assert set(whole) == {
        "model", "created_at", "response", "done", "done_reason", "context", "total_duration", "load_duration",
        "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration", "membank",
    }  # fmt: skip
    assert whole["response"] == "Your name is Anna."
    assert all(isinstance(token, int) for token in whole["context"])
    lines = [json.loads(line) for line in ask(client, stream=True).text.splitlines()]
    assert all(set(line) == {"model", "created_at", "response", "done"} for line in lines[:-1])
    assert "".join(line["response"] for line in lines) == whole["response"]
    assert lines[-1]["context"] == whole["context"]


def test_context_goes_on_with_the_conversation(client: httpx.Client) -> None:
    first = ask(client).json()
    second = ask(client, prompt="Thank you", context=first["context"]).json()
    assert second["context"][: len(first["context"])] == first["context"]
    cached = second["membank"]["cached_tokens"]
    assert second["prompt_eval_count"] > cached > 0
    assert second["prompt_eval_count"] - cached < len(second["context"]) - len(first["context"])
    assert ask(client, context=[10**6]).status_code == 400
    assert ask(client, context=["a"]).status_code == 400


def test_raw_is_not_templated_and_has_no_context(client: httpx.Client) -> None:
    raw = ask(client, prompt=f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n", raw=True).json()
    assert raw["response"] == "Your name is Anna."
    assert "context" not in raw
    assert ask(client, raw=True, system="x").status_code == 400


def test_what_cannot_be_done_is_said(client: httpx.Client) -> None:
    for more, message in (
        ({"suffix": "x"}, '"recall-tiny" does not support insert'),
        ({"images": ["aGk="]}, "does not support images"),
        ({"template": "{{ .System }} {{ .Prompt }}"}, "Go's language"),
        ({"prompt": "word " * 2000}, "exceeds the context length"),
    ):
        response = ask(client, **more)
        assert response.status_code == 400
        assert message in response.json()["error"]
    assert ask(client, template="{{ .Prompt }}").status_code == 200


def test_no_prompt_loads(client: httpx.Client) -> None:
    body = {"model": "recall-tiny"}
    assert client.post("/api/generate", json=body).json()["done_reason"] == "load"
    assert client.post("/api/generate", json={**body, "keep_alive": 0}).json()["done_reason"] == "unload"


def test_a_random_model_fills_its_context(tmp_path: Path, tiny_gguf: Path) -> None:
    with running(tmp_path, tiny_gguf) as (_, client):
        options = {"temperature": 0, "num_ctx": 64, "num_predict": -1}
        body = {"model": "tiny", "prompt": "the cat", "raw": True, "stream": False, "options": options}
        done = client.post("/api/generate", json=body).json()
        assert done["done_reason"] == "length"
        assert done["prompt_eval_count"] + done["eval_count"] == 64
        again = client.post("/api/generate", json={**body, "stream": True})
        last = json.loads(again.text.splitlines()[-1])
        assert last["prompt_eval_count"] == done["prompt_eval_count"]
        assert last["membank"] == {"cached_tokens": done["prompt_eval_count"] - 1}


def test_a_model_with_infill_tokens_writes_what_lies_between(tmp_path: Path) -> None:
    path = make_model(tmp_path / "plain.gguf")
    served = ServedModel("plain:latest", path, "0" * 64, 1, 0.0)
    target = RequestedModel("plain", served, read_facts(path))
    model = GenerationContext(path, n_ctx=256, n_threads=1, n_gpu_layers=0)
    try:
        with pytest.raises(WireError, match='"plain" does not support insert'):
            RawRequest(target, "a", SamplingOptions(), suffix="b").plan(model)
        model.infill = lambda: (2, 3, 4)  # type: ignore[method-assign]
        tokens = RawRequest(target, "the", SamplingOptions(), suffix="cat").plan(model).tokens
        assert [token for token in tokens if token in (2, 3, 4)] == [2, 3, 4]
        assert tokens[-1] == 4
    finally:
        model.close()


def test_ollamas_own_client(client: httpx.Client) -> None:
    theirs = ollama.Client(host=str(client.base_url))
    assert theirs.generate("recall-tiny", ASKED, options=GREEDY).response == "Your name is Anna."
    parts = list(theirs.generate("recall-tiny", ASKED, options=GREEDY, stream=True))
    assert parts[-1].done_reason == "stop"
    theirs._client.close()
