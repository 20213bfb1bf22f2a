"""OpenAI's Responses API through a socket and its own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from make_tiny import CHATML, make_model
from support.engines import Scripted, running

from membank_llama.core.errors import ModelError
from membank_llama.server.asgi import WireError
from membank_llama.server.engine.api.response_items import response_grammar, response_messages, response_tools
from membank_llama.server.engine.runtime import model_pool

ASKED = "My name is Anna. What is my name?"
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": "get_weather",
        "description": None,
        "strict": None,
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Rome", "Paris"]}}, "required": ["city"]},
    },
    {"type": "web_search"},
    {"type": "custom", "name": "patch"},
]


def ask(client: httpx.Client, **more: Any) -> httpx.Response:
    body = {"model": "recall-tiny", "input": ASKED, "temperature": 0, **more}
    return client.post("/v1/responses", json=body)


def events(client: httpx.Client, **more: Any) -> list[dict[str, Any]]:
    response = ask(client, stream=True, **more)
    assert response.headers["content-type"] == "text/event-stream"
    found = []
    for event in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


def kinds(streamed: list[dict[str, Any]]) -> list[str]:
    """Without `response.`, and each only once in a row."""
    made: list[str] = []
    for one in streamed:
        kind = one["type"].removeprefix("response.")
        if not made or made[-1] != kind:
            made.append(kind)
    return made


def test_a_whole_response(client: httpx.Client) -> None:
    asked = [
        {"role": "developer", "content": "-"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASKED}]},
    ]
    assert ask(client, input=asked).status_code == 200
    done = ask(client, previous_response_id="resp_1", metadata={"a": "b"}).json()
    assert done["id"].startswith("resp_")
    assert (done["object"], done["status"], done["error"], done["incomplete_details"]) == (
        "response", "completed", None, None,
    )  # fmt: skip
    # nothing is stored, and that is not an error to Ollama
    assert done["previous_response_id"] is None
    assert (done["metadata"], done["temperature"], done["store"]) == ({"a": "b"}, 0, False)
    (item,) = done["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"] == [{"type": "output_text", "text": "Your name is Anna.", "annotations": [], "logprobs": []}]
    again = ask(client).json()["usage"]
    assert (again["input_tokens"], again["output_tokens"], again["total_tokens"]) == (21, 8, 29)
    assert again["input_tokens_details"] == {"cached_tokens": 20}


def test_the_order_of_a_stream(client: httpx.Client) -> None:
    streamed = events(client)
    assert kinds(streamed) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert streamed[0]["response"]["status"] == "in_progress"
    assert streamed[0]["response"]["output"] == []
    deltas = [one["delta"] for one in streamed if one["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "Your name is Anna."
    last = streamed[-1]["response"]
    assert last["output"] == [streamed[-2]["item"]]
    assert last["output"][0]["content"][0]["text"] == "Your name is Anna."
    assert {one["item_id"] for one in streamed if "item_id" in one} == {last["output"][0]["id"]}
    assert last["usage"]["output_tokens"] == 8


def test_an_answer_that_was_cut(client: httpx.Client) -> None:
    done = ask(client, max_output_tokens=2).json()
    assert (done["status"], done["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert done["max_output_tokens"] == done["usage"]["output_tokens"] == 2
    assert events(client, max_output_tokens=2)[-1]["type"] == "response.incomplete"


def test_a_forced_call(client: httpx.Client) -> None:
    done = ask(client, tools=TOOLS, tool_choice="required").json()
    called = done["output"][0]
    assert (called["type"], called["name"], called["status"]) == ("function_call", "get_weather", "completed")
    assert json.loads(called["arguments"])["city"] in ("Rome", "Paris")
    assert called["call_id"].startswith("call_")
    choice = {"type": "function", "name": "get_weather"}
    streamed = events(client, tools=TOOLS, tool_choice=choice)
    assert kinds(streamed)[2:6] == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
    ]  # fmt: skip
    assert streamed[2]["item"]["arguments"] == ""
    assert streamed[3]["delta"] == streamed[4]["arguments"] == streamed[5]["item"]["arguments"]
    assert streamed[-1]["response"]["output"][0] == streamed[5]["item"]
    assert ask(client, tools=TOOLS, tool_choice={"type": "web_search"}).status_code == 200


def test_an_answer_held_to_a_schema(client: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"cat": {"type": "boolean"}}, "required": ["cat"]}
    done = ask(client, text={"format": {"type": "json_schema", "name": "x", "schema": schema}}).json()
    assert isinstance(json.loads(done["output"][0]["content"][0]["text"])["cat"], bool)
    assert done["text"]["format"]["name"] == "x"
    with pytest.raises(WireError, match="must be text, json_object"):
        response_grammar({"text": {"format": {"type": "x"}}})


def test_items_become_messages() -> None:
    items = [
        {"role": "user", "content": "one"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "wait"}]},
        {"type": "function_call", "call_id": "call_1", "name": "get_time", "arguments": '{"at": "noon"}'},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "diff"},
        {"type": "function_call_output", "call_id": "call_1", "output": "noon"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "ok"}]},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "reasoning", "summary": [], "encrypted_content": "so"},
        {"type": "function_call", "call_id": "call_3", "name": "get_time", "arguments": ""},
    ]
    made = response_messages({"instructions": "Be brief.", "input": items})
    assert [(one["role"], one["content"]) for one in made] == [
        ("system", "Be brief."), ("user", "one"), ("assistant", "wait"), ("tool", "noon"), ("tool", "ok"),
        ("assistant", ""),
    ]  # fmt: skip
    assert [one.get("thinking") for one in made] == [None, None, "hm", None, None, "so"]
    assert [call["function"] for call in made[2]["tool_calls"]] == [
        {"name": "get_time", "arguments": {"at": "noon"}}, {"name": "patch", "arguments": {"input": "diff"}},
    ]  # fmt: skip
    assert [one["tool_call_id"] for one in made[3:5]] == ["call_1", "call_2"]
    assert made[5]["tool_calls"][0]["id"] == "call_3"


def test_only_functions_are_given_to_the_model() -> None:
    (one,) = response_tools({"tools": TOOLS})
    assert one == {"type": "function", "function": {"name": "get_weather", "parameters": TOOLS[0]["parameters"]}}


@pytest.mark.parametrize(
    ("more", "status", "told"),
    [
        ({"model": "nope"}, 404, "'nope' not found"),
        ({"input": None}, 400, "input is required"),
        ({"input": 3}, 400, "input"),
        ({"input": [{"content": "x"}]}, 400, "missing required 'type'"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, 400, "not stored here"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, 400, "does not support images"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, 400, "file inputs"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, 400, "unknown content type"),
        ({"reasoning": {"effort": "x"}}, 400, "think"),
        ({"max_output_tokens": "x"}, 400, "max_output_tokens"),
    ],
)
def test_errors_have_openais_shape(client: httpx.Client, more: dict[str, Any], status: int, told: str) -> None:
    response = ask(client, **more)
    assert response.status_code == status
    assert told in response.json()["error"]["message"]


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A model that thinks, then answers; its template begins the thought."""
    template = CHATML + "{% if enable_thinking %}<think>\n{% endif %}"
    made = make_model(tmp_path / "thinker.gguf", chat_template=template)

    def context(path: Path, *, n_ctx: int, **_: Any) -> Scripted:
        return Scripted(path, "a cat</think>Yes.", n_ctx=n_ctx)

    monkeypatch.setattr(model_pool, "GenerationContext", context)
    with running(tmp_path / "store", made) as (_, client):
        yield client


def test_a_thought_is_an_item_of_its_own(scripted: httpx.Client) -> None:
    streamed = events(scripted, model="thinker", reasoning={"effort": "low"}, max_output_tokens=17)
    assert kinds(streamed) == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done", "incomplete",
    ]  # fmt: skip
    thought, said = streamed[-1]["response"]["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "a cat"}]
    assert said["content"][0]["text"] == "Yes."
    assert response_messages({"input": [thought, said]})[0]["thinking"] == "a cat"
    assert {one["output_index"] for one in streamed if one.get("item_id") == said["id"]} == {1}


def test_an_error_in_a_stream(scripted: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Scripted, token: int) -> None:
        raise ModelError("llama.cpp could not evaluate 1 tokens")

    body = {"model": "thinker", "input": "x", "stream": True}
    with scripted.stream("POST", "/v1/responses", json=body) as response:
        lines = response.iter_lines()
        while "delta" not in next(lines):
            pass
        monkeypatch.setattr(Scripted, "push", fails)
        rest = [line for line in lines if line]
    assert rest[-2] == "event: response.failed"
    told = json.loads(rest[-1].removeprefix("data: "))["response"]
    assert (told["status"], told["error"]["code"]) == ("failed", "server_error")


def test_openais_own_client(client: httpx.Client) -> None:
    with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0) as theirs:
        done = theirs.responses.create(model="recall-tiny", input=ASKED, temperature=0)
        assert done.output_text == "Your name is Anna."
        with theirs.responses.stream(model="recall-tiny", input=ASKED, temperature=0) as stream:
            for _ in stream:
                pass
            assert stream.get_final_response().output_text == "Your name is Anna."
        said: Any = [{"role": "user", "content": ASKED}, *done.output, {"role": "user", "content": "Thank you"}]
        assert theirs.responses.create(model="recall-tiny", input=said, temperature=0).status == "completed"
        called = theirs.responses.create(model="recall-tiny", input=ASKED, tools=TOOLS, tool_choice="required")  # type: ignore[arg-type]
        assert called.output[0].type == "function_call"
        with pytest.raises(openai.NotFoundError):
            theirs.responses.create(model="nope", input=ASKED)
