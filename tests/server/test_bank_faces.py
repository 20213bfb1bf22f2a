"""Who reaches the faces of a bank, for which namespace, and what becomes of what they raise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from support.asgi_server import serve
from support.proxies import engine_of

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import BankReadOnlyError, InvalidInputError, MemoryNotFoundError
from membank_llama.memory.bank import MemBank
from membank_llama.server import bank_app
from membank_llama.server.asgi import NAMESPACE, ClientGoneError, WireError
from membank_llama.server.bank_app import BankApp
from membank_llama.server.bank_faces import SIGN_IN, Face
from membank_llama.server.face_context import CALLER, MOST_AT_ONCE, MOUNT, FaceContext
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.namespace_auth import SIGN_IN_COOKIE, BearerTokens
from membank_llama.server.proxy.proxy_memory import ProxyMemory
from membank_llama.server.proxy.upstream import Upstream

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
ANA = {"Authorization": "Bearer s3cret"}
COOKIE = {"Cookie": f"theme=dark; {SIGN_IN_COOKIE}=s3cret"}
RAISED = {"missing": MemoryNotFoundError, "bad": InvalidInputError, "shut": BankReadOnlyError, "gone": ClientGoneError}


READ = threading.Event()


async def told(request: Request) -> JSONResponse:
    caller = request.scope[CALLER]
    said = {"path": request.url.path, "namespace": request.scope[NAMESPACE], "mount": request.scope[MOUNT]}
    return JSONResponse(said | {"opened": caller.opened, "admin": caller.is_admin})


async def raising(request: Request) -> JSONResponse:
    kind = request.path_params["kind"]
    raise WireError(418, "no") if kind == "wire" else RAISED[kind]("in /secret/place/bank it is so")


async def dripping(request: Request) -> StreamingResponse:
    async def lines() -> AsyncIterator[bytes]:
        yield b"one\n"
        # nothing more before the first line has been read
        yield b"two\n" if await asyncio.to_thread(READ.wait, 30) else b"nobody has read it\n"

    return StreamingResponse(lines())


def made_up(events: list[str]) -> dict[str, Any]:
    @contextlib.asynccontextmanager
    async def living() -> AsyncIterator[None]:
        events.append("entered")
        if len(events) == 1:
            raise RuntimeError("not yet")
        task = asyncio.current_task()
        yield
        events.append("left" if asyncio.current_task() is task else "left elsewhere")

    page = [Route("/", told), Route(SIGN_IN, told, methods=["GET", "POST"]), Route("/membank/raise/{kind}", raising)]
    rest = [Route("/membank/some", told), Route("/membank/some", told, methods=["DELETE"])]
    return {
        "rest_routes": lambda context, proxied: Face(rest),
        "page_routes": lambda context: Face(page, public=frozenset({SIGN_IN})),
        "mcp_routes": lambda context: Face(
            [Route("/mcp", told, methods=["POST"]), Route("/mcp/slow", dripping)], living
        ),
    }


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    noted: list[str] = []
    for name, face in made_up(noted).items():
        monkeypatch.setattr(bank_app, name, face)
    return noted


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with MemBank(MockAdapter(), tmp_path / "bank") as opened:
        yield opened


@contextlib.contextmanager
def alone(bank: MemBank, **tokens: str) -> Iterator[httpx.Client]:
    app = BankApp(FaceContext(bank), BearerTokens(tokens))
    with serve(app, lifespan="on") as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


@contextlib.contextmanager
def proxied_bank(folder: Path, bank: MemBank, **tokens: str) -> Iterator[httpx.Client]:
    with serve(engine_of(folder)) as behind:
        proxy = Proxy(Upstream(behind), ProxyMemory(bank), tokens=BearerTokens(tokens))
        with serve(proxy) as url, httpx.Client(base_url=url, timeout=20) as client:
            yield client


def test_browsers_get_the_page_and_everyone_else_what_is_behind(
    tmp_path: Path, bank: MemBank, events: list[str]
) -> None:
    with proxied_bank(tmp_path, bank) as client:
        assert client.get("/").text == client.get("/", headers={"Accept": "*/*"}).text == "Ollama is running"
        assert client.get("/", headers=HTML).json()["path"] == "/"
        assert client.head("/").status_code == client.head("/", headers=HTML).status_code == 200
        assert client.head("/", headers=HTML).headers["content-type"] == "application/json"
        assert client.get("/ns/work/", headers=HTML).json() == {
            "path": "/", "namespace": "work", "mount": "/ns/work", "opened": None, "admin": True,
        }  # fmt: skip
        assert "models" in client.get("/api/tags", headers=HTML).json()
        assert client.get("/membank/status").json()["namespace"] == "default"
        assert client.get("/membank/some").json()["namespace"] == "default"
        counted = client.get("/metrics").text
        assert 'path="/membank/",status="200"' in counted.replace(", ", ",") and "/membank/some" not in counted


def test_without_a_page_everyone_gets_what_is_behind(
    tmp_path: Path, bank: MemBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank_app, "page_routes", lambda context: Face([]))
    with proxied_bank(tmp_path, bank) as client:
        assert client.get("/", headers=HTML).text == "Ollama is running"


def test_what_is_not_there_is_said_in_json(tmp_path: Path, bank: MemBank, events: list[str]) -> None:
    for made in (alone(bank), proxied_bank(tmp_path, bank)):
        with made as client:
            missing = client.get("/membank/made-up")
            assert (missing.status_code, list(missing.json())) == (404, ["error"])
            refused = client.put("/membank/some")
            assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, HEAD")
            assert "error" in refused.json()


def test_errors_become_answers_that_name_no_place(bank: MemBank, events: list[str]) -> None:
    with alone(bank) as client:
        for kind, status in (("missing", 404), ("bad", 400), ("shut", 409)):
            answer = client.get(f"/membank/raise/{kind}")
            assert (answer.status_code, answer.json()) == (status, {"error": "in bank it is so"})
        assert client.get("/membank/raise/wire").status_code == 418


def test_a_token_opens_its_namespace_and_no_other(tmp_path: Path, bank: MemBank, events: list[str]) -> None:
    for made in (alone(bank, s3cret="ana"), proxied_bank(tmp_path, bank, s3cret="ana")):
        with made as client:
            assert client.get("/membank/some").status_code == client.post("/mcp").status_code == 401
            assert client.get("/membank/some", headers=ANA).json()["namespace"] == "ana"
            assert client.get("/ns/ben/membank/some", headers=ANA).status_code == 403
            assert client.get("/ns/ana/membank/some", headers=ANA).json()["mount"] == "/ns/ana"


def test_a_stranger_is_asked_to_sign_in(bank: MemBank, events: list[str]) -> None:
    nobody = {"namespace": "", "opened": "", "admin": False}
    with alone(bank, s3cret="ana") as client:
        for answer in (client.get("/", headers=HTML), client.get(SIGN_IN), client.post(SIGN_IN)):
            assert answer.json().items() >= {"path": SIGN_IN, **nobody}.items()
        assert client.get("/ns/ben/", headers=HTML).json()["mount"] == "/ns/ben"
        assert client.get("/", headers=HTML | ANA).json()["namespace"] == "ana"
        assert client.get("/", headers={**HTML, "Authorization": "Bearer wrong"}).json()["path"] == SIGN_IN


SAME, NONE, CROSS, NEAR = ({"Sec-Fetch-Site": site} for site in ("same-origin", "none", "cross-site", "same-site"))
MOVES = {"Sec-Fetch-Mode": "navigate"}


@pytest.mark.parametrize(
    ("method", "headers", "opens"),
    [
        ("GET", {}, True),
        ("GET", SAME, True),
        ("GET", NONE | MOVES, True),
        ("GET", NEAR | MOVES, True),
        ("GET", NEAR, False),
        ("DELETE", {}, False),
        ("DELETE", NONE, False),
        ("DELETE", NEAR, False),
        ("DELETE", NEAR | {"Origin": "http://HOST"}, False),
        ("DELETE", {"Origin": "http://localhost:1"}, False),
        ("DELETE", {"Origin": "http://HOST"}, True),
        ("DELETE", SAME | {"Origin": "http://HOST"}, True),
    ],
)
def test_a_cookie_counts_for_pages_of_this_server_alone(
    bank: MemBank, events: list[str], method: str, headers: dict[str, str], opens: bool
) -> None:
    with alone(bank, s3cret="ana") as client:
        host = client.base_url.netloc.decode()
        sent = {key: value.replace("HOST", host) for key, value in headers.items()}
        answer = client.request(method, "/membank/some", headers=COOKIE | sent)
        assert answer.status_code == (200 if opens else 401)
        beside = client.request(method, "/membank/some", headers={**COOKIE, **sent, "Authorization": "Bearer no"})
        assert beside.status_code == 401
        assert client.post("/mcp", headers=COOKIE | SAME).status_code == 401


def test_a_cookie_opens_no_chat(tmp_path: Path, bank: MemBank, events: list[str]) -> None:
    with proxied_bank(tmp_path, bank, s3cret="ana") as client:
        assert client.get("/membank/some", headers=COOKIE).status_code == 200
        for path in ("/api/chat", "/membank/recall", "/membank/learn"):
            assert client.post(path, headers=COOKIE | SAME, json={}).status_code == 401
        assert client.get("/api/tags", headers=COOKIE).status_code == 401


@pytest.mark.parametrize("path", ["/", "/membank/some", SIGN_IN])
def test_pages_from_elsewhere_get_nothing(bank: MemBank, events: list[str], path: str) -> None:
    with alone(bank) as client:
        assert client.get(path, headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.get(path, headers={"Origin": "null"}).status_code == 403
        assert client.get(path, headers=CROSS | {"Sec-Fetch-Mode": "no-cors"}).status_code == 403
        assert client.get(path, headers=CROSS | MOVES).status_code == 200
        assert client.get(path, headers={"Origin": "http://localhost:3000"} | NEAR).status_code == 200
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 403


def test_what_a_face_needs_is_entered_at_its_first_request_and_left_at_the_end(
    bank: MemBank, events: list[str]
) -> None:
    with alone(bank) as client:
        client.get("/membank/some")
        assert events == []
        assert client.post("/mcp").status_code == 500
        for _ in range(3):
            assert client.post("/mcp").status_code == 200
        assert events == ["entered", "entered"]
        with client.stream("GET", "/mcp/slow") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "one"
            READ.set()
            assert next(lines) == "two"
    assert events == ["entered", "entered", "left"]


def test_a_bank_is_asked_a_few_things_at_once(bank: MemBank) -> None:
    context, at_once, most = FaceContext(bank), 0, 0
    guard, full = threading.Lock(), threading.Barrier(MOST_AT_ONCE)

    def work(number: int) -> int:
        nonlocal at_once, most
        with guard:
            at_once += 1
            most = max(most, at_once)
        full.wait(30)
        with guard:
            at_once -= 1
        return number

    async def all_of_it() -> list[int]:
        return await asyncio.gather(*(context.in_thread(work, number) for number in range(3 * MOST_AT_ONCE)))

    assert asyncio.run(all_of_it()) == list(range(3 * MOST_AT_ONCE))
    assert most == MOST_AT_ONCE


def test_answers_are_json_where_a_request_is_none(bank: MemBank, events: list[str]) -> None:
    with alone(bank) as client:
        answer = client.get("/ns/a%2Fb/membank/some")
        assert answer.status_code == 400 and json.loads(answer.text)["error"]
