"""`/api/chat` through a socket: fields as Ollama documents them, and clean refusals."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from support.asgi_server import serve
from support.engines import running, user

from membank_llama.server.engine.app import Engine, EngineSettings

GREEDY = {"temperature": 0, "num_predict": 24}
ASKED = [user("My name is Anna. What is my name?")]
COUNTS = ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")


def ask(client: httpx.Client, **more: Any) -> httpx.Response:
    body = {"model": "recall-tiny", "messages": ASKED, "stream": False, "options": GREEDY, **more}
    return client.post("/api/chat", json=body)


def test_stream_has_the_documented_fields(client: httpx.Client) -> None:
    response = ask(client, stream=True)
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    for line in lines[:-1]:
        assert set(line) == {"model", "created_at", "message", "done"}
        assert line["model"] == "recall-tiny"
        assert line["message"]["role"] == "assistant"
        assert line["message"]["content"]
        assert line["done"] is False
    last = lines[-1]
    assert set(last) == {"model", "created_at", "message", "done", "done_reason", "membank", *COUNTS}
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["done"] is True
    assert last["done_reason"] == "stop"
    assert all(isinstance(last[name], int) and last[name] >= 0 for name in COUNTS)
    assert last["created_at"].endswith("Z")
    datetime.fromisoformat(last["created_at"].replace("Z", "+00:00"))


def test_whole_is_what_the_stream_was(client: httpx.Client) -> None:
    streamed = [json.loads(line) for line in ask(client, stream=True).text.splitlines()]
    whole = ask(client)
    assert whole.headers["content-type"].startswith("application/json")
    said = "".join(line["message"]["content"] for line in streamed)
    assert whole.json()["message"] == {"role": "assistant", "content": said}
    assert said == "Your name is Anna."


def test_second_turn_evaluates_only_what_is_new(client: httpx.Client) -> None:
    first = ask(client, messages=[user("My cat is Tom. What is my cat called?")]).json()
    said = [user("My cat is Tom. What is my cat called?"), first["message"], user("Thank you")]
    second = ask(client, messages=said).json()
    again = ask(client, messages=said).json()
    assert second["prompt_eval_count"] > first["prompt_eval_count"]
    assert 0 < evaluated(second) < first["prompt_eval_count"]
    assert again["prompt_eval_count"] == second["prompt_eval_count"]
    assert evaluated(again) == 1


def evaluated(done: dict[str, Any]) -> int:
    return int(done["prompt_eval_count"] - done["membank"]["cached_tokens"])


def test_same_seed_same_answer_other_seed_other(client: httpx.Client) -> None:
    hot = {"temperature": 3.0, "top_k": 0, "top_p": 1.0, "num_predict": 30}
    one, two, three = (ask(client, options={**hot, "seed": seed}).json()["message"]["content"] for seed in (5, 5, 6))
    assert one == two != three


def test_stop_and_num_predict(client: httpx.Client) -> None:
    stopped = ask(client, options={**GREEDY, "stop": [" is A"]}).json()
    assert (stopped["message"]["content"], stopped["done_reason"]) == ("Your name", "stop")
    cut = ask(client, options={"temperature": 0, "num_predict": 2}).json()
    assert (cut["eval_count"], cut["done_reason"]) == (2, "length")
    streamed = ask(client, stream=True, options={**GREEDY, "stop": "Anna"}).text.splitlines()
    assert "".join(json.loads(line)["message"]["content"] for line in streamed) == "Your name is "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"top_k": True}, 'option "top_k" must be of type integer'),
        ({"stop": 3}, 'option "stop" must be of type array'),
        ({"stop": [3]}, 'option "stop" must be of an array of strings'),
        ({"num_ctx": 0}, 'option "num_ctx" must be at least 1'),
        ({"seed": 1e30}, 'option "seed" is out of range'),
    ],
)
def test_wrong_options_are_named(client: httpx.Client, options: dict[str, Any], message: str) -> None:
    response = ask(client, options=options)
    assert response.status_code == 400
    assert response.json() == {"error": message}


def test_every_documented_option_is_taken(client: httpx.Client) -> None:
    options = {
        "num_keep": 5, "seed": 42, "num_predict": 10, "top_k": 20, "top_p": 0.9, "min_p": 0.0, "typical_p": 0.7,
        "repeat_last_n": 33, "temperature": 0.8, "repeat_penalty": 1.2, "presence_penalty": 1.5,
        "frequency_penalty": 1.0, "penalize_newline": True, "stop": ["\n", "user:"], "numa": False, "num_ctx": 512,
        "num_batch": 2, "num_gpu": 1, "main_gpu": 0, "use_mmap": True, "num_thread": 1, "no_such_option": "x",
    }  # fmt: skip
    for mirostat in (0, 1, 2):
        done = ask(client, options={**options, "mirostat": mirostat, "mirostat_tau": 0.8, "mirostat_eta": 0.6})
        assert done.status_code == 200, done.text


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"messages": ASKED}, 400, "model is required"),
        ({"model": "", "messages": ASKED}, 400, "model is required"),
        ({"model": 3, "messages": ASKED}, 400, '"model" must be a string, not int'),
        ({"model": "nope", "messages": ASKED}, 404, "model 'nope' not found"),
        ({"model": "recall-tiny", "messages": "hi"}, 400, '"messages" must be a list of objects, not str'),
        ({"model": "recall-tiny", "messages": [{"role": "x", "content": ""}]}, 400, "invalid role"),
        ({"model": "recall-tiny", "messages": [{"role": "user", "content": 3}]}, 400, '"content" must be a string'),
        ({"model": "recall-tiny", "messages": ASKED, "think": True}, 400, '"recall-tiny" does not support thinking'),
        ({"model": "recall-tiny", "messages": ASKED, "think": "very"}, 400, "invalid think value"),
        ({"model": "recall-tiny", "messages": ASKED, "keep_alive": "soon"}, 400, '"keep_alive" must be a duration'),
        ({"model": "recall-tiny", "messages": ASKED, "format": "xml"}, 400, "invalid format"),
        ({"model": "recall-tiny", "messages": ASKED, "format": {"type": "wat"}}, 400, "invalid JSON schema"),
        ({"model": "recall-tiny", "messages": ASKED, "format": {"$ref": "#/no"}}, 400, "invalid JSON schema"),
        ({"model": "recall-tiny", "messages": ASKED, "tools": [{"type": "function"}]}, 400, "each of the tools"),
        ({"model": "recall-tiny", "messages": [{**ASKED[0], "images": ["aGk="]}]}, 400, "does not support images"),
    ],
)
def test_refusals(client: httpx.Client, body: dict[str, Any], status: int, message: str) -> None:
    response = client.post("/api/chat", json=body)
    assert response.status_code == status
    assert message in response.json()["error"]
    assert ask(client).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"null",
        b'{"model": "recall-tiny", "messages": [{"role": "user", "content": "\\ud800"}], "options": 3}',
        b'{"model": ' + b"[" * 100_000,
        b'{"model": "recall-tiny", "messages": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"model": "recall-tiny", "format": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
        b'{"model": "\\ud800"}',
    ],
)
def test_broken_bodies_are_refused_and_the_server_lives(client: httpx.Client, body: bytes) -> None:
    response = client.post("/api/chat", content=body)
    assert 400 <= response.status_code < 500
    assert response.json()["error"]
    assert ask(client).status_code == 200


def test_text_that_no_utf8_can_hold_is_replaced(client: httpx.Client) -> None:
    lone = b'{"model": "recall-tiny", "stream": false, "messages": [{"role": "user", "content": "a\\ud800\\u0000b"}]}'
    assert client.post("/api/chat", content=lone).status_code == 200


def test_a_long_conversation_loses_its_oldest_turns(client: httpx.Client) -> None:
    talk = [{"role": "system", "content": "Answer."}]
    for n in range(200):
        talk += [user(f"Note number {n} is here"), {"role": "assistant", "content": "OK"}]
    done = ask(client, messages=[*talk, *ASKED]).json()
    assert done["done_reason"] == "stop"
    assert done["prompt_eval_count"] < 1024


def test_a_message_larger_than_the_context_is_refused(client: httpx.Client) -> None:
    response = ask(client, messages=[user("word " * 2000)])
    assert response.status_code == 400
    assert "exceeds the context length" in response.json()["error"]


def test_format_holds_the_answer_to_a_schema(client: httpx.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer"}, "kind": {"enum": ["cat", "dog"]}},
        "required": ["age", "kind"],
    }
    done = ask(client, format=schema, options={"temperature": 0.5, "seed": 1, "num_predict": 200}).json()
    said = json.loads(done["message"]["content"])
    assert isinstance(said["age"], int)
    assert said["kind"] in ("cat", "dog")
    plain = ask(client, format="json", options={"temperature": 0, "num_predict": 60}).json()
    assert plain["message"]["content"].lstrip().startswith("{")


def test_load_and_unload(client: httpx.Client) -> None:
    loaded = ask(client, messages=[]).json()
    assert set(loaded) == {"model", "created_at", "message", "done", "done_reason"}
    assert (loaded["message"], loaded["done_reason"]) == ({"role": "assistant", "content": ""}, "load")
    (shown,) = client.get("/api/ps").json()["models"]
    assert shown["name"] == shown["model"] == "recall-tiny:latest"
    assert shown["context_length"] == 1024
    assert shown["size"] > 0
    assert shown["size_vram"] == 0
    (listed,) = client.get("/api/tags").json()["models"]
    assert shown["details"] == listed["details"]
    assert shown["details"]["parameter_size"] and shown["details"]["quantization_level"]
    gone = ask(client, messages=[], keep_alive=0).json()
    assert gone["done_reason"] == "unload"
    for _ in range(100):
        if not client.get("/api/ps").json()["models"]:
            break
    assert client.get("/api/ps").json() == {"models": []}


def test_names_are_found_as_people_write_them(client: httpx.Client) -> None:
    for name in ("recall-tiny:latest", "Recall-Tiny", "recall-tiny"):
        assert ask(client, model=name).json()["model"] == name


def test_roots_and_unknown_paths(client: httpx.Client) -> None:
    assert client.get("/").text == "Ollama is running"
    assert client.head("/").status_code == 200
    for path in ("/api/version%0A", "/api/version/", "/v1/models/a%0A"):
        assert (client.get(path).status_code, client.get(path).text) == (404, "404 page not found")
    missing = client.get("/api/nothing")
    assert (missing.status_code, missing.text) == (404, "404 page not found")
    assert client.get("/api/chat").status_code == 405


def test_browsers_of_this_machine_are_let_in(client: httpx.Client) -> None:
    for origin in ("http://localhost:3000", "https://127.0.0.1", "app://x", "vscode-webview://abc"):
        assert client.get("/", headers={"origin": origin}).headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in client.get("/", headers={"origin": "https://evil.example"}).headers


def test_origins_can_be_named(tmp_path: Path, recall_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_ORIGINS", "https://my.site, chrome-extension://*")
    with running(tmp_path, recall_tiny) as (_, client):
        for origin in ("https://my.site", "chrome-extension://abc", "http://localhost"):
            asked = {"origin": origin, "access-control-request-method": "POST"}
            allowed = client.options("/api/chat", headers=asked)
            assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, origin)


def test_a_servers_lifespan_closes_the_engine(tmp_path: Path, recall_tiny: Path) -> None:
    engine = Engine(EngineSettings(store=tmp_path, models=(recall_tiny,), use_ollama=False, n_threads=1))
    with serve(engine, lifespan="on") as url, httpx.Client(base_url=url) as client:
        assert ask(client).status_code == 200
    assert engine.loaded() == []


def test_ollamas_own_client(client: httpx.Client) -> None:
    theirs = ollama.Client(host=str(client.base_url))
    said = [part.message.content for part in theirs.chat("recall-tiny", ASKED, stream=True, options=GREEDY)]
    assert "".join(text or "" for text in said) == "Your name is Anna."
    whole = theirs.chat("recall-tiny", ASKED, options=GREEDY)
    assert whole.message.content == "Your name is Anna."
    assert whole.eval_count == 8
    assert theirs.ps().models[0].model == "recall-tiny:latest"
    with pytest.raises(ollama.ResponseError, match="not found"):
        theirs.chat("nope", ASKED)
    theirs._client.close()
