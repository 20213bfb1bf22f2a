"""Models listed, shown, made, copied, deleted, uploaded and pulled, by the client that people use."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import ollama
import pytest
from support.engines import running

from membank_llama.gguf.header import read_metadata
from membank_llama.server.engine.app import Engine
from membank_llama.server.engine.library import details
from membank_llama.server.engine.library.catalogue import Catalogue
from membank_llama.server.engine.library.details import human_number


@pytest.fixture
def served(tmp_path: Path, recall_tiny: Path) -> Iterator[tuple[Engine, httpx.Client, ollama.Client]]:
    with running(tmp_path / "store", recall_tiny) as (engine, client):
        known = ollama.Client(str(client.base_url))
        yield engine, client, known
        known._client.close()


def test_tags_field_by_field(served: Any, recall_tiny: Path) -> None:
    _, client, known = served
    (row,) = client.get("/api/tags").json()["models"]
    assert row["name"] == row["model"] == "recall-tiny:latest"
    assert row["size"] == recall_tiny.stat().st_size
    assert len(row["digest"]) == 64
    assert row["modified_at"].endswith("Z")
    assert row["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "1.34M",
        "quantization_level": "F16",
    }
    assert [model.model for model in known.list().models] == ["recall-tiny:latest"]


def test_show_field_by_field(served: Any) -> None:
    _, client, known = served
    shown = client.post("/api/show", json={"model": "recall-tiny"}).json()
    assert {"modelfile", "parameters", "template", "details", "model_info", "capabilities", "modified_at"} <= set(shown)
    assert "<|im_start|>" in shown["template"]
    assert shown["capabilities"] == ["completion"]
    info = shown["model_info"]
    assert info["general.architecture"] == "llama"
    assert info["llama.block_count"] == 6
    assert info["tokenizer.ggml.tokens"] is None
    verbose = client.post("/api/show", json={"name": "recall-tiny:latest", "verbose": True}).json()
    assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) == 1024
    assert verbose["tensors"][0].keys() == {"name", "type", "shape"}
    assert known.show("recall-tiny").details.family == "llama"


def test_version(served: Any) -> None:
    assert served[1].get("/api/version").json()["version"].count(".") == 2


def test_create_copy_delete(served: Any, recall_tiny: Path) -> None:
    engine, client, known = served
    known.create("mario", from_="recall-tiny", system="You are Mario.", parameters={"temperature": 0, "stop": ["x"]})
    shown = client.post("/api/show", json={"model": "mario"}).json()
    assert shown["system"] == "You are Mario."
    assert "PARAMETER temperature 0" in shown["modelfile"]
    assert 'stop                           "x"' in shown["parameters"]
    known.copy("mario", "luigi:two")
    assert {model.model for model in known.list().models} == {"recall-tiny:latest", "mario:latest", "luigi:two"}
    # made of another: its weights are those, and it answers
    assert known.generate("luigi:two", "My sister Ana lives in Porto.").response
    known.delete("mario")
    assert known.show("luigi:two")
    known.delete("luigi:two")
    assert not list((engine.settings.store / "blobs").iterdir())
    assert recall_tiny.is_file()


def test_what_is_not_ours_is_not_deleted(served: Any, recall_tiny: Path) -> None:
    _, client, known = served
    with pytest.raises(ollama.ResponseError) as raised:
        known.delete("recall-tiny")
    assert raised.value.status_code == 403
    assert recall_tiny.is_file()
    assert client.request("DELETE", "/api/delete", json={"model": "none"}).status_code == 404


def test_upload_and_create(served: Any, recall_tiny: Path) -> None:
    engine, client, known = served
    digest = known.create_blob(str(recall_tiny))
    assert client.head(f"/api/blobs/{digest}").status_code == 200
    assert client.head(f"/api/blobs/sha256:{'0' * 64}").status_code == 404
    steps = list(known.create("uploaded", files={"recall-tiny.gguf": digest}, stream=True))
    assert steps[-1].status == "success"
    assert known.generate("uploaded", "hello").done
    wrong = client.post(f"/api/blobs/sha256:{'1' * 64}", content=b"something else")
    assert wrong.status_code == 400
    assert not [path for path in (engine.settings.store / "blobs").iterdir() if path.name.startswith(".new")]


@pytest.mark.parametrize("digest", ["x", "sha256:../../etc/passwd", "sha256:" + "g" * 64, "md5:" + "0" * 64])
def test_digests_that_are_none(served: Any, digest: str) -> None:
    assert served[1].post(f"/api/blobs/{digest}", content=b"x").status_code in (400, 404)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/show", {}, 400),
        ("/api/show", {"model": "none"}, 404),
        ("/api/show", {"model": 5}, 400),
        ("/api/copy", {"source": "none", "destination": "a"}, 404),
        ("/api/copy", {"source": "recall-tiny", "destination": "../../a"}, 400),
        ("/api/copy", {"source": "recall-tiny", "destination": ""}, 400),
        ("/api/create", {"model": "a"}, 400),
        ("/api/create", {"model": "a/../../b/c/d", "from": "recall-tiny"}, 400),
        ("/api/create", {"model": "a", "from": "recall-tiny", "quantize": "q4_0"}, 400),
        ("/api/create", {"model": "a", "files": {"x": "sha256:" + "0" * 64}}, 400),
        ("/api/push", {"model": "a"}, 400),
        ("/api/pull", {}, 400),
    ],
)
def test_refused(served: Any, path: str, body: dict[str, Any], status: int) -> None:
    engine, client, _ = served
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    assert response.json()["error"]
    assert not (engine.settings.store / "manifests").exists()


def test_a_folder_of_models(tmp_path: Path, recall_tiny: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    (folder / "One Model.gguf").write_bytes(recall_tiny.read_bytes())
    (folder / "broken.gguf").write_bytes(b"GGUF and nothing")
    catalogue = Catalogue((), folder, store=tmp_path / "store", use_ollama=False)
    assert [model.name for model in catalogue.models()] == ["One-Model:latest"]
    (folder / "deeper" / "two.gguf").write_bytes(recall_tiny.read_bytes())
    assert {model.name for model in catalogue.models()} == {"One-Model:latest", "two:latest"}
    assert catalogue.find("TWO").path.name == "two.gguf"


def test_numbers_as_ollama_writes_them() -> None:
    assert [human_number(n) for n in (12_000, 494_030_000, 8_030_261_248)] == ["12K", "494.03M", "8.0B"]


def test_showing_holds_nobody_up_and_reads_once(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, client, _ = served
    read: list[bool] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow(path: Path, *, arrays: bool) -> dict[str, Any]:
        read.append(arrays)
        begun.set()
        assert go_on.wait(30)
        return read_metadata(path, arrays=arrays)

    monkeypatch.setattr(details, "read_metadata", slow)
    for cache in (details._metadata, details._whole_metadata):
        cache.cache_clear()
    shown: list[Any] = []
    asking = threading.Thread(target=lambda: shown.append(client.post("/api/show", json={"model": "recall-tiny"})))
    asking.start()
    try:
        assert begun.wait(30)
        assert httpx.get(f"{client.base_url}/api/version", timeout=20).status_code == 200
        assert shown == []
    finally:
        go_on.set()
        asking.join(30)
    assert shown[0].json()["model_info"]["general.architecture"]
    for _ in range(3):
        client.post("/api/show", json={"model": "recall-tiny"})
        whole = client.post("/api/show", json={"model": "recall-tiny", "verbose": True}).json()
    assert read == [False, True]
    assert whole["model_info"]["tokenizer.ggml.tokens"]


# -- pulling


class Registry(BaseHTTPRequestHandler):
    """Speaks as Ollama's registry does; may break off once, or give wrong bytes."""

    manifest: ClassVar[bytes] = b""
    blobs: ClassVar[dict[str, bytes]] = {}
    break_at: ClassVar[int | None] = None
    ranges: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        *_, kind, name = self.path.split("/")
        known = {"latest": self.manifest} if kind == "manifests" else self.blobs
        found = known.get(name)
        if found is None:
            self.send_error(404)
            return
        start = 0
        if wanted := self.headers.get("Range"):
            type(self).ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(found) - start))
        self.end_headers()
        end = len(found)
        if kind == "blobs" and self.break_at is not None and len(found) > self.break_at:
            end, type(self).break_at = self.break_at, None
            self.close_connection = True
        self.wfile.write(found[start:end])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def registry(recall_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Registry]]:
    parts = {"model": recall_tiny.read_bytes(), "params": b'{"temperature": 0}', "system": b"You answer."}
    digests = {kind: f"sha256:{hashlib.sha256(data).hexdigest()}" for kind, data in parts.items()}
    layers = [
        {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digests[kind], "size": len(data)}
        for kind, data in parts.items()
    ]
    Registry.manifest = json.dumps({"schemaVersion": 2, "layers": layers}).encode()
    Registry.blobs = {digests[kind]: data for kind, data in parts.items()}
    Registry.break_at, Registry.ranges = None, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("MEMBANK_REGISTRY", f"http://127.0.0.1:{server.server_address[1]}")
    yield Registry
    server.shutdown()
    thread.join()
    server.server_close()


def test_pull(served: Any, registry: type[Registry]) -> None:
    _, client, known = served
    steps = list(known.pull("toy", stream=True))
    assert steps[0].status == "pulling manifest"
    assert steps[-1].status == "success"
    assert any(step.total and step.completed == step.total for step in steps)
    assert "toy:latest" in [model.model for model in known.list().models]
    assert client.post("/api/show", json={"model": "toy"}).json()["system"] == "You answer."
    assert known.generate("toy", "hello").done
    assert client.post("/api/pull", json={"model": "toy", "stream": False}).json() == {"status": "success"}


def test_a_pull_goes_on_where_it_broke_off(served: Any, registry: type[Registry]) -> None:
    engine, _, known = served
    registry.break_at = 1_000_000
    with pytest.raises(ollama.ResponseError):
        list(known.pull("toy", stream=True))
    assert [path for path in (engine.settings.store / "blobs").iterdir() if path.suffix == ".partial"]
    assert "toy:latest" not in [model.model for model in known.list().models]
    assert list(known.pull("toy", stream=True))[-1].status == "success"
    (wanted,) = registry.ranges
    assert 0 < int(wanted.removeprefix("bytes=").rstrip("-")) <= 1_000_000


def test_wrong_bytes_are_no_model(served: Any, registry: type[Registry]) -> None:
    engine, _, known = served
    registry.blobs = {digest: b"\0" * len(data) for digest, data in registry.blobs.items()}
    with pytest.raises(ollama.ResponseError, match="digest mismatch"):
        list(known.pull("toy", stream=True))
    assert not [path for path in (engine.settings.store / "blobs").iterdir() if path.stat().st_size > 1000]
    assert "toy:latest" not in [model.model for model in known.list().models]


def test_pulls_that_lead_nowhere(served: Any, registry: type[Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    _, client, _ = served
    missing = client.post("/api/pull", json={"model": "toy:other", "stream": False})
    assert missing.status_code == 404
    assert "file does not exist" in missing.json()["error"]
    monkeypatch.setenv("MEMBANK_REGISTRY", "http://127.0.0.1:9")
    unreachable = client.post("/api/pull", json={"model": "toy", "stream": False})
    assert unreachable.status_code == 502
    assert "cannot be reached" in unreachable.json()["error"]
