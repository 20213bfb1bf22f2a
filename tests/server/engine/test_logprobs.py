"""How likely each token was, over both APIs, whole and streamed."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import openai
import pytest
from support.engines import user

ASKED: Any = [user("My name is Anna. What is my name?")]
GREEDY = {"temperature": 0}


def ask(client: httpx.Client, path: str = "/api/chat", **more: Any) -> httpx.Response:
    body = {"model": "recall-tiny", "messages": ASKED, "stream": False, "options": GREEDY, **more}
    return client.post(path, json=body)


def test_the_likeliest_token_is_what_a_greedy_answer_says(client: httpx.Client) -> None:
    done = ask(client, logprobs=True, top_logprobs=3).json()
    likely = done["logprobs"]
    assert "".join(one["token"] for one in likely) == done["message"]["content"]
    for one in likely:
        assert bytes(one["bytes"]).decode() == one["token"]
        assert len(one["top_logprobs"]) == 3
        assert one["top_logprobs"][0] == {key: one[key] for key in ("token", "logprob", "bytes")}
        values = [top["logprob"] for top in one["top_logprobs"]]
        assert values == sorted(values, reverse=True)
        assert 0.0 < sum(math.exp(value) for value in values) <= 1.0 + 1e-6
    assert all(one["logprob"] > math.log(0.5) for one in likely)


def test_temperature_and_schemas_do_not_change_them(client: httpx.Client) -> None:
    first = ask(client, logprobs=True).json()["logprobs"][0]
    assert first["top_logprobs"] == []
    hot = ask(client, logprobs=True, top_logprobs=20, options={"temperature": 5.0, "seed": 3}).json()["logprobs"][0]
    assert len(hot["top_logprobs"]) == 20
    assert hot["top_logprobs"][0]["logprob"] == pytest.approx(first["logprob"], abs=1e-4)
    held = ask(client, logprobs=True, format={"type": "boolean"}).json()
    assert held["message"]["content"] in ("true", "false")
    assert held["logprobs"][0]["logprob"] < math.log(0.5)


def test_streamed_they_come_with_their_text(client: httpx.Client) -> None:
    lines = [json.loads(line) for line in ask(client, stream=True, logprobs=True).text.splitlines()]
    whole = ask(client, logprobs=True).json()["logprobs"]
    assert [one["token"] for line in lines for one in line.get("logprobs", ())] == [one["token"] for one in whole]
    for line in lines[:-1]:
        assert "".join(one["token"] for one in line["logprobs"]) == line["message"]["content"]
    assert all("logprobs" not in json.loads(line) for line in ask(client, stream=True).text.splitlines())


def test_generate_has_them_too(client: httpx.Client) -> None:
    body = {"model": "recall-tiny", "prompt": "Hello", "stream": False, "options": {**GREEDY, "num_predict": 3}}
    for raw in (False, True):
        likely = client.post("/api/generate", json={**body, "raw": raw, "logprobs": True, "top_logprobs": 1}).json()
        assert len(likely["logprobs"]) in (2, 3)
        assert likely["logprobs"][0]["top_logprobs"][0]["token"] == likely["logprobs"][0]["token"]


@pytest.mark.parametrize("top", [-1, 21])
def test_twenty_at_most(client: httpx.Client, top: int) -> None:
    for path in ("/api/chat", "/v1/chat/completions"):
        response = ask(client, path, logprobs=True, top_logprobs=top)
        assert response.status_code == 400
        assert "top_logprobs must be between 0 and 20" in response.text


def test_openais_own_client(client: httpx.Client) -> None:
    asked: Any = {"model": "recall-tiny", "messages": ASKED, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0) as theirs:
        whole = theirs.chat.completions.create(**asked).choices[0].logprobs
        assert whole is not None
        tokens = [one.token for one in whole.content]
        assert "".join(tokens) == "Your name is Anna."
        assert all(len(one.top_logprobs) == 2 for one in whole.content)
        chunks = list(theirs.chat.completions.create(**asked, stream=True))
        streamed = [c.choices[0].logprobs for c in chunks if c.choices and c.choices[0].logprobs]
        assert [one.token for some in streamed for one in some.content] == tokens
