"""The Open WebUI filter against a server that speaks both endpoints: what it sends, what it changes, how it fails."""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import json
import logging
import re
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

FILTER = Path(__file__).resolve().parent.parent.parent / "hooks" / "open_webui" / "membank_filter.py"
SOURCE = FILTER.read_text(encoding="utf-8")
BLOCK = "<memory>\nNotes from earlier conversations.\n- 2026-01-02, user: My sister Ana lives in Porto.\n</memory>\n"
USER = {"id": "b7f5c7de-3f6e-4d2b-9a39-0d7f6c2f7a10", "email": "ana@example.org", "name": "Ana", "role": "user"}
ASKED = "Where does my sister live?"


class Handler(BaseHTTPRequestHandler):
    server: Membank

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.server.goes_on.wait(60)
        answer = self.server.answer
        if answer is None and self.path == "/membank/recall":
            messages = copy.deepcopy(body["messages"])
            newest = max(i for i, message in enumerate(messages) if message["role"] == "user")
            messages[newest]["content"] = BLOCK + messages[newest]["content"]
            answer = {"messages": messages, "memories": 1, "conversation": "c1", "state": "on"}
        elif answer is None:
            answer = {"queued": len(body["messages"])}
        whole = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole)
        except OSError:
            self.close_connection = True  # who asked has given up

    def log_message(self, *_: object) -> None:
        pass


class Membank(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status, self.answer = 200, None
        self.goes_on = threading.Event()
        self.goes_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Membank]:
    with Membank() as membank:
        thread = threading.Thread(target=membank.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield membank
        membank.shutdown()
        thread.join()


@pytest.fixture
def plugin() -> Iterator[ModuleType]:
    """As Open WebUI loads it: under a name of its own, found in sys.modules."""
    spec = importlib.util.spec_from_file_location("function_membank", FILTER)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def hook(plugin: ModuleType, server: Membank) -> Any:
    return made(plugin, url=server.url)


def made(plugin: ModuleType, **valves: Any) -> Any:
    hook = plugin.Filter()
    hook.valves = plugin.Filter.Valves(**valves)
    return hook


def question(text: Any = ASKED) -> dict[str, Any]:
    return {
        "model": "llama3.2",
        "stream": True,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello", "id": "m1"},
            {"role": "assistant", "content": "Hi.", "tool_calls": []},
            {"role": "user", "content": text, "files": [{"id": "f1"}]},
        ],
    }


def conversation(answer: dict[str, Any], chat: str = "9f0c") -> dict[str, Any]:
    return {"chat_id": chat, "model": "llama3.2", "messages": [{"id": "m1", "role": "user", "content": ASKED}, answer]}


def inlet(hook: Any, body: dict[str, Any], user: dict[str, Any] | None = USER, **more: Any) -> dict[str, Any]:
    return asyncio.run(hook.inlet(body, __user__=user, **more))


def outlet(hook: Any, body: dict[str, Any], user: dict[str, Any] | None = USER, **more: Any) -> dict[str, Any]:
    return asyncio.run(hook.outlet(body, __user__=user, **more))


def test_front_matter_is_what_open_webui_reads() -> None:
    lines = SOURCE.splitlines()
    assert lines[0] == '"""'
    front = dict(re.findall(r"^([a-z_]+): (.+)$", SOURCE.split('"""')[1], re.MULTILINE))
    assert {"title", "author", "version", "license", "required_open_webui_version", "description"} == set(front)
    assert all(": " not in value for value in front.values()), "it may be read as YAML"
    # Open WebUI rewrites these wherever they stand
    assert not re.search(r"from (utils|apps|main|config)", SOURCE)


def test_the_model_is_reminded_and_nothing_else_changes(hook: Any, server: Membank) -> None:
    before = question()
    messages = before["messages"]
    after = inlet(hook, before)
    assert after["messages"][-1] == {**question()["messages"][-1], "content": BLOCK + ASKED}
    assert after["messages"][:-1] == question()["messages"][:-1]
    assert {**after, "messages": 0} == {**question(), "messages": 0}
    # the messages that Open WebUI holds are not the ones that were changed
    assert messages == question()["messages"]
    path, headers, sent = server.requests[0]
    assert path == "/membank/recall" and headers["X-Membank-Namespace"] == USER["id"]
    plain = [{"role": m["role"], "content": m["content"]} for m in question()["messages"]]
    assert sent == {"messages": plain}


def test_pictures_stay_at_home(hook: Any, server: Membank) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    after = inlet(hook, question([{"type": "text", "text": ASKED}, picture]))
    assert after["messages"][-1]["content"] == [{"type": "text", "text": BLOCK + ASKED}, picture]
    assert "base64" not in json.dumps(server.requests[0][2])


def test_the_conversation_is_learned_and_given_back_untouched(hook: Any, server: Membank) -> None:
    thoughts = '<details type="reasoning" done="true"><summary>Thought</summary>\n> Ana …\n</details>\n'
    body = conversation({"id": "m2", "role": "assistant", "content": thoughts + "In Porto.", "usage": {"total": 9}})
    before = copy.deepcopy(body)
    assert outlet(hook, body) is body and body == before
    path, headers, sent = server.requests[0]
    assert path == "/membank/learn" and headers["X-Membank-Namespace"] == USER["id"]
    assert sent["messages"] == [{"role": "user", "content": ASKED}, {"role": "assistant", "content": "In Porto."}]


def test_an_answer_in_output_items_is_learned(hook: Any, server: Membank) -> None:
    spoken = {"type": "message", "content": [{"type": "output_text", "text": "In Porto."}]}
    thought = {"type": "reasoning", "content": [{"type": "output_text", "text": "Hm."}]}
    outlet(hook, conversation({"role": "assistant", "content": "", "output": [thought, spoken]}))
    assert server.requests[0][2]["messages"][-1]["content"] == "In Porto."


def test_an_answer_that_never_came_is_not_learned(hook: Any, server: Membank) -> None:
    outlet(hook, conversation({"role": "assistant", "content": ""}))
    assert not server.requests


def test_temporary_chats_are_forgotten(plugin: ModuleType, hook: Any, server: Membank) -> None:
    answer = {"role": "assistant", "content": "In Porto."}
    for chat in ("temporary:1", "local:1"):
        outlet(hook, conversation(answer, chat))
        outlet(hook, conversation(answer, ""), __metadata__={"chat_id": chat})
    assert not server.requests
    outlet(made(plugin, url=server.url, learn_temporary_chats=True), conversation(answer, "local:1"))
    assert len(server.requests) == 1


def test_whose_memory(plugin: ModuleType, server: Membank) -> None:
    def header(name: str, user: dict[str, Any] | None, **valves: Any) -> str | None:
        inlet(made(plugin, url=server.url, **valves), question(), user)
        return server.requests[-1][1].get(name)

    name = "X-Membank-Namespace"
    dotted, dashed = header(name, {"email": "a+b@c.d"}), header(name, {"email": "a-b@c.d"})
    assert dotted and dashed and dotted != dashed and re.fullmatch(r"[A-Za-z0-9._-]+", dotted)
    for who in ("x" * 500, "x" * 501, "_under@score", "+", "Ана"):
        found = header(name, {"id": who})
        assert found and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", found)
    assert header(name, {"id": "x" * 500}) != header(name, {"id": "x" * 501})
    assert header(name, USER, namespace_per_user=False, namespace="work") == "work"
    assert header(name, None, namespace_per_user=False) == "default"
    assert header(name, USER, token="s3cret") is None
    assert header("Authorization", USER, token="s3cret") == "Bearer s3cret"


def test_a_user_without_a_name_shares_nobodys_memory(hook: Any, server: Membank) -> None:
    assert inlet(hook, question(), {"name": "?"}) == question()
    assert inlet(hook, question(), None) == question()
    assert not server.requests


def test_a_user_can_switch_it_off(plugin: ModuleType, hook: Any, server: Membank) -> None:
    for valves in (plugin.Filter.UserValves(enabled=False), {"enabled": False}):
        user = {**USER, "valves": valves}
        assert inlet(hook, question(), user) == question()
        outlet(hook, conversation({"role": "assistant", "content": "In Porto."}), user)
    assert not server.requests
    inlet(hook, question(), {**USER, "valves": plugin.Filter.UserValves()})
    assert len(server.requests) == 1


@pytest.mark.parametrize("how", [{"__task__": "title_generation"}, {"__metadata__": {"task": "tags_generation"}}, {}])
def test_titles_and_tags_are_left_alone(hook: Any, server: Membank, how: dict[str, Any]) -> None:
    more = how or {"body": {"metadata": {"task": "query_generation"}}}
    body = {**question(), **more.pop("body", {})}
    assert inlet(hook, copy.deepcopy(body), **more) == body
    outlet(hook, {**conversation({"role": "assistant", "content": "A title"}), **body}, **more)
    assert not server.requests


def test_room_for_memories_is_passed_on(plugin: ModuleType, server: Membank) -> None:
    inlet(made(plugin, url=server.url + "/", max_tokens=200), question())
    assert server.requests[0][0] == "/membank/recall" and server.requests[0][2]["max_tokens"] == 200


BROKEN = [
    b"no JSON",
    {},
    {"messages": []},
    {"messages": question()["messages"][:2]},
    {"messages": [{"role": "user"}] * 4},
]


@pytest.mark.parametrize("answer", BROKEN, ids=range(len(BROKEN)))
def test_an_answer_that_makes_no_sense_changes_nothing(
    hook: Any, server: Membank, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = answer
    assert inlet(hook, question()) == question()
    assert "without memory" in caplog.text


@pytest.mark.parametrize("status", [400, 401, 500, 503])
def test_an_error_changes_nothing(hook: Any, server: Membank, status: int, caplog: pytest.LogCaptureFixture) -> None:
    server.status, server.answer = status, {"error": "the bank is closed"}
    assert inlet(hook, question()) == question()
    answered = conversation({"role": "assistant", "content": "In Porto."})
    assert outlet(hook, copy.deepcopy(answered)) == answered
    assert [record.levelno for record in caplog.records if record.name == "membank_filter"] == [logging.WARNING] * 2
    assert caplog.text.count(f"HTTP {status}") == 2 and "the bank is closed" in caplog.text


def test_a_slow_server_is_not_waited_for(plugin: ModuleType, server: Membank, caplog: pytest.LogCaptureFixture) -> None:
    server.goes_on.clear()
    try:
        assert inlet(made(plugin, url=server.url, timeout=0.2), question()) == question()
    finally:
        server.goes_on.set()
    assert "without memory" in caplog.text


def test_a_server_that_is_away_is_not_missed(plugin: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        hook = made(plugin, url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert inlet(hook, question()) == question()
    assert "ConnectError" in caplog.text


def test_bodies_of_other_shapes_pass(hook: Any) -> None:
    for body in ({}, {"messages": None}, {"messages": [{"content": "no role"}]}):
        assert inlet(hook, dict(body)) == body
        assert outlet(hook, dict(body)) == body


def test_valves_refuse_nonsense(plugin: ModuleType) -> None:
    with pytest.raises(ValidationError):
        plugin.Filter.Valves(timeout=0)
