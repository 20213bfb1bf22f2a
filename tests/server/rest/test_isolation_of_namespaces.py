"""A token of one namespace sees, finds, counts, changes, takes back and exports nothing of another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.bank_clients import bank_client

from membank_llama.memory.bank import MemBank
from membank_llama.server.proxy.namespace_auth import BearerTokens

MEMORIES = "/membank/memories"
ANA, BEN, ADMIN = ({"Authorization": f"Bearer {token}"} for token in ("s3cret", "0ther", "r00t"))
SECRET = "My parrot is called Hypatia."


@pytest.fixture
def asked(bank: MemBank) -> Iterator[httpx.Client]:
    tokens = BearerTokens({"s3cret": "ana", "0ther": "ben", "r00t": "root"}, frozenset({"r00t"}))
    with bank_client(bank, tokens) as client:
        client.headers["X-Test"] = "1"
        told = client.post(MEMORIES, json={"text": SECRET, "conversation": "birds", "source": "mail"}, headers=ANA)
        assert told.status_code == 201
        client.put(f"{MEMORIES}/{told.json()['id']}/pin", headers=ANA)
        client.post(MEMORIES, json={"text": "I have no bird."}, headers=BEN)
        yield client


def of_ana(client: httpx.Client) -> int:
    return int(client.get(MEMORIES, headers=ANA).json()["memories"][0]["id"])


LOOKS = [
    MEMORIES, f"{MEMORIES}?pinned=true", f"{MEMORIES}?text=parrot", f"{MEMORIES}?conversation=birds",
    "/membank/search?q=parrot+called",
    "/membank/topics", "/membank/conversations", "/membank/changes",
    "/membank/namespaces", "/membank/export", "/membank/stats",
]  # fmt: skip


@pytest.mark.parametrize("path", LOOKS)
def test_nothing_is_seen(asked: httpx.Client, path: str) -> None:
    seen = asked.get(path, headers=BEN)
    assert seen.status_code == 200
    for told in ("parrot", "Hypatia", "birds", "ana", "theirs"):
        # what was asked for stands in the answer to a search
        assert told not in seen.text.replace('"query": "parrot called"', ""), seen.text
    assert asked.get(path).status_code == 401
    assert asked.get(f"/ns/ana{path}", headers=BEN).status_code == 403
    assert asked.get(path, headers={**BEN, "X-Membank-Namespace": "ana"}).status_code == 403


def test_figures_are_of_ones_own(asked: httpx.Client) -> None:
    stats = asked.get("/membank/stats", headers=BEN).json()
    assert (stats["memories"], stats["pinned"], stats["bank"]) == (1, 0, None)
    assert asked.get("/membank/namespaces", headers=BEN).json()["namespaces"] == [{"namespace": "ben", "memories": 1}]


def test_an_administrator_sees_which_there_are_and_nothing_in_them(asked: httpx.Client) -> None:
    names = [one["namespace"] for one in asked.get("/membank/namespaces", headers=ADMIN).json()["namespaces"]]
    assert names == ["ana", "ben", "default", "root", "theirs"]
    assert asked.get("/membank/stats", headers=ADMIN).json()["bank"]["memories"] == 11
    assert asked.get(MEMORIES, headers=ADMIN).json()["memories"] == []


CHANGES: list[tuple[str, str, Any]] = [
    ("GET", "", None), ("PATCH", "", {"text": "Mine."}), ("PATCH", "", {"pinned": False}), ("DELETE", "", None),
    ("DELETE", "?dry_run=true", None), ("PUT", "/pin", None), ("DELETE", "/pin", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "rest", "body"), CHANGES)
def test_a_foreign_id_is_answered_as_one_that_nobody_has(
    asked: httpx.Client, method: str, rest: str, body: Any
) -> None:
    memory_id, nobody = of_ana(asked), 999
    foreign = asked.request(method, f"{MEMORIES}/{memory_id}{rest}", json=body, headers=BEN)
    missing = asked.request(method, f"{MEMORIES}/{nobody}{rest}", json=body, headers=BEN)
    assert foreign.status_code == missing.status_code == 404
    assert foreign.text.replace(str(memory_id), "ID") == missing.text.replace(str(nobody), "ID")
    assert set(foreign.headers) == set(missing.headers)
    kept = asked.get(f"{MEMORIES}/{memory_id}", headers=ANA).json()
    assert (kept["text"], kept["pinned"]) == (SECRET, True)


def test_nothing_is_forgotten_by_ids_or_conditions(asked: httpx.Client) -> None:
    memory_id = of_ana(asked)
    refused = asked.post("/membank/forget", json={"ids": [memory_id], "dry_run": False}, headers=BEN)
    assert refused.status_code == 404
    for conditions in ({"conversation": "birds"}, {"text": "parrot"}, {"source": "mail"}, {"pinned": True}):
        would = asked.post("/membank/forget", json=conditions | {"dry_run": False}, headers=BEN).json()
        assert (would["count"], would["ids"], would["memories"]) == (0, [], [])
    assert of_ana(asked) == memory_id


def test_nothing_is_taken_back(asked: httpx.Client) -> None:
    change = asked.get("/membank/changes", headers=ANA).json()["changes"][0]["id"]
    foreign = asked.post("/membank/undo", json={"change": change}, headers=BEN)
    missing = asked.post("/membank/undo", json={"change": "0123456789ab"}, headers=BEN)
    assert (foreign.status_code, foreign.text) == (missing.status_code, missing.text)
    assert foreign.status_code == 404
    assert asked.post("/membank/undo", headers=BEN).status_code == 409
    assert asked.post("/membank/undo", json={"change": change}, headers=ANA).status_code == 200


def test_what_another_told_is_new_to_whoever_tells_it(asked: httpx.Client) -> None:
    told = asked.post(MEMORIES, json={"text": SECRET}, headers=BEN)
    assert told.status_code == 201 and told.json()["namespace"] == "ben"
    assert told.json()["conversation"] is None


def test_a_cursor_of_another_leads_to_nothing_of_hers(asked: httpx.Client) -> None:
    for number in range(3):
        asked.post(MEMORIES, json={"text": f"Ana's note {number}."}, headers=ANA)
    cursor = asked.get(MEMORIES, params={"limit": 1}, headers=ANA).json()["cursor"]
    page = asked.get(MEMORIES, params={"cursor": cursor}, headers=BEN).json()
    assert all(one["namespace"] == "ben" for one in page["memories"])
