"""`/api/embed` and `/api/embeddings` through a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import ollama
import pytest
from support.engines import running

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter

NAME = "all-MiniLM-L6-v2-q8_0"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, minilm_gguf: Path, recall_tiny: Path) -> Iterator[httpx.Client]:
    with running(tmp_path_factory.mktemp("store"), minilm_gguf, recall_tiny) as (_, client):
        yield client


def test_vectors_are_the_models_own(client: httpx.Client, minilm_gguf: Path) -> None:
    texts = ["a cat on a mat", "the dog", "zebra"]
    got = client.post("/api/embed", json={"model": NAME, "input": texts}).json()
    assert set(got) == {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"}
    rows = np.array(got["embeddings"])
    adapter = LlamaCppAdapter(minilm_gguf, n_threads=1)
    try:
        expected = adapter.encode_batch(texts)
    finally:
        adapter.close()
    assert np.abs(rows - expected).max() < 1e-3
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    assert got["prompt_eval_count"] == 7 + 4 + 3


def test_one_text_none_and_fewer_dimensions(client: httpx.Client) -> None:
    assert len(client.post("/api/embed", json={"model": NAME, "input": "one"}).json()["embeddings"]) == 1
    assert client.post("/api/embed", json={"model": NAME, "input": []}).json()["embeddings"] == []
    (short,) = client.post("/api/embed", json={"model": NAME, "input": "one", "dimensions": 8}).json()["embeddings"]
    assert len(short) == 8
    assert np.isclose(np.linalg.norm(short), 1, atol=1e-4)


def test_the_old_way(client: httpx.Client) -> None:
    (new,) = client.post("/api/embed", json={"model": NAME, "input": "one"}).json()["embeddings"]
    old = client.post("/api/embeddings", json={"model": NAME, "prompt": "one"}).json()
    assert np.allclose(old["embedding"], new)
    assert client.post("/api/embeddings", json={"model": NAME}).json() == {"embedding": []}


def test_refusals(client: httpx.Client) -> None:
    for body, message in (
        ({"model": NAME, "input": 3}, "invalid input type"),
        ({"model": NAME, "input": [3]}, "invalid input type"),
        ({"model": NAME, "input": "word " * 3000, "truncate": False}, "exceeds the context length"),
        ({"model": NAME, "input": "x", "dimensions": -1}, "dimensions"),
        ({"model": "recall-tiny", "input": "x"}, '"recall-tiny" does not support embeddings'),
        ({"input": "x"}, "model is required"),
    ):
        response = client.post("/api/embed", json=body)
        assert response.status_code == 400
        assert message in response.json()["error"]
    for path in ("chat", "generate"):
        response = client.post(f"/api/{path}", json={"model": NAME, "prompt": "x"})
        assert response.status_code == 400
        assert f'"{NAME}" does not support {path}' in response.json()["error"]
    assert client.post("/api/embed", json={"model": NAME, "input": "word " * 3000}).status_code == 200


def test_ollamas_own_client(client: httpx.Client) -> None:
    theirs = ollama.Client(host=str(client.base_url))
    assert len(theirs.embed(NAME, ["a", "b"]).embeddings) == 2
    assert len(theirs.embeddings(NAME, "a").embedding) == 384
    theirs._client.close()
