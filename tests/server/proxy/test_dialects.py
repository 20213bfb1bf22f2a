"""Every API and every route of it: told, asked, and where the memory stands in what goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.asgi_server import serve
from support.proxies import Running, proxied
from support.stand_ins import ANSWERS, StandIn

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.memory.bank import MemBank
from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.proxy_memory import ProxyMemory
from membank_llama.server.proxy.upstream import Upstream

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
TOOL = {"name": "read_file", "description": "Reads a file.", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def behind() -> StandIn:
    return StandIn()


@pytest.fixture
def running(tmp_path: Path, behind: StandIn) -> Iterator[Running]:
    with proxied(tmp_path, behind) as made:
        yield made


def body_of(path: str, text: str, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", **more}
    if path.endswith("/responses"):
        return {**body, "input": text}
    if path.endswith(("/completions", "/completion", "/generate")) and "chat" not in path:
        return {**body, "prompt": text}
    return {**body, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}


def text_sent(body: dict[str, Any]) -> str:
    """What a request says, whatever it has it in."""
    for name in ("prompt", "input", "messages"):
        if name in body:
            return json.dumps(body[name], ensure_ascii=False)
    return ""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", sorted(ANSWERS))
def test_told_restarted_and_asked(tmp_path: Path, path: str, stream: bool) -> None:
    behind = StandIn("She does.")

    def ask(url: str, text: str) -> httpx.Response:
        return httpx.post(f"{url}{path}", json=body_of(path, text, stream=stream), timeout=60)

    with serve(behind) as upstream:
        for text in (FACT, QUESTION):
            with MemBank(MockAdapter(), tmp_path / "bank") as bank:
                memory = ProxyMemory(bank, deadline=30)
                with serve(Proxy(Upstream(upstream), memory)) as url:
                    response = ask(url, text)
                    memory.ingest_worker.flush()
                stored = [one.text for one in bank.memories()]
    assert response.headers["x-membank"] == "on"
    assert FACT in text_sent(behind.seen[-1])
    assert QUESTION in text_sent(behind.seen[-1])
    assert FACT in stored
    assert "She does." in stored


@pytest.mark.parametrize("path", ["//v1/messages", "/v1//responses", "//api/chat", "/v1//chat/completions"])
def test_a_slash_too_many(running: Running, behind: StandIn, path: str) -> None:
    running.client.post(f"{running.url}{path}", json=body_of(path.replace("//", "/"), FACT))
    assert FACT in running.texts()
    assert behind.paths == [path.replace("//", "/")]


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_an_address_as_people_write_it(tmp_path: Path, behind: StandIn, end: str) -> None:
    body = body_of("/v1/chat/completions", FACT)
    with (
        serve(behind) as upstream,
        MemBank(MockAdapter(), tmp_path / "bank") as bank,
        serve(Proxy(Upstream(f"{upstream}{end}"), ProxyMemory(bank, deadline=30))) as url,
    ):
        assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code == 200
    assert behind.paths == ["/v1/chat/completions"]


def test_a_request_without_a_model(running: Running, behind: StandIn) -> None:
    running.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": FACT}]})
    running.texts()
    running.client.post("/chat/completions", json={"messages": [{"role": "user", "content": QUESTION}]})
    assert FACT in text_sent(behind.seen[-1])


def test_infill_is_left_alone(running: Running, behind: StandIn) -> None:
    running.chat({"role": "user", "content": FACT})
    sent = {"input_prefix": f"# {QUESTION}\n", "input_suffix": "\n", "prompt": ""}
    ANSWERS["/infill"] = ANSWERS["/completion"]
    try:
        running.client.post("/infill", json=sent)
    finally:
        del ANSWERS["/infill"]
    assert behind.seen[-1] == sent


# -- Anthropic


def anthropic(running: Running, *messages: dict[str, Any], path: str = "/v1/messages", **more: Any) -> httpx.Response:
    body = {"model": "m", "max_tokens": 500, "messages": list(messages), **more}
    response = running.client.post(path, json=body)
    running.memory.ingest_worker.flush()
    return response


def parts(*made: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(made)}


def text_part(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


CACHED = {"cache_control": {"type": "ephemeral"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Nothing."}
USE = {"type": "tool_use", "id": "toolu_1", "name": "read_file", "input": {"path": "a"}}


def test_what_is_cached_is_never_touched(running: Running, behind: StandIn) -> None:
    system = [text_part("You are careful. " * 300, **CACHED)]
    reminder = text_part("<system-reminder>\nToday is Friday.\n</system-reminder>", **CACHED)
    anthropic(running, parts(text_part(FACT)), system=system)
    anthropic(running, parts(reminder, text_part(QUESTION, **CACHED)), system=system, tools=[TOOL])
    sent = behind.seen[-1]
    assert sent["system"] == system
    content = sent["messages"][-1]["content"]
    assert content[0] == reminder
    assert content[1]["text"].startswith(BLOCK_OPEN)
    assert set(content[1]) == {"type", "text"}
    assert content[2] == text_part(QUESTION, **CACHED)
    assert not any("Friday" in text for text in running.texts())


def test_the_memory_stands_behind_the_results_of_tools(running: Running, behind: StandIn) -> None:
    anthropic(running, parts(text_part(FACT)))
    history = [parts(text_part("Look around.")), {"role": "assistant", "content": [USE]}]
    anthropic(running, *history, parts(RESULT, text_part(QUESTION)), tools=[TOOL])
    kinds = [part["type"] for part in behind.seen[-1]["messages"][-1]["content"]]
    assert kinds == ["tool_result", "text", "text"]
    assert FACT in behind.seen[-1]["messages"][-1]["content"][1]["text"]


def test_tokens_are_counted_with_the_memory(running: Running, behind: StandIn) -> None:
    anthropic(running, parts(text_part(FACT)))
    before = running.texts()
    counted = anthropic(running, parts(text_part(QUESTION)), path="/v1/messages/count_tokens").json()["input_tokens"]
    bare = len(json.dumps({"model": "m", "max_tokens": 500, "messages": [parts(text_part(QUESTION))]}))
    assert FACT in text_sent(behind.seen[-1])
    assert counted > bare
    assert running.texts() == before


# -- while tools run


def openai_loop(question: str, rounds: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Work."}, {"role": "user", "content": question}]
    for n in range(rounds):
        call = {"id": f"c{n}", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "a"}'}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{n}", "content": f"Ana lives in file {n}. " * 40})
    return messages


def anthropic_loop(question: str, rounds: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [parts(text_part(question, **CACHED))]
    for n in range(rounds):
        messages.append({"role": "assistant", "content": [text_part("I look."), {**USE, "id": f"t{n}"}]})
        told = text_part("<system-reminder>\nGo on.\n</system-reminder>")
        result = {**RESULT, "tool_use_id": f"t{n}", "content": [text_part(f"Ana lives in file {n}. " * 40)]}
        messages.append(parts(result, told))
    return messages


def responses_loop(question: str, rounds: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context>\n"
         "<cwd>/home</cwd>\n</environment_context>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": question}]},
    ]  # fmt: skip
    for n in range(rounds):
        items.append({"type": "reasoning", "summary": []})
        items.append({"type": "function_call", "call_id": f"c{n}", "name": "read_file", "arguments": "{}"})
        items.append({"type": "function_call_output", "call_id": f"c{n}", "output": f"Ana lives in file {n}. " * 40})
    return items


def cline_loop(question: str, rounds: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": f"<task>\n{question}\n</task>"}]
    for n in range(rounds):
        messages.append({"role": "assistant", "content": "<read_file>\n<path>a</path>\n</read_file>"})
        messages.append({"role": "user", "content": f"[read_file for 'a'] Result:\nAna lives in file {n}."})
    return messages


LOOPS = {
    "/v1/chat/completions": (openai_loop, "messages", 1),
    "/v1/messages": (anthropic_loop, "messages", 0),
    "/v1/responses": (responses_loop, "input", 1),
    "/chat/completions": (cline_loop, "messages", 0),
}


@pytest.mark.parametrize("path", sorted(LOOPS))
def test_while_tools_run_the_prompt_grows_at_its_end_alone(running: Running, behind: StandIn, path: str) -> None:
    made, name, place = LOOPS[path]
    running.client.post(path, json=body_of(path, FACT))
    running.texts()
    earlier: list[Any] = []
    for rounds in range(21):
        if rounds == 5:
            # what is told meanwhile by somebody else changes nothing in a turn that runs
            running.client.post(path, json=body_of(path, "My sister Ana lives in Lisbon now."))
            running.texts()
        body = {"model": "m", name: made(QUESTION, rounds), "tools": [TOOL], "max_tokens": 500}
        behind.said = [None]
        response = running.client.post(path, json=body)
        assert response.headers["x-membank"] == "on"
        sent = behind.seen[-1][name]
        assert FACT in json.dumps(sent[place])
        assert sent[: len(earlier)] == earlier
        earlier = sent
    stored = running.texts()
    assert not any("file" in text or "Go on" in text or "cwd" in text or "I look" in text for text in stored)
    assert stored.count(QUESTION) == 1


def test_a_turn_goes_on_though_it_fills_the_context(running: Running, behind: StandIn) -> None:
    running.memory.context_of = lambda model: 2048
    running.client.post("/v1/messages", json=body_of("/v1/messages", FACT))
    running.texts()
    for rounds in (0, 2, 4):
        body = {"model": "m", "messages": anthropic_loop(QUESTION, rounds), "tools": [TOOL], "max_tokens": 500}
        running.client.post("/v1/messages", json=body)
        assert FACT in json.dumps(behind.seen[-1]["messages"][0])


def test_a_wish_for_a_long_reply_is_no_reason_to_forget(running: Running, behind: StandIn) -> None:
    running.client.post("/v1/chat/completions", json=body_of("/v1/chat/completions", FACT))
    running.texts()
    asked = {**body_of("/v1/chat/completions", QUESTION), "max_tokens": 32_000}
    assert running.client.post("/v1/chat/completions", json=asked).headers["x-membank"] == "on"
    assert BLOCK_CLOSE in text_sent(behind.seen[-1])


def test_many_tools_leave_room_where_the_context_is_not_known(running: Running, behind: StandIn) -> None:
    running.client.post("/api/chat", json=body_of("/api/chat", FACT))
    running.texts()
    described = {**TOOL, "description": "Reads a file, or a part of it. " * 25}
    tools = [{"type": "function", "function": {**described, "name": f"tool{n}"}} for n in range(36)]
    asked = {**body_of("/api/chat", QUESTION), "tools": tools}
    assert running.client.post("/api/chat", json=asked).headers["x-membank"] == "on"
    assert behind.seen[-1]["tools"] == tools


def test_null_content_beside_calls(running: Running, behind: StandIn) -> None:
    running.chat({"role": "user", "content": FACT})
    history = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "read_file", "arguments": {}}}]},
        {"role": "tool", "content": "Nothing."},
    ]
    assert running.chat(*history).headers["x-membank"] == "on"
    assert FACT in behind.seen[-1]["messages"][0]["content"]
