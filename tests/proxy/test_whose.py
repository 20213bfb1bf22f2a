"""Namespaces: four ways to name one, and never one from another."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from proxying import Running, engine_of, proxied, user

from membank_llama.errors import InvalidInputError
from membank_llama.proxy.whose import Tokens, split_model, split_path
from membank_llama.wire import WireError

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
    tokens = Tokens.read(tmp_path / "tokens")
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
        assert set(running.bank.stats()["namespaces"]) == {"ana", "ben"}


@pytest.mark.parametrize("text", ["", "# none\n", "one\n", "a b c\n", "-x token\n", "a same\nb same\n"])
def test_token_files_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError):
        Tokens.read(path)
    with pytest.raises(InvalidInputError):
        Tokens.read(tmp_path / "missing")


def test_splitting() -> None:
    assert split_path("/ns/work/api/chat") == ("work", "/api/chat")
    assert split_path("/ns/work") == ("work", "/")
    assert split_path("/api/chat") == (None, "/api/chat")
    assert split_model("llama3.2@work") == ("work", "llama3.2")
    assert split_model("llama3.2@sha256:00ff") == (None, "llama3.2@sha256:00ff")
    assert split_model(None) == (None, None)
    with pytest.raises(WireError):
        split_model("llama3.2@a b")


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
