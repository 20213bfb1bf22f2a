"""A page beside others that change the same memories, and what it answers where something cannot be done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.banks import wait_for
from support.pages import TOLD, ServedPage, served_page

from membank_llama.core.errors import (
    BankLockedError,
    BankReadOnlyError,
    BankStorageError,
    EmptyTextError,
    MembankError,
    ModelError,
)


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[ServedPage]:
    with served_page(tmp_path, TOLD) as page:
        yield page


def boiler_of(page: ServedPage) -> int:
    return next(memory.id for memory in page.bank.memories() if "boiler" in memory.text)


def test_of_many_those_that_are_gone_are_left_out_and_said(shown: ServedPage) -> None:
    form = {"ids": ["4", "9999"]}
    pinned = shown.send("POST", "/membank/page/chosen", {**form, "action": "pin"}).text
    assert "1 pinned, 1 was there no longer." in pinned and 'hx-swap-oob="outerHTML:#m9999"' in pinned
    forgotten = shown.send("POST", "/membank/page/chosen", {**form, "action": "forget"}).text
    assert "Forgotten, 1 was there no longer." in forgotten and len(shown.texts()) == len(TOLD) - 1
    assert all(f'hx-swap-oob="outerHTML:#m{one}"' in forgotten for one in ("4", "9999"))
    for action in ("pin", "forget"):
        answer = shown.send("POST", "/membank/page/chosen", {**form, "action": action})
        assert "corrected or forgotten elsewhere" in answer.text and "undo" not in answer.text


def test_what_was_changed_elsewhere_leaves_the_page_and_what_was_written_stays(shown: ServedPage) -> None:
    boiler = boiler_of(shown)
    path = f"/membank/page/memories/{boiler}"
    shown.bank.correct(boiler, "The boiler was serviced in May.")
    refused = shown.send("PATCH", path, {"text": "The boiler was serviced in June."})
    assert refused.status_code == 404 and "What you wrote is not saved." in refused.text
    assert f"#m{boiler}" not in refused.text and "June" not in " ".join(shown.texts())
    for method, rest in (("GET", ""), ("GET", "/edit"), ("GET", "/details"), ("POST", "/pin"), ("DELETE", "")):
        answer = shown.send(method, path + rest)
        assert answer.status_code == 404 and "corrected or forgotten elsewhere" in answer.text
        assert f'id="m{boiler}" class="gone" hidden hx-swap-oob="outerHTML:#m{boiler}"' in answer.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BankReadOnlyError, 409),
        (BankLockedError, 503),
        (BankStorageError, 503),
        (ModelError, 503),
        (EmptyTextError, 400),
    ],
)
def test_an_error_has_the_same_status_as_by_rest(
    shown: ServedPage, monkeypatch: pytest.MonkeyPatch, error: type[MembankError], status: int
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise error("it cannot be")

    monkeypatch.setattr(shown.bank, "ingest", refused)
    page = shown.send("POST", "/membank/page/memories", {"text": "The oven is new."})
    rest = shown.client.post("/membank/memories", json={"text": "The oven is new."})
    assert page.status_code == rest.status_code == status
    assert "it cannot be" in page.text and rest.json() == {"error": "it cannot be"}


def test_what_could_not_be_imported_is_tried_again_without_being_read_anew(
    shown: ServedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise BankStorageError("the disk is full")

    def state() -> str:
        return shown.get("/membank/page/import", script=True).text

    headers = {"origin": shown.url, "hx-request": "true", "content-type": "application/octet-stream"}
    notes = b'{"text": "The oven is new."}\n{"text": "The sink is old."}\n'
    shown.client.post("/membank/page/import?name=notes.jsonl", content=notes, headers=headers)
    wait_for(lambda: "2 new memories" in state())
    with monkeypatch.context() as broken:
        broken.setattr(shown.bank, "ingest_many", full)
        shown.send("POST", "/membank/page/import/store")
        wait_for(lambda: "the disk is full" in state())
    assert "2 new memories" in state() and "The oven is new." not in shown.texts()
    shown.send("POST", "/membank/page/import/store")
    wait_for(lambda: "2 memories imported" in state())
    assert "The oven is new." in shown.texts() and "the disk is full" not in state()
