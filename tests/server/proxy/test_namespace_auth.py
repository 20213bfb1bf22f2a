"""Namespaces: four ways to name one, and never one from another."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.proxies import Running, engine_of, proxied, user

from membank_llama.core.errors import InvalidInputError
from membank_llama.server.asgi import WireError
from membank_llama.server.proxy.namespace_auth import BearerTokens, checked_name, located, named_by_header, split_model

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
ANSWER = "Your sister lives in Porto."


def test_header_path_and_model_lead_to_the_same(running: Running) -> None:
    running.say(FACT, headers={"X-Membank-Namespace": "work"})
    assert FACT in running.texts("work")
    assert running.say(QUESTION, path="/ns/work/api/chat") == ANSWER
    assert running.say(QUESTION, model="recall-tiny@work") == ANSWER
    assert running.say(QUESTION, headers={"X-Membank-Namespace": "work"}) == ANSWER
    assert running.say(QUESTION).startswith("I don't know.")
    assert running.say(QUESTION, path="/ns/home/api/chat").startswith("I don't know.")


def test_openai_behind_a_path(running: Running) -> None:
    body = {"model": "recall-tiny", "messages": [user(FACT)], "temperature": 0}
    assert running.client.post("/ns/work/v1/chat/completions", json=body).status_code == 200
    assert FACT in running.texts("work")


def test_other_paths_work_below_a_namespace(running: Running) -> None:
    assert running.client.get("/ns/work/").text == "Ollama is running"
    shown = running.client.post("/ns/work/api/chat", json={"model": "none", "messages": []})
    assert shown.status_code == 404
    why = running.client.get("/ns/work/membank/why").json()
    assert why["namespace"] == "work"


def test_why_shows_nothing_of_others(running: Running) -> None:
    running.say(FACT, path="/ns/work/api/chat")
    assert running.client.get("/membank/why").json()["recalls"] == []
    assert running.client.get("/ns/work/membank/why").json()["recalls"]


def test_two_that_disagree_are_refused(running: Running) -> None:
    response = running.chat(user(FACT), path="/ns/work/api/chat", headers={"X-Membank-Namespace": "home"})
    assert response.status_code == 400
    assert "several namespaces" in response.json()["error"]
    assert running.texts() == []


@pytest.mark.parametrize("name", ["%2e%2e", "a%2Fb", "-x", "x" * 65, "a b", "%00"])
def test_names_that_cannot_be(running: Running, name: str) -> None:
    assert running.client.get(f"/ns/{name}/membank/status").status_code in (400, 404)
    assert running.texts() == []


def test_tokens(tmp_path: Path, recall_tiny: Path) -> None:
    (tmp_path / "tokens").write_text("# who\nana s3cret\nben 0ther\n", encoding="utf-8")
    tokens = BearerTokens.read(tmp_path / "tokens")
    ana, ben = ({"Authorization": f"Bearer {token}"} for token in ("s3cret", "0ther"))
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny), tokens=tokens) as running:
        running.say(FACT, headers=ana)
        assert running.say(QUESTION, headers=ana) == ANSWER
        assert running.say(QUESTION, headers=ben).startswith("I don't know.")
        assert running.say(QUESTION, headers=ana, path="/ns/ana/api/chat") == ANSWER
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
            response = running.chat(user(QUESTION), headers=headers)
            assert response.status_code == 401
        assert running.chat(user(QUESTION), headers=ben, path="/ns/ana/api/chat").status_code == 403
        assert running.chat(user(QUESTION), headers={**ben, "X-Membank-Namespace": "ana"}).status_code == 403
        assert running.chat(user(QUESTION), headers=ben, model="recall-tiny@ana").status_code == 403
        openai = httpx.post(f"{running.url}/v1/chat/completions", json={}, timeout=10)
        assert openai.status_code == 401
        assert openai.json()["error"]["type"] == "authentication_error"
        twice = [*ana.items(), *ben.items()]
        assert httpx.get(f"{running.url}/membank/why", headers=twice, timeout=10).status_code == 401
        assert set(running.bank.stats()["namespaces"]) == {"ana", "ben"}


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/create", {"model": "mine", "from": "recall-tiny", "stream": False}),
    ("POST", "/api/copy", {"source": "recall-tiny", "destination": "copied"}),
    ("POST", "/api/pull", {"model": "none/none", "stream": False}),
    ("POST", "/api/push", {"model": "mine"}),
    ("DELETE", "/api/delete", {"model": "mine"}),
    ("POST", "/api/blobs/sha256:" + "0" * 64, {}),
    ("POST", "/api//create", {"model": "mine", "from": "recall-tiny", "stream": False}),
    ("POST", "/api/%63reate", {"model": "mine", "from": "recall-tiny", "stream": False}),
    ("POST", "/api/something-new", {}),
]


def test_only_an_administrator_changes_models(tmp_path: Path, recall_tiny: Path) -> None:
    (tmp_path / "tokens").write_text("ana s3cret admin\nben 0ther\n", encoding="utf-8")
    tokens = BearerTokens.read(tmp_path / "tokens")
    ana, ben = ({"Authorization": f"Bearer {token}"} for token in ("s3cret", "0ther"))
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny), tokens=tokens) as running:
        for method, path, body in CHANGES:
            refused = running.client.request(method, path, json=body, headers=ben)
            assert refused.status_code == 403, path
            assert "admin" in refused.json()["error"]
        assert not (tmp_path / "models").exists()
        made = running.client.request("POST", "/api/create", json=CHANGES[0][2], headers=ana)
        assert made.json()["status"] == "success"
        for path in ("/api/show", "/api/embed"):
            allowed = running.client.post(path, json={"model": "recall-tiny", "input": "x"}, headers=ben)
            assert allowed.status_code != 403
        assert running.say("Hello.", headers=ben, model="mine")


def test_a_tokens_file_without_administrators_changes_nothing(tmp_path: Path, recall_tiny: Path) -> None:
    tokens = BearerTokens({"s3cret": "ana"})
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny), tokens=tokens) as running:
        headers = {"Authorization": "Bearer s3cret"}
        assert running.client.request("DELETE", "/api/delete", json={"model": "x"}, headers=headers).status_code == 403


def test_a_browsers_preflight_needs_no_token(tmp_path: Path, recall_tiny: Path) -> None:
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny), tokens=BearerTokens({"s3cret": "ana"})) as running:
        page = {"Origin": "http://localhost:3000"}
        asked = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        for path in ("/api/chat", "/membank/recall", "/v1/chat/completions"):
            allowed = running.client.options(path, headers=asked)
            assert allowed.status_code == 200
            assert allowed.headers["access-control-allow-origin"] == page["Origin"]
            assert "authorization" in allowed.headers["access-control-allow-headers"]
        foreign = {**asked, "Origin": "https://evil.example"}
        assert running.client.options("/api/chat", headers=foreign).status_code == 403
        assert running.client.options("/api/tags", headers=page).status_code == 401
        unknown = running.client.get("/membank/why", headers=page)
        assert unknown.status_code == 401
        assert unknown.headers["access-control-allow-origin"] == page["Origin"]
        known = running.client.get("/membank/why", headers={**page, "Authorization": "Bearer s3cret"})
        assert known.headers["access-control-allow-origin"] == page["Origin"]


@pytest.mark.parametrize(
    "text", ["", "# none\n", "one\n", "a b c\n", "a b admin c\n", "admin\n", "-x token\n", "a same\nb same\n"]
)
def test_token_files_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError):
        BearerTokens.read(path)
    with pytest.raises(InvalidInputError):
        BearerTokens.read(tmp_path / "missing")


def at(path: str) -> dict[str, Any]:
    return {"path": path, "raw_path": path.encode()}


@pytest.mark.parametrize(
    ("raw", "name", "path"),
    [
        ("//api/chat", None, "/api/chat"),
        ("/ns/work//api/chat", "work", "/api/chat"),
        ("//ns//work///v1/models", "work", "/v1/models"),
        ("/ns/p%C3%AAche/api/chat", "p\u00eache", "/api/chat"),
        ("/ns/pe%CC%82che/api/chat", "p\u00eache", "/api/chat"),
        ("/ns/work/v1/models/a%2Fb", "work", "/v1/models/a/b"),
    ],
)
def test_one_path_however_it_is_written(raw: str, name: str | None, path: str) -> None:
    found, scope = located(at(raw))
    assert (found, scope["path"]) == (name, path)


@pytest.mark.parametrize(
    "raw", ["@evil.example/", "http://evil.example/api/chat", "*", "evil.example:443", "/ns%2Fwork/api/chat",
            "/%6es/work/api/chat", "/ns/a%2Fb/api/chat", "/ns/%EF%BD%81/", "/ns/%EF%AC%81sh/", "/ns/%FF/"]
)  # fmt: skip
def test_targets_that_are_refused(raw: str) -> None:
    with pytest.raises(WireError) as refused:
        located(at(raw))
    assert refused.value.status == 400


@given(raw=st.binary(max_size=60) | st.text(max_size=30).map(lambda text: quote(f"/ns/{text}").encode()))
@settings(max_examples=500, deadline=None)
def test_any_target_is_a_path_or_refused(raw: bytes) -> None:
    try:
        name, scope = located({"path": "/", "raw_path": raw or b"/"})
    except WireError as refused:
        assert refused.status == 400
        return
    assert scope["path"].startswith("/")
    assert not scope["raw_path"].startswith((b"//", b"/ns/" if name is None else b"//"))
    assert name is None or checked_name(name) == name


def test_such_a_target_is_told_and_goes_no_further(running: Running) -> None:
    port = httpx.URL(running.url).port or 0
    for target in ("@evil.example/", "http://evil.example/membank/why", "/ns%2Fb/api/chat"):
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            raw.sendall(f"GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
            assert b" 400 " in raw.recv(65_536).split(b"\r\n")[0]
    assert running.client.get(f"{running.url}//api/tags").json()["models"]
    assert running.say("Hello.", path=f"{running.url}//api/chat")


def test_names_in_a_header_are_utf_8() -> None:
    def named(*values: bytes) -> str | None:
        return named_by_header({"headers": [(b"x-membank-namespace", value) for value in values]})

    for sent in ("p\u00eache".encode(), "p\u00eache".encode("latin-1"), b"pe\xcc\x82che"):
        assert named(sent) == "p\u00eache"
    assert named() is None
    assert named(b"work", b"work") == "work"
    for several in ((b"work", b"home"), (b"work", b""), ("\uff41".encode(),)):
        with pytest.raises(WireError):
            named(*several)


def test_the_models_name_counts_for_hooks_too(running: Running) -> None:
    running.say(FACT, path="/ns/work/api/chat")
    body = {"model": "recall-tiny@work", "messages": [user(QUESTION)]}
    assert running.client.post("/membank/recall", json=body).json()["memories"] == 1
    assert running.client.post("/ns/home/membank/recall", json=body).status_code == 400
    assert running.client.post("/membank/recall", json={**body, "model": "recall-tiny"}).json()["memories"] == 0


def test_splitting() -> None:
    assert located(at("/ns/work/api/chat")) == ("work", at("/api/chat"))
    assert located(at("/ns/work")) == ("work", at("/"))
    assert located(at("/api/chat")) == (None, at("/api/chat"))
    assert split_model("llama3.2@work") == ("work", "llama3.2")
    assert split_model("llama3.2@sha256:00ff") == (None, "llama3.2@sha256:00ff")
    assert split_model(None) == (None, None)
    with pytest.raises(WireError):
        split_model("llama3.2@a b")


def test_a_page_from_elsewhere_changes_no_model(running: Running, tmp_path: Path) -> None:
    page = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    body = {"model": "recall-tiny", "input": "x"}
    changes = [*CHANGES, ("POST", "/api/show", body), ("POST", "/api/embed", body)]
    for url in (running.url, running.upstream):
        for method, path, body in changes:
            refused = httpx.request(method, url + path, content=json.dumps(body), headers=page, timeout=10)
            assert refused.status_code == 403, (url, path)
            assert "access-control-allow-origin" not in refused.headers
            assert httpx.request(method, url + path, json=body, headers={"Origin": "null"}).status_code == 403
    assert not (tmp_path / "models").exists()
    assert httpx.get(running.upstream + "/api/tags", headers={"Host": "evil.example"}).status_code == 403


def test_a_page_from_elsewhere_neither_reads_nor_writes(running: Running) -> None:
    page = {"Origin": "https://evil.example"}
    assert running.chat(user(FACT), headers=page).status_code == 403
    for path in ("/membank/why", "/membank/status"):
        assert running.client.get(path, headers=page).status_code == 403
    assert running.client.get("/membank/why", headers={"Host": "evil.example"}).status_code == 403
    assert running.texts() == []
    local = running.chat(user(FACT), headers={"Origin": "http://localhost:3000"})
    assert local.headers["access-control-allow-origin"] == "http://localhost:3000"
    preflight = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    assert running.client.options("/api/chat", headers=preflight).status_code == 200
