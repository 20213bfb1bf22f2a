"""Anthropic's Messages API through a socket and its own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from make_tiny import CHATML, make_model
from support.engines import Scripted, running, user

from membank_llama.core.errors import ModelError
from membank_llama.server.asgi import error_body
from membank_llama.server.engine.api.anthropic_messages import anthropic_messages, anthropic_think, anthropic_tools
from membank_llama.server.engine.generation.reasoning import Think
from membank_llama.server.engine.runtime import model_pool

ASKED = [user("My name is Anna. What is my name?")]
TOOLS: list[dict[str, Any]] = [
    {
        "name": "get_weather",
        "description": "The weather of a city",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Paris"]}},
            "required": ["city"],
        },
    },
    {"name": "get_time", "input_schema": {"type": "object", "properties": {}}},
]


def sent(**more: Any) -> dict[str, Any]:
    return {"model": "recall-tiny", "max_tokens": 50, "messages": ASKED, "temperature": 0, **more}


def ask(client: httpx.Client, **more: Any) -> httpx.Response:
    return client.post("/v1/messages", json=sent(**more))


def events(client: httpx.Client, **more: Any) -> list[dict[str, Any]]:
    response = ask(client, stream=True, **more)
    assert response.headers["content-type"] == "text/event-stream"
    found = []
    for event in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_whole_message(client: httpx.Client) -> None:
    first = ask(client).json()
    assert first["id"].startswith("msg_")
    assert (first["type"], first["role"], first["model"]) == ("message", "assistant", "recall-tiny")
    assert first["content"] == [{"type": "text", "text": "Your name is Anna."}]
    assert (first["stop_reason"], first["stop_sequence"]) == ("end_turn", None)
    again = ask(client).json()["usage"]
    assert again["input_tokens"] == 1
    assert again["input_tokens"] + again["cache_read_input_tokens"] == 21
    assert (again["output_tokens"], again["cache_creation_input_tokens"]) == (8, 0)


def test_the_order_of_a_stream(client: httpx.Client) -> None:
    ask(client)
    first, opened, *deltas, closed, ending, last = events(client)
    assert first["type"] == "message_start"
    assert first["message"]["content"] == []
    assert first["message"]["stop_reason"] is None
    assert first["message"]["usage"]["input_tokens"] == 1
    assert first["message"]["usage"]["cache_read_input_tokens"] == 20
    assert opened == {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    assert {(one["type"], one["index"], one["delta"]["type"]) for one in deltas} == {
        ("content_block_delta", 0, "text_delta")
    }
    assert "".join(one["delta"]["text"] for one in deltas) == "Your name is Anna."
    assert closed == {"type": "content_block_stop", "index": 0}
    assert ending["type"] == "message_delta"
    assert ending["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert ending["usage"]["output_tokens"] == 8
    assert last == {"type": "message_stop"}


def test_why_an_answer_ended(client: httpx.Client) -> None:
    stopped = ask(client, stop_sequences=[" Anna"]).json()
    assert stopped["content"][0]["text"] == "Your name is"
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", " Anna")
    ending = events(client, stop_sequences=[" Anna"])[-2]
    assert ending["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": " Anna"}
    cut = ask(client, max_tokens=2).json()
    assert (cut["stop_reason"], cut["usage"]["output_tokens"]) == ("max_tokens", 2)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_forced_call(client: httpx.Client, choice: dict[str, str]) -> None:
    whole = ask(client, tools=TOOLS, tool_choice=choice, top_k=20, max_tokens=200).json()
    assert whole["stop_reason"] == "tool_use"
    (called,) = [block for block in whole["content"] if block["type"] == "tool_use"]
    assert called["name"] == choice.get("name", called["name"])
    assert called["name"] == "get_time" or called["input"]["city"] in ("Rome", "Paris")
    streamed = events(client, tools=TOOLS, tool_choice=choice, max_tokens=200)
    assert [one["type"] for one in streamed[1:-2]] == [
        "content_block_start", "content_block_delta", "content_block_stop",
    ]  # fmt: skip
    block = streamed[1]["content_block"]
    assert (block["type"], block["input"]) == ("tool_use", {})
    assert isinstance(json.loads(streamed[2]["delta"]["partial_json"]), dict)
    assert streamed[-2]["delta"]["stop_reason"] == "tool_use"


def test_no_tools_where_none_are_to_be_called(client: httpx.Client) -> None:
    said = ask(client, tools=TOOLS, tool_choice={"type": "none"}).json()
    assert said["content"] == [{"type": "text", "text": "Your name is Anna."}]


def test_tokens_are_counted_by_template_and_vocabulary(client: httpx.Client) -> None:
    body = {key: value for key, value in sent().items() if key != "max_tokens"}
    for more in ({}, {"system": "Be brief."}, {"tools": TOOLS}):
        usage = ask(client, **more).json()["usage"]
        counted = client.post("/v1/messages/count_tokens", json={**body, **more}).json()
        assert counted == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}
    # whether it fits or not
    long = {**body, "messages": [user("word " * 5000)]}
    assert client.post("/v1/messages/count_tokens", json=long).json()["input_tokens"] > 5000


@pytest.mark.parametrize(
    ("more", "status", "kind", "told"),
    [
        ({"model": "nope"}, 404, "not_found_error", "'nope' not found"),
        ({"model": ""}, 400, "invalid_request_error", "model is required"),
        ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens is required"),
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens is required"),
        ({"messages": []}, 400, "invalid_request_error", "messages is required"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "invalid_request_error", "role must be"),
        ({"messages": [{"role": "user", "content": 3}]}, 400, "invalid_request_error", "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, 400,
         "invalid_request_error", "this model does not support images"),
        ({"thinking": {"type": "x"}}, 400, "invalid_request_error", "thinking must be"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "x"}}, 400, "invalid_request_error", "'x'"),
        ({"tools": [{"description": "x"}]}, 400, "invalid_request_error", "name"),
        ({"stop_sequences": 3}, 400, "invalid_request_error", "stop"),
        ({"messages": [user("word " * 20_000)]}, 400, "invalid_request_error", "exceeds the context length"),
    ],
)  # fmt: skip
def test_errors_have_anthropics_shape(
    client: httpx.Client, more: dict[str, Any], status: int, kind: str, told: str
) -> None:
    for stream in (False, True):
        response = ask(client, stream=stream, **more)
        assert response.status_code == status
        body = response.json()
        assert (body["type"], body["error"]["type"]) == ("error", kind)
        assert told in body["error"]["message"]
        assert body["request_id"].startswith("req_")


def test_kinds_of_errors() -> None:
    kinds = {
        401: "authentication_error", 403: "permission_error", 413: "request_too_large", 429: "rate_limit_error",
        500: "api_error", 503: "overloaded_error", 529: "overloaded_error",
    }  # fmt: skip
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/messages"):
        for status, kind in kinds.items():
            assert json.loads(error_body(path, status, "x"))["error"] == {"type": kind, "message": "x"}
    assert set(json.loads(error_body("/v1/messagesx", 400, "x"))["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_is_no_request(client: httpx.Client) -> None:
    for body in (b"", b"{", b"[]"):
        response = client.post("/v1/messages", content=body)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_blocks_become_messages() -> None:
    said = [
        {"role": "user", "content": [{"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}},
                                     {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "wait"},
            {"type": "tool_use", "id": "call_1", "name": "get_time", "input": {"at": "noon"}},
            {"type": "tool_use", "id": "call_2", "name": "get_time", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "text", "text": "and?"},
            {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "noon"}]},
            {"type": "tool_result", "tool_use_id": "call_2", "content": "none", "is_error": True},
            {"type": "document", "title": "Plan", "source": {"type": "text", "data": "go"}},
            {"type": "something_new", "text": "?"},
        ]},
    ]  # fmt: skip
    made = anthropic_messages(
        {"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "messages": said}
    )
    assert [(one["role"], one["content"]) for one in made] == [
        ("system", "a\nb"), ("user", "one\ntwo"), ("assistant", "wait"), ("tool", "noon"), ("tool", "Error: none"),
        ("user", "and?\nPlan\ngo"),
    ]  # fmt: skip
    assert made[2]["thinking"] == "hm"
    assert [call["id"] for call in made[2]["tool_calls"]] == ["call_1", "call_2"]
    assert made[2]["tool_calls"][0]["function"] == {"name": "get_time", "arguments": {"at": "noon"}}
    assert [one["tool_call_id"] for one in made[3:5]] == ["call_1", "call_2"]


def test_what_only_anthropics_servers_can_do_is_passed_over() -> None:
    tools = [*TOOLS, {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]
    given, choice = anthropic_tools({"tools": tools})
    assert [tool["function"]["name"] for tool in given] == ["get_weather", "get_time"]
    assert choice == "auto"
    # a prompt that came by another API is found again in the cache
    assert list(given[0]["function"]) == ["name", "description", "parameters"]


@pytest.mark.parametrize(
    ("asked", "think"),
    [
        ({}, Think()),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, Think(False)),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Think(True)),
        ({"thinking": {"type": "adaptive"}}, Think()),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, Think(True, "low")),
        ({"output_config": {"effort": "max"}}, Think(True, "high")),
    ],
)
def test_how_much_is_thought(asked: dict[str, Any], think: Think) -> None:
    assert anthropic_think(asked) == think


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A model that thinks, speaks and calls; its template begins the thought."""
    template = CHATML + "{% if tools %}<tool_call>{% endif %}{% if enable_thinking %}<think>\n{% endif %}"
    made = make_model(tmp_path / "thinker.gguf", chat_template=template)

    def context(path: Path, *, n_ctx: int, **_: Any) -> Scripted:
        return Scripted(path, "a cat</think>Yes. <tool_call>", n_ctx=n_ctx)

    monkeypatch.setattr(model_pool, "GenerationContext", context)
    with running(tmp_path / "store", made) as (_, client):
        yield client


def test_thought_words_and_call_are_blocks_of_their_own(scripted: httpx.Client) -> None:
    more = {"model": "thinker", "thinking": {"type": "enabled"}, "tools": TOOLS, "max_tokens": 200}
    streamed = events(scripted, **more)
    started = [one for one in streamed if one["type"] == "content_block_start"]
    assert [(one["index"], one["content_block"]["type"]) for one in started][:3] == [
        (0, "thinking"), (1, "text"), (2, "tool_use"),
    ]  # fmt: skip
    assert started[0]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    open_ = None
    for one in streamed:
        if one["type"] == "content_block_start":
            assert open_ is None
            open_ = one["index"]
        elif one["type"] == "content_block_delta":
            assert one["index"] == open_
        elif one["type"] == "content_block_stop":
            assert one["index"] == open_
            open_ = None
    said = {"thinking": "", "text": ""}
    for one in streamed:
        if one["type"] == "content_block_delta" and one["delta"]["type"] != "input_json_delta":
            kind = one["delta"]["type"].removesuffix("_delta")
            said[kind] += one["delta"][kind]
    # after its call it says what it likes
    assert said["thinking"] == "a cat"
    assert said["text"].startswith("Yes.")


def test_a_thought_in_a_whole_message(scripted: httpx.Client) -> None:
    said = ask(scripted, model="thinker", max_tokens=17).json()["content"]
    assert said == [
        {"type": "thinking", "thinking": "a cat", "signature": ""},
        {"type": "text", "text": "Yes."},
    ]


def test_an_error_in_a_stream(scripted: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Scripted, token: int) -> None:
        raise ModelError("llama.cpp could not evaluate 1 tokens")

    with scripted.stream("POST", "/v1/messages", json=sent(model="thinker", stream=True, max_tokens=200)) as response:
        lines = response.iter_lines()
        while not next(lines).startswith("event: content_block_delta"):
            pass
        monkeypatch.setattr(Scripted, "push", fails)
        rest = [line for line in lines if line]
    assert rest[-2] == "event: error"
    told = json.loads(rest[-1].removeprefix("data: "))
    assert (told["type"], told["error"]["type"]) == ("error", "api_error")


def test_anthropics_own_client(client: httpx.Client) -> None:
    anthropic = pytest.importorskip("anthropic")
    with anthropic.Anthropic(base_url=str(client.base_url), api_key="any", max_retries=0) as theirs:
        said: Any = {"model": "recall-tiny", "max_tokens": 50, "messages": ASKED}
        whole = theirs.messages.create(**said, extra_body={"temperature": 0})
        assert (whole.content[0].text, whole.stop_reason) == ("Your name is Anna.", "end_turn")
        with theirs.messages.stream(**said, extra_body={"temperature": 0}) as stream:
            assert "".join(stream.text_stream) == "Your name is Anna."
            final = stream.get_final_message()
        assert final.usage.input_tokens + final.usage.cache_read_input_tokens == 21
        with theirs.messages.stream(
            **{**said, "max_tokens": 200}, tools=TOOLS, tool_choice={"type": "any"}, extra_body={"temperature": 0}
        ) as stream:
            final = stream.get_final_message()
        assert final.stop_reason == "tool_use"
        assert isinstance(final.content[-1].input, dict)
        assert theirs.messages.count_tokens(model="recall-tiny", messages=ASKED).input_tokens == 21
        with pytest.raises(anthropic.NotFoundError, match="not found"):
            theirs.messages.create(**{**said, "model": "nope"})
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            theirs.messages.create(**{**said, "max_tokens": 0})
