"""Routes beside those of the answers: Ollama's account and cloud, llama.cpp's own server, slashes too many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from support.engines import running, user

from membank_llama.server.asgi import is_anthropic, is_openai

ASKED = [user("My name is Anna. What is my name?")]
PROMPT = "<|im_start|>user\nMy name is Anna. What is my name?<|im_end|>\n<|im_start|>assistant\n"
GREEDY = {"temperature": 0, "stream": False, "model": "recall-tiny"}


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "told"),
    [
        ("GET", "/api/status", None, 200, {"cloud": {"disabled": True, "source": "config"}}),
        ("POST", "/api/me", None, 401, {"error": "unauthorized", "signin_url": ""}),
        ("POST", "/api/me", {}, 401, {"error": "unauthorized", "signin_url": ""}),
        ("POST", "/api/signout", None, 401, {"error": "you are not currently signed in"}),
        ("DELETE", "/api/user/keys/abc", None, 401, {"error": "you are not currently signed in"}),
        ("GET", "/api/experimental/model-recommendations", None, 200, {"recommendations": []}),
        ("POST", "/api/experimental/web_search", None, 400, {"error": "missing request body"}),
        ("POST", "/api/experimental/web_search", {"query": "x"}, 403,
         {"error": "cloud is disabled: web search is unavailable"}),
        ("POST", "/api/experimental/web_fetch", {"url": "x"}, 403,
         {"error": "cloud is disabled: web fetch is unavailable"}),
    ],
)  # fmt: skip
def test_ollamas_makers_are_never_asked(
    client: httpx.Client, verb: str, path: str, body: Any, status: int, told: dict[str, Any]
) -> None:
    response = client.request(verb, path, json=body)
    assert (response.status_code, response.json()) == (status, told)


def test_what_no_model_here_can_do(client: httpx.Client) -> None:
    asked = {"model": "recall-tiny", "prompt": "a cat"}
    for path in ("/v1/images/generations", "/v1/images/edits"):
        response = client.post(path, json=asked)
        assert response.status_code == 400
        assert response.json()["error"]["message"] == '"recall-tiny" does not support image generation'
        assert client.post(path, json={**asked, "model": "nope"}).status_code == 404
    form = client.post("/v1/audio/transcriptions", files={"file": b"x"}, data={"model": "recall-tiny"})
    assert (form.status_code, form.json()["error"]["message"]) == (400, "no model here supports audio")


def test_ollamas_own_client_is_told_so(client: httpx.Client) -> None:
    theirs = ollama.Client(host=str(client.base_url))
    with pytest.raises(ollama.ResponseError, match="not found"):
        theirs.chat("nope", ASKED)
    theirs._client.close()
    version = client.get("/api/version").json()["version"]
    assert tuple(map(int, version.split("."))) >= (0, 32)


@pytest.mark.parametrize(("level", "status"), [("max", 400), ("low", 400), ("x", 400), (False, 200), (None, 200)])
def test_levels_of_thought(client: httpx.Client, level: Any, status: int) -> None:
    body = {**GREEDY, "messages": ASKED, "think": level, "shift": False}
    response = client.post("/api/chat", json=body)
    assert response.status_code == status
    if status == 400:
        said = "invalid think value" if level == "x" else "does not support thinking"
        assert said in response.json()["error"]
    assert client.post("/api/chat", json={**body, "shift": "x"}).status_code == 400


@pytest.mark.parametrize(
    ("bare", "path", "body"),
    [
        ("/chat/completions", "/v1/chat/completions", {"messages": ASKED}),
        ("/completions", "/v1/completions", {"prompt": PROMPT}),
        ("/responses", "/v1/responses", {"input": ASKED}),
        ("/messages", "/v1/messages", {"messages": ASKED, "max_tokens": 20}),
        ("/messages/count_tokens", "/v1/messages/count_tokens", {"messages": ASKED}),
    ],
)
def test_routes_without_v1_are_the_same(client: httpx.Client, bare: str, path: str, body: dict[str, Any]) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(one) for key, one in value.items() if key not in ("id", "created_at", "completed_at")}
        return [shape(one) for one in value] if isinstance(value, list) else type(value)

    client.post(path, json={**GREEDY, **body})
    one, other = (client.post(at, json={**GREEDY, **body}) for at in (path, bare))
    assert one.status_code == other.status_code == 200
    assert shape(one.json()) == shape(other.json())
    one, other = (client.post(at, content=b"{") for at in (path, bare))
    assert one.status_code == other.status_code == 400
    assert shape(one.json()) == shape(other.json())
    assert not isinstance(one.json()["error"], str)


def test_models_and_embeddings_without_v1(client: httpx.Client) -> None:
    assert client.get("/models").json() == client.get("/v1/models").json()
    response = client.post("/embeddings", json={"model": "recall-tiny", "input": "x"})
    assert response.status_code == 400
    assert "does not support embeddings" in response.json()["error"]["message"]
    assert client.post("/infill", json={}).status_code == 404


def test_whose_paths_are_whose() -> None:
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/messages", "/messages/count_tokens"):
        assert is_anthropic(path) and not is_openai(path)
    for path in ("/v1/chat/completions", "/v1/models/x", "/completion", "/models", "/responses"):
        assert is_openai(path) and not is_anthropic(path)
    for path in ("/api/chat", "/", "/api/messages", "/v1", "/completionx"):
        assert not is_openai(path) and not is_anthropic(path)


def test_completion_of_llama_cpps_own_server(client: httpx.Client) -> None:
    asked = {"prompt": PROMPT, "temperature": 0}
    client.post("/completion", json=asked)
    # only one model is served: its name may be left out
    done = client.post("/completion", json=asked).json()
    assert (done["content"], done["stop"], done["stop_type"]) == ("Your name is Anna.", True, "eos")
    assert (done["tokens_evaluated"], done["tokens_predicted"]) == (21, 8)
    assert (done["timings"]["cache_n"], done["timings"]["prompt_n"]) == (20, 1)
    stopped = client.post("/completion", json={**asked, "stop": [" Anna"]}).json()
    assert (stopped["content"], stopped["stop_type"], stopped["stopping_word"]) == ("Your name is", "word", " Anna")
    cut = client.post("/completion", json={**asked, "n_predict": 2}).json()
    assert (cut["stop_type"], cut["tokens_predicted"]) == ("limit", 2)
    held = client.post("/completion", json={**asked, "json_schema": {"type": "boolean"}}).json()
    assert held["content"] in ("true", "false")
    raw = client.post("/completion", json={**asked, "stream": True}).text.removesuffix("\n\n").split("\n\n")
    pieces = [json.loads(one.removeprefix("data: ")) for one in raw]
    assert "".join(one["content"] for one in pieces) == "Your name is Anna."
    assert [one["stop"] for one in pieces] == [False] * (len(pieces) - 1) + [True]
    for more in ({"prompt": [1, 2]}, {"grammar": "root ::= [a]"}, {"n_predict": "x"}):
        response = client.post("/completion", json={**asked, **more})
        assert response.status_code == 400
        assert response.json()["error"]["message"]


def test_one_of_two_models_has_to_be_named(tmp_path: Path, recall_tiny: Path, tiny_gguf: Path) -> None:
    with running(tmp_path, recall_tiny, tiny_gguf) as (_, client):
        response = client.post("/completion", json={"prompt": "x"})
        assert (response.status_code, response.json()["error"]["message"]) == (400, "model is required")


@pytest.mark.parametrize("path", ["//api/tags", "/api//tags", "///v1/models"])
def test_a_slash_too_many(client: httpx.Client, path: str) -> None:
    url = f"{str(client.base_url).rstrip('/')}{path}"
    assert httpx.get(url).status_code == 200
    told = httpx.post(f"{str(client.base_url).rstrip('/')}//v1/messages", content=b"{").json()
    assert told["type"] == "error"
