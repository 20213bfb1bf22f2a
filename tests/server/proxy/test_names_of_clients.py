"""Names that clients make up, of models, namespaces and paths, take no memory that grows and nobody's place."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from support.proxies import Running, user

from membank_llama.server.proxy import proxy_memory, tokenizers
from membank_llama.server.proxy.tokenizers import ContextLengths, EstimatedTokenizer, Tokenizers
from membank_llama.store import snapshot_keeper

QUESTION = "Where does my sister Ana live?"


def wait(until: Any) -> None:
    deadline = time.monotonic() + 30
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def settled(known: Tokenizers, model: str) -> Any:
    known.get(model, 512)
    wait(lambda: not known._opening)
    return known.get(model, 512)


def test_mistyped_models_take_no_place(recall_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def find(name: str) -> Path | None:
        asked.append(name)
        return recall_tiny if name.casefold() == "toy" else None

    monkeypatch.setattr(tokenizers, "MOST_NAMES", 20)
    known = Tokenizers(find)
    try:
        for number in range(50):
            assert isinstance(settled(known, f"mistyped{number}"), EstimatedTokenizer)
        assert len(known._failed) == 20
        assert not isinstance(settled(known, "toy"), EstimatedTokenizer)
        # a file is opened once, whatever it is called
        assert settled(known, "TOY")._vocabulary is settled(known, "toy")._vocabulary
        assert len(known._opened) == 1
        before = len(asked)
        assert isinstance(settled(known, "mistyped49"), EstimatedTokenizer)
        assert len(asked) == before
        monkeypatch.setattr(tokenizers, "AGAIN_SECONDS", 0.0)
        settled(known, "mistyped49")
        assert len(asked) > before
    finally:
        known.close()


def test_the_oldest_vocabulary_goes_when_nobody_counts_by_it(
    recall_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "MOST_VOCABULARIES", 2)
    paths = {}
    for name in "abcd":
        paths[name] = tmp_path / f"{name}.gguf"
        paths[name].write_bytes(recall_tiny.read_bytes())
    known = Tokenizers(paths.get)
    try:
        first = settled(known, "a")
        gone = weakref.ref(first._vocabulary)
        for name in "bcd":
            settled(known, name)
        assert list(known._opened) == [paths["c"], paths["d"]]
        assert first.count("still counts") > 0
        del first
        gc.collect()
        assert gone() is None
        assert not isinstance(settled(known, "a"), EstimatedTokenizer)
    finally:
        known.close()


def test_few_are_opened_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()

    def find(name: str) -> None:
        held.wait(30)

    known = Tokenizers(find)
    for number in range(100):
        known.get(f"m{number}", 512)
    assert len(known._opening) == tokenizers.MOST_OPENING
    held.set()
    known.close()
    assert isinstance(known.get("m", 512), EstimatedTokenizer)


def test_contexts_are_asked_for_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "MOST_MODELS", 20)
    looks = 0

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = b'{"models": [' + b",".join(b'{"model": "m%d", "context_length": 7}' % n for n in range(looks)) + b"]}"
        await send({"type": "http.response.body", "body": body})

    async def ask() -> None:
        known = ContextLengths(behind)
        for number in range(100):
            known.answered(f"made-up-{number}")
        assert len(known._tasks) == 1
        for number in range(100):
            known.answered(f"other-{number}")
            await asyncio.sleep(0.001)
        assert len(known._asked) <= 20
        assert len(known._known) <= 20 + looks
        await known.close()

    asyncio.run(ask())


def test_namespaces_that_nobody_uses_are_not_kept(running: Running) -> None:
    store = running.bank.store
    body = {"model": "m", "messages": [user(QUESTION)]}
    for number in range(proxy_memory.MOST_NAMESPACES + 50):
        assert running.client.post(f"/ns/made-up-{number}/membank/recall", json=body).status_code == 200
    assert len(running.memory._last) == proxy_memory.MOST_NAMESPACES
    assert len(store.snapshots._kept) == 0
    assert len(store.indexes._entries) == 0


def test_snapshots_have_a_bound(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_keeper, "MOST_SNAPSHOTS", 3)
    for number in range(6):
        running.bank.ingest("My sister Ana lives in Porto.", namespace=f"n{number}")
    for _ in range(2):
        for number in range(6):
            assert running.bank.recall(QUESTION, 1, namespace=f"n{number}")[0].relevant
            assert len(running.bank.store.snapshots._kept) <= 3


def test_paths_make_no_labels(running: Running) -> None:
    for number in range(30):
        running.client.get(f"/membank/made-up-{number}")
        running.client.get(f"/made-up-{number}")
    text = running.client.get("/metrics").text
    assert "made-up" not in text
    assert 'path="other",status="404"' in text
