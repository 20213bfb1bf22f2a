"""OpenAI's API through a socket and its own client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from support.engines import running, user

ASKED: Any = [user("My name is Anna. What is my name?")]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Rome", "Paris"]}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}},
]


@pytest.fixture
def theirs(client: httpx.Client) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0) as made:
        yield made


def test_whole_answer(theirs: openai.OpenAI) -> None:
    done = theirs.chat.completions.create(model="recall-tiny", messages=ASKED, temperature=0)
    assert done.object == "chat.completion"
    assert done.id.startswith("chatcmpl-")
    (choice,) = done.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Your name is Anna.")
    assert choice.finish_reason == "stop"
    assert done.usage is not None
    assert done.usage.prompt_tokens == 21
    assert done.usage.total_tokens == 21 + done.usage.completion_tokens
    again = theirs.chat.completions.create(model="recall-tiny", messages=ASKED, temperature=0)
    assert again.usage is not None and again.usage.prompt_tokens_details is not None
    assert again.usage.prompt_tokens == 21
    assert again.usage.prompt_tokens_details.cached_tokens == 20


def test_stream_ends_with_usage_and_done(client: httpx.Client, theirs: openai.OpenAI) -> None:
    chunks = list(
        theirs.chat.completions.create(
            model="recall-tiny", messages=ASKED, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Your name is Anna."
    assert len({c.id for c in chunks}) == 1
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 8
    body = {"model": "recall-tiny", "messages": ASKED, "stream": True, "max_tokens": 1}
    raw = client.post("/v1/chat/completions", json=body)
    assert raw.headers["content-type"] == "text/event-stream"
    events = raw.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") for event in events[:-1])


def test_limits_and_stops(theirs: openai.OpenAI) -> None:
    for limit in ({"max_tokens": 2}, {"max_completion_tokens": 2}):
        done: Any = theirs.chat.completions.create(model="recall-tiny", messages=ASKED, temperature=0, **limit)  # type: ignore[call-overload]
        assert (done.usage.completion_tokens, done.choices[0].finish_reason) == (2, "length")
    done = theirs.chat.completions.create(model="recall-tiny", messages=ASKED, temperature=0, stop=" Anna")
    assert done.choices[0].message.content == "Your name is"


def test_json_schema(theirs: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"cat": {"type": "boolean"}}, "required": ["cat"]}
    done = theirs.chat.completions.create(
        model="recall-tiny",
        messages=ASKED,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert isinstance(json.loads(done.choices[0].message.content or "")["cat"], bool)
    with pytest.raises(openai.BadRequestError, match="response_format"):
        theirs.chat.completions.create(model="recall-tiny", messages=ASKED, response_format={"type": "x"})  # type: ignore[call-overload]


@pytest.mark.parametrize("stream", [False, True])
def test_forced_calls_come_under_the_tools_own_schema(theirs: openai.OpenAI, stream: bool) -> None:
    sent: Any = {"model": "recall-tiny", "messages": ASKED, "tools": TOOLS, "tool_choice": "required", "seed": 4}
    if stream:
        chunks = list(theirs.chat.completions.create(**sent, stream=True))
        (called,) = [call for c in chunks for call in c.choices[0].delta.tool_calls or []]
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
    else:
        done = theirs.chat.completions.create(**sent)
        (called,) = done.choices[0].message.tool_calls
        assert done.choices[0].finish_reason == "tool_calls"
    assert called.id.startswith("call_")
    assert called.type == "function"
    assert called.function.name in ("get_weather", "get_time")
    arguments = json.loads(called.function.arguments)
    assert called.function.name == "get_time" or arguments["city"] in ("Rome", "Paris")


def test_one_named_function(theirs: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "get_time"}}
    done = theirs.chat.completions.create(model="recall-tiny", messages=ASKED, tools=TOOLS, tool_choice=named)
    assert [call.function.name for call in done.choices[0].message.tool_calls or []] == ["get_time"]  # type: ignore[union-attr]
    other: Any = {"type": "function", "function": {"name": "no_such"}}
    with pytest.raises(openai.BadRequestError, match="no_such"):
        theirs.chat.completions.create(model="recall-tiny", messages=ASKED, tools=TOOLS, tool_choice=other)


def test_a_call_and_its_result_in_the_history(theirs: openai.OpenAI) -> None:
    call: Any = {"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    said: Any = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
    ]
    done = theirs.chat.completions.create(model="recall-tiny", messages=said, tools=TOOLS, max_tokens=4)
    assert done.choices[0].finish_reason
    call["function"]["arguments"] = "{"
    with pytest.raises(openai.BadRequestError, match="invalid tool call arguments"):
        theirs.chat.completions.create(model="recall-tiny", messages=said)


def test_completions(theirs: openai.OpenAI) -> None:
    prompt = "<|im_start|>user\nMy name is Anna. What is my name?<|im_end|>\n<|im_start|>assistant\n"
    done = theirs.completions.create(model="recall-tiny", prompt=prompt, temperature=0)
    assert done.object == "text_completion"
    assert done.choices[0].text == "Your name is Anna."
    echoed = theirs.completions.create(model="recall-tiny", prompt=prompt, temperature=0, echo=True)
    assert echoed.choices[0].text == prompt + "Your name is Anna."
    parts = list(theirs.completions.create(model="recall-tiny", prompt=prompt, temperature=0, stream=True))
    assert "".join(part.choices[0].text for part in parts) == "Your name is Anna."


def test_models(theirs: openai.OpenAI) -> None:
    (one,) = theirs.models.list().data
    assert (one.id, one.object, one.owned_by) == ("recall-tiny:latest", "model", "library")
    assert theirs.models.retrieve("recall-tiny").id == "recall-tiny"
    with pytest.raises(openai.NotFoundError):
        theirs.models.retrieve("nope")


def test_errors_have_openais_shape(client: httpx.Client, theirs: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        theirs.chat.completions.create(model="nope", messages=ASKED)
    for body in (b"{", b'{"model": "recall-tiny"}', b'{"messages": []}', b'{"model": "recall-tiny", "prompt": 3}'):
        for path in ("/v1/chat/completions", "/v1/completions"):
            response = client.post(path, content=body)
            assert response.status_code == 400
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_embeddings_in_both_shapes(tmp_path: Path, minilm_gguf: Path, recall_tiny: Path) -> None:
    with running(tmp_path, minilm_gguf, recall_tiny) as (_, client):
        name = minilm_gguf.stem
        with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0) as theirs:
            floats = theirs.embeddings.create(model=name, input=["a cat", "a dog"], encoding_format="float")
            packed = client.post(
                "/v1/embeddings", json={"model": name, "input": ["a cat", "a dog"], "encoding_format": "base64"}
            ).json()
            assert floats.usage.prompt_tokens == floats.usage.total_tokens > 0
            for one, other in zip(floats.data, packed["data"], strict=True):
                read = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
                assert np.allclose(read, one.embedding, atol=1e-6)
            with pytest.raises(openai.BadRequestError):
                theirs.embeddings.create(model="recall-tiny", input="x")
        response = client.post("/v1/chat/completions", json={"model": name, "messages": ASKED})
        assert response.status_code == 400
        assert "does not support chat" in response.json()["error"]["message"]
