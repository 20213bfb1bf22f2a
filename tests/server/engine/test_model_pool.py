"""Who gets a model when: order, limits, hang-ups, unloading, models side by side."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from make_tiny import make_model
from support.engines import running, user

from membank_llama.server.engine import app, exchange

LONG = {"temperature": 0, "num_predict": -1, "num_ctx": 100_000}
SHORT = {"temperature": 0, "num_predict": 2, "num_ctx": 100_000}


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose answers end at a context that takes minutes to fill."""
    return make_model(tmp_path_factory.mktemp("models") / "endless.gguf", n_ctx=100_000)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def body(options: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "endless", "messages": [user("the cat")], "options": options, **more}


def test_hanging_up_stops_the_answer(tmp_path: Path, endless: Path) -> None:
    with running(tmp_path, endless) as (engine, client):
        with client.stream("POST", "/api/chat", json=body(LONG)) as response:
            lines = response.iter_lines()
            next(lines)
            (loaded,) = engine.loaded()
            assert loaded.state == "busy"
        until(lambda: loaded.state == "idle")
        assert client.post("/api/chat", json=body(SHORT, stream=False)).json()["eval_count"] == 2


def test_hanging_up_a_whole_answer_stops_it_too(tmp_path: Path, endless: Path) -> None:
    with running(tmp_path, endless) as (engine, client):
        with pytest.raises(httpx.ReadTimeout):
            client.post("/api/chat", json=body(LONG, stream=False), timeout=0.5)
        until(lambda: bool(engine.loaded()) and engine.loaded()[0].state == "idle")


def test_one_at_a_time_in_order_and_no_more_than_fit(tmp_path: Path, endless: Path) -> None:
    with running(tmp_path, endless, max_queue=3) as (engine, client):
        done: list[tuple[str, int]] = []

        def short(number: int) -> None:
            with httpx.Client(base_url=client.base_url, timeout=60) as own:
                answer = own.post("/api/chat", json=body(SHORT, stream=False))
                assert answer.status_code == 200
                # when it was written: this thread may be woken later than the next one
                done.append((answer.json()["created_at"], number))

        threads = []
        with client.stream("POST", "/api/chat", json=body(LONG)) as response:
            lines = response.iter_lines()
            next(lines)
            for number in range(3):
                threads.append(threading.Thread(target=short, args=(number,)))
                threads[-1].start()
                until(lambda: engine.queued == number + 1)  # noqa: B023
            with httpx.Client(base_url=client.base_url) as other:
                refused = other.post("/api/chat", json=body(SHORT))
                assert refused.status_code == 503
                assert refused.json() == {"error": "server busy, please try again.  maximum pending requests exceeded"}
                assert refused.headers["retry-after"]
                refused = other.post("/v1/chat/completions", json=body(SHORT))
                assert refused.status_code == 429
                assert refused.json()["error"]["type"] == "rate_limit_error"
                assert refused.headers["retry-after"]
            assert done == []
        for thread in threads:
            thread.join(30)
        assert [number for _, number in sorted(done)] == [0, 1, 2]


def test_who_hangs_up_while_waiting_leaves_the_line(tmp_path: Path, endless: Path) -> None:
    with (
        running(tmp_path, endless) as (engine, client),
        client.stream("POST", "/api/chat", json=body(LONG)) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        with httpx.Client(base_url=client.base_url) as other, pytest.raises(httpx.ReadTimeout):
            other.post("/api/chat", json=body(SHORT), timeout=0.3)
        until(lambda: engine.queued == 0)
        assert not json.loads(next(lines))["done"]


def test_keep_alive_unloads(tmp_path: Path, endless: Path) -> None:
    with running(tmp_path, endless) as (engine, client):
        client.post("/api/chat", json=body(SHORT, keep_alive=0, stream=False))
        until(lambda: not engine.loaded())
        client.post("/api/chat", json=body(SHORT, keep_alive="100ms", stream=False))
        until(lambda: not engine.loaded())
        client.post("/api/chat", json=body(SHORT, keep_alive=-1, stream=False))
        (shown,) = client.get("/api/ps").json()["models"]
        assert int(shown["expires_at"][:4]) > 2200


def test_other_num_ctx_loads_anew(tmp_path: Path, endless: Path) -> None:
    with running(tmp_path, endless) as (_, client):
        for size in (256, 512):
            client.post("/api/chat", json=body({**SHORT, "num_ctx": size}, stream=False))
            assert [one["context_length"] for one in client.get("/api/ps").json()["models"]] == [size]


def test_two_models_share_one_place(tmp_path: Path, endless: Path, recall_tiny: Path) -> None:
    with running(tmp_path, endless, recall_tiny) as (engine, client):
        for name in ("endless", "recall-tiny", "endless"):
            sent = {**body({**SHORT, "num_ctx": 256}, stream=False), "model": name}
            assert client.post("/api/chat", json=sent).status_code == 200
            assert [one.request.served.name for one in engine.loaded()] == [f"{name}:latest"]


def test_two_models_side_by_side_and_the_oldest_goes(tmp_path: Path, endless: Path, recall_tiny: Path) -> None:
    third = make_model(tmp_path / "third.gguf", seed=3)
    with running(tmp_path, endless, recall_tiny, third, max_loaded=2) as (engine, client):
        for name in ("endless", "recall-tiny", "third"):
            sent = {**body({**SHORT, "num_ctx": 256}, stream=False), "model": name}
            assert client.post("/api/chat", json=sent).status_code == 200
        assert {one.request.served.name for one in engine.loaded()} == {"recall-tiny:latest", "third:latest"}


def test_many_at_once_on_two_models(tmp_path: Path, endless: Path, recall_tiny: Path) -> None:
    with running(tmp_path, endless, recall_tiny) as (_, client):
        statuses: list[int] = []

        def one(number: int) -> None:
            name = ("endless", "recall-tiny")[number % 2]
            with httpx.Client(base_url=client.base_url, timeout=60) as own:
                sent = {**body({**SHORT, "num_ctx": 256}, stream=bool(number % 3)), "model": name}
                statuses.append(own.post("/api/chat", json=sent).status_code)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert statuses == [200] * 24


def test_closing_ends_what_is_running(tmp_path: Path, endless: Path) -> None:
    def others() -> set[threading.Thread]:
        # those that read from child processes live as long as those do
        return {thread for thread in threading.enumerate() if thread.name != "membank-child"}

    before = others()
    with running(tmp_path, endless) as (_, client):
        response = client.send(client.build_request("POST", "/api/chat", json=body(LONG)), stream=True)
        lines = response.iter_lines()
        next(lines)
        response.close()
    until(lambda: others() <= before)


def test_a_damaged_file_is_told_and_the_server_lives(tmp_path: Path, endless: Path, recall_tiny: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    broken = folder / "broken.gguf"
    broken.write_bytes(endless.read_bytes())
    with running(tmp_path / "store", recall_tiny, folder=folder) as (engine, client):
        sent = {**body(SHORT, stream=False), "model": "broken"}
        assert client.get("/v1/models/broken").status_code == 200
        broken.write_bytes(b"GGUF" + b"\0" * 100)
        response = client.post("/api/chat", json=sent)
        assert response.status_code in (404, 500)
        assert response.json()["error"]
        assert engine.queued == 0
        fine = {**sent, "model": "recall-tiny"}
        assert client.post("/api/chat", json=fine).status_code == 200


def test_a_client_that_stops_reading_loses_the_model(
    tmp_path: Path, endless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "STALL_SECONDS", 0.1)
    monkeypatch.setattr(app, "STALL_SECONDS", 0.1)
    sent = json.dumps(body({**LONG, "num_ctx": 1024})).encode()
    bodies = iter([{"type": "http.request", "body": sent, "more_body": False}])

    async def receive() -> Any:
        for message in bodies:
            return message
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def run() -> None:
        engine = app.Engine(app.EngineSettings(store=tmp_path, models=(endless,), use_ollama=False, n_threads=1))
        await engine({"type": "http", "method": "POST", "path": "/api/chat", "headers": []}, receive, send)
        while engine.loaded()[0].state != "idle":
            await asyncio.sleep(0.01)
        await engine.close()
        assert engine.loaded() == []

    asyncio.run(asyncio.wait_for(run(), 30))
