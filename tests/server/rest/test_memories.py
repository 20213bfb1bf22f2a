"""A memory is told, found, corrected, pinned, forgotten and brought back by HTTP, as its description says."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema_rs
import pytest
from support.bank_clients import bank_client
from support.banks import files_with, wait_for

from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.import_export import import_memories
from membank_llama.server.rest.memory_schemas import ANSWERS

MEMORIES = "/membank/memories"


def answer(response: httpx.Response, status: int, schema: str) -> dict[str, Any]:
    """The answer, held against its schema in the description."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    whole = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": ANSWERS}}
    jsonschema_rs.validator_for(whole).validate(response.json())
    return dict(response.json())


def listed(client: httpx.Client, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = answer(client.get(MEMORIES, params=asked), 200, "Page")
        found += page["memories"]
        if page["cursor"] is None:
            return found
        asked["cursor"] = page["cursor"]


def test_memories_are_leafed_through(client: httpx.Client) -> None:
    assert [one["id"] for one in listed(client, limit=3)] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [one["id"] for one in listed(client, conversation="c1", limit=1)] == [8, 6, 4, 2]
    for asked, count in (
        ({"text": "Note 3"}, 1),
        ({"role": "assistant"}, 0),
        ({"pinned": "false"}, 8),
        ({"since": "2023-11-16T00:00:00Z", "until": "2023-11-18T00:00:00+00:00"}, 2),
        ({"since": 1_700_000_000 + 86_400}, 7),
        ({"since": "1700086400.5"}, 6),
        ({"conversation": ""}, 0),
        ({"source": "mail"}, 0),
    ):
        assert len(listed(client, **asked)) == count, asked


def test_days_are_those_of_the_request(client: httpx.Client) -> None:
    # 22:13 UTC on the 14th is the 15th in Kyiv
    for zone, count in (("UTC", 7), ("Europe/Kyiv", 8)):
        found = client.get(MEMORIES, params={"since": "2023-11-15"}, headers={"X-Membank-Timezone": zone})
        assert len(answer(found, 200, "Page")["memories"]) == count
    assert client.get(MEMORIES, headers={"X-Membank-Timezone": "Mars/Olympus"}).status_code == 400


def test_a_memory_is_told_once(client: httpx.Client) -> None:
    said = {
        "text": "My canoe is green.",
        "role": "user",
        "conversation": "boats",
        "source": "mail",
        "metadata": {"mood": "glad", "deep": {"er": [1, None]}},
        "pinned": True,
        "created_at": "2024-05-01T12:00:00Z",
        "expires_at": 4_000_000_000,
    }
    made = client.post(MEMORIES, json=said)
    told = answer(made, 201, "StoredMemory")
    assert told.items() >= (said | {"created_at": 1714564800.0, "is_new": True}).items()
    assert answer(client.get(made.headers["location"]), 200, "MemoryInFull")["text"] == said["text"]
    again = client.post(MEMORIES, json={"text": "My canoe is green."})
    assert answer(again, 200, "StoredMemory")["id"] == told["id"]
    assert again.headers["location"] == made.headers["location"]


def test_a_memory_is_found_by_a_question(client: httpx.Client) -> None:
    client.post(MEMORIES, json={"text": "My sister Ana lives in Porto."})
    by_url = client.get("/membank/search", params={"q": "Where does Ana live?", "limit": 3})
    found = answer(by_url, 200, "Found")
    assert found["memories"][0]["text"] == "My sister Ana lives in Porto."
    assert len(found["memories"]) == 3 and found["memories"][0]["relevant"]
    in_body = client.post("/membank/search", json={"q": "Where does Ana live?", "limit": 3, "since": 0})
    assert answer(in_body, 200, "Found")["memories"][0]["id"] == found["memories"][0]["id"]


def test_a_memory_is_corrected_and_the_correction_undone(client: httpx.Client) -> None:
    told = client.post(MEMORIES, json={"text": "My canoe is green."}).json()
    changed = client.patch(f"{MEMORIES}/{told['id']}", json={"text": "My canoe is red.", "pinned": True})
    new = answer(changed, 200, "ChangedMemory")
    assert (new["text"], new["pinned"], new["replaces"]) == ("My canoe is red.", True, told["id"])
    assert [one["text"] for one in new["history"]] == ["My canoe is green."]
    assert client.get(f"{MEMORIES}/{told['id']}").status_code == 404
    undone = answer(client.post("/membank/undo", json={"change": new["change"]}), 200, "Change")
    assert client.get(f"{MEMORIES}/{undone['ids'][0]}").json()["text"] == "My canoe is green."
    for body in ({}, {"text": "My canoe is green."}, {"pinned": None}, {"text": " "}):
        assert client.patch(f"{MEMORIES}/{undone['ids'][0]}", json=body).status_code == 400


def test_a_memory_is_pinned_and_let_go(client: httpx.Client) -> None:
    for method, pinned in (("PUT", True), ("PUT", True), ("DELETE", False), ("DELETE", False)):
        done = client.request(method, f"{MEMORIES}/3/pin")
        assert answer(done, 200, "Memory")["pinned"] is pinned
    changed = answer(client.patch(f"{MEMORIES}/3", json={"pinned": True}), 200, "ChangedMemory")
    assert changed["pinned"] and changed["replaces"] is None
    assert [one["id"] for one in listed(client, pinned="true")] == [3]
    kinds = [change["kind"] for change in answer(client.get("/membank/changes"), 200, "Changes")["changes"]]
    assert kinds == ["pin", "unpin", "pin"]


def test_a_memory_is_forgotten_and_brought_back(client: httpx.Client) -> None:
    would = answer(client.delete(f"{MEMORIES}/3", params={"dry_run": "true"}), 200, "Forgetting")
    assert would["dry_run"] and would["ids"] == [3] and would["change"] is None
    assert len(listed(client)) == 8
    done = answer(client.delete(f"{MEMORIES}/3", params={"seconds": 600}), 200, "Forgetting")
    assert not done["dry_run"] and done["token"] == would["token"]
    assert client.get(f"{MEMORIES}/3").status_code == client.delete(f"{MEMORIES}/3").status_code == 404
    assert len(listed(client)) == 7
    answer(client.post("/membank/undo"), 200, "Change")
    assert client.get(f"{MEMORIES}/3").json()["text"] == "Note 2 is about socks."
    assert answer(client.post("/membank/undo"), 409, "Error")
    assert answer(client.post("/membank/undo", json={"change": done["change"]["id"]}), 404, "Error")


def test_what_is_forgotten_without_a_way_back_leaves_the_disk(client: httpx.Client, bank: MemBank) -> None:
    client.post(MEMORIES, json={"text": "The zeppelin lands at noon."})
    answer(client.post("/membank/forget", json={"ids": [10], "seconds": 0}), 200, "Forgetting")
    wait_for(lambda: not files_with(bank.path, b"zeppelin lands"))


def test_conditions_only_say_what_would_go_until_told_to(client: httpx.Client) -> None:
    asked: dict[str, Any] = {"conversation": "c1"}
    would = answer(client.post("/membank/forget", json=asked), 200, "Forgetting")
    assert would["dry_run"] and sorted(would["ids"]) == [2, 4, 6, 8] and would["count"] == 4
    assert {one["conversation"] for one in would["memories"]} == {"c1"}
    client.post(MEMORIES, json={"text": "One more.", "conversation": "c1"})
    for same in ({"token": would["token"]}, {"count": 4}):
        stale = client.post("/membank/forget", json=asked | same | {"dry_run": False})
        assert "no longer the same" in answer(stale, 409, "Error")["error"]
    assert len(listed(client)) == 9
    again = client.post("/membank/forget", json=asked).json()
    acted = client.post("/membank/forget", json=asked | {"dry_run": False, "token": again["token"], "count": 5})
    assert len(answer(acted, 200, "Forgetting")["change"]["ids"]) == 5
    assert len(listed(client)) == 4
    nothing = client.post("/membank/forget", json={"text": "nowhere", "dry_run": False})
    assert answer(nothing, 200, "Forgetting")["change"] is None


@pytest.mark.parametrize(
    "body", [{}, {"dry_run": False}, {"ids": [1], "conversation": "c1"}, {"seconds": 5}, {"ids": []}]
)
def test_nothing_is_forgotten_where_nothing_was_named(client: httpx.Client, body: dict[str, Any]) -> None:
    answer(client.post("/membank/forget", json=body), 400, "Error")
    assert len(listed(client)) == 8


def test_forgetting_some_that_are_not_all_there_forgets_none(client: httpx.Client) -> None:
    answer(client.post("/membank/forget", json={"ids": [1, 77]}), 404, "Error")
    assert len(listed(client)) == 8


def test_replies_that_only_repeat_go_too(client: httpx.Client) -> None:
    told = client.post(MEMORIES, json={"text": "The dentist moved to Maple Street."}).json()
    client.post(MEMORIES, json={"text": "The dentist moved to Maple Street, yes.", "role": "assistant"})
    would = client.delete(f"{MEMORIES}/{told['id']}", params={"dry_run": "true"}).json()
    alone = client.delete(f"{MEMORIES}/{told['id']}", params={"dry_run": "true", "keep_replies": "true"}).json()
    assert (would["count"], alone["count"]) == (2, 1)
    by_ids = client.post("/membank/forget", json={"ids": [told["id"]], "dry_run": True})
    assert answer(by_ids, 200, "Forgetting")["ids"] == would["ids"]


def test_conversations_namespaces_and_figures(client: httpx.Client) -> None:
    found = answer(client.get("/membank/conversations"), 200, "Conversations")["conversations"]
    assert [(one["conversation"], one["memories"]) for one in found] == [("c1", 4), ("c0", 4)]
    assert len(client.get("/membank/conversations", params={"limit": 1}).json()["conversations"]) == 1
    spaces = answer(client.get("/membank/namespaces"), 200, "Namespaces")["namespaces"]
    assert spaces == [{"namespace": "default", "memories": 8}, {"namespace": "theirs", "memories": 1}]
    stats = answer(client.get("/membank/stats"), 200, "Stats")
    assert (stats["memories"], stats["bank"]["memories"], stats["pinned"]) == (8, 9, 0)
    elsewhere = answer(client.get("/ns/theirs/membank/stats"), 200, "Stats")
    assert (elsewhere["namespace"], elsewhere["memories"]) == ("theirs", 1)


def test_topics_are_told_and_searched_in(client: httpx.Client) -> None:
    for place in ("Porto", "Lisbon", "Braga", "Faro", "Coimbra", "Evora", "Viseu", "Aveiro"):
        client.post(MEMORIES, json={"text": f"The garden in {place} has tomatoes and roses."})
    found = answer(client.get("/membank/topics"), 200, "Topics")["topics"]
    assert sum(topic["memories"] for topic in found) > 8
    garden = next(topic for topic in found if "garden" in topic["example"]["text"])
    among = client.get("/membank/search", params={"q": "Note about socks", "topic": garden["id"], "limit": 50})
    assert all("garden" in one["text"] for one in answer(among, 200, "Found")["memories"])
    assert answer(client.get("/membank/search", params={"q": "x", "topic": "zeppelins"}), 400, "Error")


def test_a_search_is_made_among_what_fits(client: httpx.Client) -> None:
    for n in range(30):
        client.post(MEMORIES, json={"text": f"The wool socks of drawer {n} are grey.", "conversation": "drawers"})
    client.post(MEMORIES, json={"text": "Grey wool was bought.", "conversation": "attic"})
    wanted = {"q": "grey wool socks drawer", "limit": 3, "conversation": "attic"}
    for answered in (client.get("/membank/search", params=wanted), client.post("/membank/search", json=wanted)):
        found = answer(answered, 200, "Found")["memories"]
        assert [one["text"] for one in found] == ["Grey wool was bought."]


def test_an_export_can_be_imported(client: httpx.Client, bank: MemBank, tmp_path: Any) -> None:
    answered = client.get("/membank/export")
    assert answered.headers["content-type"].startswith("application/x-ndjson")
    lines = answered.text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(1, 9))
    with MemBank(bank.adapter, tmp_path / "copy") as copy:
        assert sum(result.is_new for result in import_memories(copy, lines)) == 8


def test_what_a_program_stored_as_no_number_is_still_told(client: httpx.Client, bank: MemBank) -> None:
    bank.ingest("Odd numbers.", metadata={"at": float("nan"), "all": [float("inf"), 1.5]})
    assert listed(client)[0]["metadata"] == {"at": None, "all": [None, 1.5]}
    assert '"at": null' in client.get("/membank/export").text


def test_a_bank_that_is_only_read_says_so(bank: MemBank, tmp_path: Any) -> None:
    with MemBank(bank.adapter, bank.path, read_only=True) as looking, bank_client(looking) as client:
        assert len(listed(client)) == 8
        assert client.get("/membank/stats").json()["read_only"]
        for method, path, body in (
            ("POST", MEMORIES, {"text": "New."}),
            ("PUT", f"{MEMORIES}/1/pin", None),
            ("DELETE", f"{MEMORIES}/1", None),
            ("PATCH", f"{MEMORIES}/1", {"text": "Other."}),
        ):
            answer(client.request(method, path, json=body), 409, "Error")


def test_a_bank_without_its_model_is_looked_at_and_forgets(bank: MemBank) -> None:
    bank.close()
    with MemBank(None, bank.path) as alone, bank_client(alone) as client:
        assert not client.get("/membank/stats").json()["encoder"]["at_hand"]
        assert client.get("/membank/search", params={"q": "socks"}).status_code == 200
        answer(client.post(MEMORIES, json={"text": "New."}), 503, "Error")
        answer(client.delete(f"{MEMORIES}/1"), 200, "Forgetting")


def test_where_a_memory_was_used_is_told(bank: MemBank) -> None:
    recalls = [{"conversation": "talk", "when": 5.0, "query": "Which socks?", "injected": [2]}]
    with bank_client(bank, recalls=lambda namespace: recalls) as client:
        used = answer(client.get(f"{MEMORIES}/2"), 200, "MemoryInFull")["used"]
        assert used == [{"conversation": "talk", "at": 5.0, "query": "Which socks?"}]


def test_what_repeats_one_of_very_many_goes_with_them(client: httpx.Client, bank: MemBank) -> None:
    many = [NewMemory(f"Shelf {n} holds box {n + 1000}.", conversation="store") for n in range(600)]
    bank.ingest_many([*many, NewMemory("Your shelf 3 holds box 1003.", role="assistant", conversation="asked")])
    would = answer(client.post("/membank/forget", json={"conversation": "store"}), 200, "Forgetting")
    assert would["count"] == 601
    kept = {"conversation": "store", "keep_replies": True}
    assert answer(client.post("/membank/forget", json=kept), 200, "Forgetting")["count"] == 600
