"""What cannot be meant is refused with a reason, and never ends in a server's error."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

MEMORIES = "/membank/memories"
DEEP = "[" * 100 + "]" * 100
DEEPER = "[" * 100_000 + "]" * 100_000


def refused(response: httpx.Response, status: int = 400) -> str:
    assert response.status_code == status, (response.status_code, response.text)
    assert list(response.json()) == ["error"]
    return str(response.json()["error"])


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=501", "limit=-1", "limit=1e3", "limit=1.0", "limit=", "limit=ten", "limit=%D9%A1", "limit= 5",
        "limit=" + "9" * 5000, "limit=99999999999999999999", "limit=5&limit=6", "limits=5", "=", "x", "pinned=1",
        "pinned=True", "pinned=", "since=nan", "since=inf", "since=1e400", "since=-1e400", "since=1700000000000",
        "since=yesterday", "since=", "since=0000-01-01", "since=0001-01-01T00:00:00%2B14:00",
        "until=9999-12-31T23:59:59-14:00",
        "since=2024-01-01T00:00:00%2B99:00", "cursor=x", "cursor=%00", "cursor=%C3%A9", "cursor=" + "A" * 65,
        "text=%00", "text=%FF%FE", "text=%ED%A0%80", "text=" + "x" * 201, "text=", "conversation=a%00b", "role=",
        "&".join(f"a{n}=1" for n in range(100)),
    ],
)  # fmt: skip
def test_queries_that_cannot_be_meant(steady: httpx.Client, query: str) -> None:
    refused(steady.get(f"{MEMORIES}?{query}"))


@pytest.mark.parametrize(
    "memory_id", ["0", "-1", "1.5", "x", "1e3", "9223372036854775808", "9" * 5000, "%00", "%D9%A1", "+1", "0x1", " 1"]
)
def test_ids_that_can_be_none(steady: httpx.Client, memory_id: str) -> None:
    for method, rest, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("PUT", "/pin", None),
        ("PATCH", "", {"text": "x"}),
    ):
        refused(steady.request(method, f"{MEMORIES}/{memory_id}{rest}", json=body))


def test_ids_that_nobody_has(steady: httpx.Client) -> None:
    for memory_id in (77, 2**63 - 1):
        for method, rest in (("GET", ""), ("DELETE", ""), ("PUT", "/pin"), ("DELETE", "/pin")):
            told = refused(steady.request(method, f"{MEMORIES}/{memory_id}{rest}"), 404)
            assert str(memory_id) in told and "/" not in told


@pytest.mark.parametrize(
    "body",
    [
        "", " ", "{", "[]", "null", '"text"', "1", '{"text": 1}', '{"text": null}', '{"text": ""}', '{"text": "  "}',
        "{}",
        '{"text": "a\\u0000b"}', '{"text": "\\ud800"}', '{"text": "x", "role": "\\udc00"}',
        '{"text": "x", "text": "y"}',
        '{"text": "x", "created_at": NaN}',
        '{"text": "x", "created_at": Infinity}', '{"text": "x", "created_at": 1e400}',
        '{"text": "x", "created_at": 1700000000000}', '{"text": "x", "created_at": ' + "9" * 5000 + "}",
        '{"text": "x", "created_at": ' + "9" * 400 + "}", '{"text": "x", "created_at": true}',
        '{"text": "x", "created_at": "soon"}', '{"text": "x", "expires_at": 0}', '{"text": "x", "expires_at": 1000}',
        '{"text": "x", "pinned": 1}', '{"text": "x", "pinned": "yes"}', '{"text": "x", "metadata": []}',
        '{"text": "x", "metadata": {"a": "\\u0000"}}', '{"text": "x", "metadata": {"\\ud800": 1}}',
        '{"text": "x", "metadata": {"a": ' + DEEP + "}}", '{"text": "x", "metadata": ' + DEEPER + "}",
        '{"text": "x", "metadata": {"a": 1e999}}', '{"text": "x", "namespace": "theirs"}', '{"text": "x", "id": 4}',
        '{"text": "x", "conversation": ""}', '{"text": "x", "role": ""}', '{"text": "' + "x" * 70_000 + '"}',
        '{"text": "' + "é" * 40_000 + '"}', "\ufeff{}",
    ],
    ids=range(41),
)  # fmt: skip
def test_bodies_that_cannot_be_meant(steady: httpx.Client, body: str) -> None:
    sent = steady.post(
        MEMORIES, content=body.encode("utf-8", "surrogatepass"), headers={"Content-Type": "application/json"}
    )
    refused(sent)
    assert len(steady.get(MEMORIES).json()["memories"]) == 8


@pytest.mark.parametrize(
    "body",
    [
        {"ids": [True]}, {"ids": ["1"]}, {"ids": [1.0]}, {"ids": [0]}, {"ids": [2**63]}, {"ids": 1}, {"ids": [[1]]},
        {"ids": [1], "seconds": -1}, {"ids": [1], "seconds": 1e9}, {"ids": [1], "seconds": "10"},
        {"ids": [1], "dry_run": "no"}, {"ids": [1], "dryrun": True}, {"conversation": "c1", "dry_run": None},
        {"conversation": None, "dry_run": False}, {"since": [], "dry_run": False}, {"text": "", "dry_run": False},
        {"ids": [1], "token": 5}, {"ids": [1], "count": 1.5}, {"ids": list(range(1, 10_002))},
    ],
)  # fmt: skip
def test_forgetting_that_cannot_be_meant(steady: httpx.Client, body: dict[str, Any]) -> None:
    refused(steady.post("/membank/forget", json=body))
    assert len(steady.get(MEMORIES).json()["memories"]) == 8


def test_a_body_has_to_be_said_to_be_json(steady: httpx.Client) -> None:
    body = json.dumps({"text": "From a form."}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", None):
        headers = {} if kind is None else {"Content-Type": kind}
        assert "application/json" in refused(steady.post(MEMORIES, content=body, headers=headers), 415)
    said = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert steady.post("/membank/search", content=b'{"q": "socks"}', headers=said).status_code == 200
    assert steady.post("/membank/undo", headers={"Content-Type": "text/plain"}).status_code == 409


def test_a_body_that_is_too_large_is_refused(steady: httpx.Client) -> None:
    refused(steady.post(MEMORIES, json={"text": "x", "metadata": {"a": "x" * (9 << 20)}}), 413)


def test_methods_that_are_not_there(steady: httpx.Client) -> None:
    for path, allowed in (
        (MEMORIES, "GET, HEAD, POST"),
        (f"{MEMORIES}/1", "DELETE, GET, HEAD, PATCH"),
        (f"{MEMORIES}/1/pin", "DELETE, PUT"),
        ("/membank/forget", "POST"),
    ):
        answered = steady.request("TRACE", path)
        refused(answered, 405)
        assert answered.headers["allow"] == allowed


def test_a_question_of_nothing_is_refused(steady: httpx.Client) -> None:
    for asked in ({}, {"q": ""}, {"q": "  "}, {"q": "x" * 8193}, {"q": "x", "limit": 101}):
        refused(steady.get("/membank/search", params=asked))
        refused(steady.post("/membank/search", json=asked))
    refused(steady.get("/membank/search", params={"q": "x", "since": 5, "until": 4}))
