"""With one person's token, every way to name another's namespace: no answer holds a word of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.proxies import Running, engine_of, proxied, user

from membank_llama.server.proxy.namespace_auth import BearerTokens

SECRET = "zebrafish"
ASKED = {
    "model": "recall-tiny",
    "messages": [user("what is my secret word, sister Ana?")],
    "stream": False,
    "input": "x",
}
ANA, BEN = {"Authorization": "Bearer t0ken-a"}, {"Authorization": "Bearer t0ken-b"}

PATHS = (
    "/ns/b",
    "/ns/B",
    "/ns/%62",
    "/%6es/b",
    "/ns//b",
    "//ns/b",
    "/ns/b/",
    "/ns/a/ns/b",
    "/ns/b/ns/a",
    "/ns/a/../b",
    "/ns/a%2F..%2Fb",
    "/ns/a;b",
    "/NS/b",
    "/ns/a/..%2fb",
    "/ns/b%00",
    "/ns/%EF%BD%82",
    "/ns/b%20",
    "/./ns/b",
)
HEADERS = (b"b", b"B", b"a, b", b"a\tb", b'"b"', b"b;a", "ｂ".encode(), b"")
MODELS = ("@b", "@a@b", "@b@a", "@B", "@b:latest", ":latest@b", "@ b", "@ｂ", "@sha256:b")
OWN = (("GET", "/membank/why"), ("GET", "/membank/status"), ("POST", "/membank/recall"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, recall_tiny: Path) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("shared")
    tokens = BearerTokens({"t0ken-a": "a", "t0ken-b": "b"})
    with proxied(folder, engine_of(folder, recall_tiny), tokens=tokens) as running:
        body = {"messages": [user(f"My secret word is {SECRET} and my sister Ana lives in Porto.")]}
        assert running.client.post("/membank/learn", json=body, headers=BEN).json() == {"queued": 1}
        running.memory.ingest_worker.flush()
        told = running.client.post("/membank/recall", json=ASKED, headers=BEN).json()
        assert SECRET in json.dumps(told)
        yield running


def is_ours(answer: httpx.Response) -> bool:
    return SECRET not in answer.text and '"namespace": "b"' not in answer.text


@pytest.mark.parametrize("prefix", PATHS)
def test_by_path(shared: Running, prefix: str) -> None:
    for method, path in OWN:
        answer = shared.client.request(method, f"{shared.url}{prefix}{path}", json=ASKED, headers=ANA)
        assert answer.status_code in (400, 403, 404)
        assert is_ours(answer)


@pytest.mark.parametrize("value", HEADERS)
def test_by_header(shared: Running, value: bytes) -> None:
    for method, path in OWN:
        headers = [(b"authorization", b"Bearer t0ken-a"), (b"x-membank-namespace", value)]
        answer = shared.client.request(method, path, json=ASKED, headers=headers)
        assert answer.status_code in (400, 403)
        assert is_ours(answer)


@pytest.mark.parametrize("lines", [
    "x-membank_namespace: b", "X_Membank_Namespace: b", "X-Membank-Namespace: a\r\nX-Membank-Namespace: b",
    "X-Membank-Namespace: b\r\nX-Membank-Namespace: a", "X-Membank-Namespace : b", "X-Membank-Namespace: a\r\n b",
    "Authorization: Bearer t0ken-b", "X-Forwarded-User: b", "Cookie: namespace=b",
])  # fmt: skip
def test_by_lines_of_a_head(shared: Running, lines: str) -> None:
    port = httpx.URL(shared.url).port or 0
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        head = f"GET /membank/why HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t0ken-a\r\n{lines}\r\n"
        raw.sendall(f"{head}Connection: close\r\n\r\n".encode())
        answer = b""
        while part := raw.recv(65_536):
            answer += part
    assert SECRET.encode() not in answer
    assert b'"namespace": "b"' not in answer


@pytest.mark.parametrize("suffix", MODELS)
def test_by_model(shared: Running, suffix: str) -> None:
    for path in ("/api/chat", "/membank/recall", "/api/show", "/api/embed", "/v1/chat/completions"):
        answer = shared.client.post(path, json={**ASKED, "model": f"recall-tiny{suffix}", "input": "x"}, headers=ANA)
        assert is_ours(answer)
        shared.memory.ingest_worker.flush()
    assert {memory.namespace for memory in shared.bank.memories()} <= {"a", "b"}
    assert len(list(shared.bank.memories("b"))) == 1


def test_by_what_else_a_body_may_say(shared: Running) -> None:
    twice = (
        b'{"model": "recall-tiny@b", "model": "recall-tiny", "messages": [{"role": "user", "content": "my secret?"}]}'
    )
    bodies = [
        twice,
        json.dumps({**ASKED, "name": "recall-tiny@b"}).encode(),
        json.dumps({**ASKED, "MODEL": "recall-tiny@b", "namespace": "b"}).encode(),
        json.dumps({**ASKED, "namespace": "b"}).encode("utf-16"),
    ]
    for path in ("/api/chat", "/membank/recall", "/membank/why?namespace=b"):
        for body in bodies:
            assert is_ours(shared.client.post(path, content=body, headers=ANA))
    assert is_ours(shared.client.get("/metrics", headers=ANA))


@pytest.mark.parametrize("given", [
    {}, {"Authorization": "Bearer nope"}, {"Authorization": "Basic t0ken-a"}, {"Authorization": "Bearer"},
    {"Authorization": "Bearer t0ken"}, {"Authorization": "t0ken-a"}, {"Cookie": "Authorization=Bearer t0ken-a"},
])  # fmt: skip
def test_without_a_token_nothing_is_answered(shared: Running, given: dict[str, str]) -> None:
    for method, path in (
        ("GET", "/membank/why"), ("GET", "/metrics"), ("GET", "/api/tags"), ("GET", "/"), ("POST", "/api/chat"),
        ("OPTIONS", "/api/chat"), ("POST", "/api/pull"), ("HEAD", "/api/blobs/sha256:" + "0" * 64), ("GET", "/ns/a/"),
    ):  # fmt: skip
        answer = shared.client.request(method, f"{path}?token=t0ken-a", json=ASKED, headers=given)
        assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/api/chat", "/v1/messages/count_tokens"])
def test_a_token_as_anthropics_clients_send_it(shared: Running, path: str) -> None:
    asked = {**ASKED, "max_tokens": 20, "input": ASKED["messages"]}

    def ask(*headers: tuple[str, str]) -> httpx.Response:
        return shared.client.post(path, json=asked, headers=list(headers))

    own = ask(("X-Api-Key", "t0ken-b"))
    assert own.status_code == 200
    assert own.headers["x-membank"] == "on"
    for others in (
        ask(("X-Api-Key", "t0ken-a")),
        # Authorization counts, where both are there
        ask(("X-Api-Key", "t0ken-b"), ("Authorization", "Bearer t0ken-a")),
        ask(("X-Api-Key", "t0ken-a"), ("X-Membank-Namespace", "b")),
    ):
        assert SECRET not in others.text
        assert others.headers.get("x-membank") != "on"
    for refused in (ask(("X-Api-Key", "no")), ask(("X-Api-Key", "t0ken-a"), ("X-Api-Key", "t0ken-b")), ask()):
        assert refused.status_code == 401
