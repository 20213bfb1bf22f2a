"""Model references: paths, an Ollama store on disk, and a hub that is a real server on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from membank_llama.core.errors import ModelFileError, ModelNotFoundError
from membank_llama.gguf.ollama_store import OllamaModel, list_ollama_models
from membank_llama.gguf.references import resolve_model

ROOT = Path(__file__).resolve().parent.parent.parent
GGUF = b"GGUF" + bytes(range(200))


class Store:
    """A model store as Ollama lays it out."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, name: str, data: bytes, *, media: str = "model", separator: str = "-") -> Path:
        digest = hashlib.sha256(data).hexdigest()
        blob = self.root / "blobs" / f"sha256{separator}{digest}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        layers = [
            {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "0" * 64, "size": 1},
            {
                "mediaType": f"application/vnd.ollama.image.{media}",
                "digest": f"sha256:{digest}",
                "size": len(data),
            },
        ]
        manifest = self.root / "manifests" / name
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
        return blob


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    root = tmp_path / "ollama"
    (root / "manifests").mkdir(parents=True)
    monkeypatch.setenv("OLLAMA_MODELS", str(root))
    monkeypatch.setattr("membank_llama.gguf.ollama_store._SERVICE", tmp_path / "none")
    return Store(root)


def test_a_path(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "my model"
    path.write_bytes(GGUF)
    assert resolve_model(path) == path
    assert resolve_model(str(path)) == path


def test_a_real_model_by_its_ollama_name(stories_gguf: Path, store: Store) -> None:
    blob = store.add("registry.ollama.ai/library/stories/260k", stories_gguf.read_bytes())
    assert resolve_model("stories:260k") == blob
    assert resolve_model("stories:260k").read_bytes() == stories_gguf.read_bytes()


@pytest.mark.parametrize(
    ("place", "names"),
    [
        (
            "registry.ollama.ai/library/llama3.2/latest",
            [
                "llama3.2",
                "llama3.2:latest",
                "library/llama3.2",
                "registry.ollama.ai/library/llama3.2:latest",
                "LLama3.2",
            ],
        ),
        ("registry.ollama.ai/library/llama3.2/1b-q8_0", ["llama3.2:1b-q8_0", "llama3.2:1B-Q8_0"]),
        ("registry.ollama.ai/somebody/tiny/latest", ["somebody/tiny", "Somebody/tiny:latest"]),
        ("hf.co/owner/Repo-GGUF/Q4_K_M", ["hf.co/owner/Repo-GGUF:Q4_K_M", "hf.co/owner/repo-gguf:q4_k_m"]),
    ],
)
def test_names_as_ollama_writes_them(store: Store, place: str, names: list[str]) -> None:
    blob = store.add(place, GGUF)
    for name in names:
        assert resolve_model(name) == blob


def test_the_list_of_ollama_models(store: Store) -> None:
    assert list_ollama_models() == []
    old = store.add("registry.ollama.ai/library/old/latest", GGUF + b"1", separator=":" if os.name != "nt" else "-")
    own = store.add("registry.ollama.ai/me/own/v2", GGUF + b"2")
    hub = store.add("hf.co/owner/repo/Q8_0", GGUF + b"3")
    store.add("registry.ollama.ai/library/tensors/latest", b"{}", media="tensor")
    store.add("registry.ollama.ai/library/other/latest", b"not a model")
    (store.root / "manifests/registry.ollama.ai/library/old/broken").write_text("{")
    assert list_ollama_models() == [
        OllamaModel("hf.co/owner/repo:Q8_0", hub),
        OllamaModel("me/own:v2", own),
        OllamaModel("old:latest", old),
    ]


def test_without_an_ollama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "nowhere"))
    monkeypatch.setattr("membank_llama.gguf.ollama_store._SERVICE", tmp_path / "none")
    assert list_ollama_models() == []
    with pytest.raises(ModelNotFoundError, match=r"there is no Ollama.*ollama pull llama3"):
        resolve_model("llama3")


def test_both_stores_are_looked_into(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Store(tmp_path / "service")
    monkeypatch.setattr("membank_llama.gguf.ollama_store._SERVICE", service.root)
    there = service.add("registry.ollama.ai/library/there/latest", GGUF)
    assert resolve_model("there") == there
    assert [model.name for model in list_ollama_models()] == ["there:latest"]


def test_a_name_that_is_near(store: Store) -> None:
    store.add("registry.ollama.ai/library/qwen2.5/0.5b", GGUF)
    store.add("registry.ollama.ai/library/gemma3/1b", GGUF)
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model("qwen2.5:1b")
    message = str(caught.value)
    assert "qwen2.5:0.5b" in message
    assert str(store.root) in message
    assert "hf:owner/repo/file.gguf" in message


def test_ollama_models_that_cannot_be_used(store: Store) -> None:
    store.add("registry.ollama.ai/library/tensors/latest", b"{}", media="tensor")
    with pytest.raises(ModelFileError, match="names no GGUF"):
        resolve_model("tensors")
    store.add("registry.ollama.ai/library/half/latest", GGUF).unlink()
    with pytest.raises(ModelFileError, match="run `ollama pull` again"):
        resolve_model("half")
    store.add("registry.ollama.ai/library/other/latest", b"PK\3\4")
    with pytest.raises(ModelFileError, match="not a GGUF"):
        resolve_model("other")
    for content in (
        "{",
        "[]",
        '{"layers": 3}',
        '{"layers": [3, {"mediaType": "application/vnd.ollama.image.model"}]}',
    ):
        (store.root / "manifests/registry.ollama.ai/library/other/latest").write_text(content)
        with pytest.raises(ModelFileError):
            resolve_model("other")


def test_a_manifest_cannot_lead_out_of_the_store(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(GGUF)
    manifest = store.root / "manifests/registry.ollama.ai/library/bad/latest"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../secret"}
    manifest.write_text(json.dumps({"layers": [layer]}))
    with pytest.raises(ModelFileError):
        resolve_model("bad")
    for name in ("../../secret", "a/../b", "..:..", "a/b/c/d", ""):
        with pytest.raises(ModelNotFoundError):
            resolve_model(name)


def test_files_that_are_no_models(tmp_path: Path, store: Store) -> None:
    (tmp_path / "good-model.gguf").write_bytes(GGUF)
    (tmp_path / "bad.gguf").write_bytes(b"PK\3\4 something")
    with pytest.raises(ModelFileError, match=r"not a GGUF.*PK"):
        resolve_model(tmp_path / "bad.gguf")
    with pytest.raises(ModelFileError, match=r"is a directory; .*good-model\.gguf"):
        resolve_model(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"there is: good-model\.gguf"):
        resolve_model(tmp_path / "goodmodel.gguf")
    with pytest.raises(ModelNotFoundError, match="nor can the directory"):
        resolve_model(tmp_path / "missing" / "model.gguf")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=r"there is no \.gguf"):
        resolve_model(tmp_path / "empty")


def test_a_directory_does_not_hide_an_ollama_model(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = store.add("registry.ollama.ai/library/phi/latest", GGUF)
    (tmp_path / "phi").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("phi") == blob


@pytest.mark.parametrize("ref", ["hf:", "hf:owner/repo", "hf:owner/file.gguf", "hf:owner/repo/model.bin"])
def test_hub_references_that_name_no_file(ref: str) -> None:
    with pytest.raises(ModelNotFoundError, match="write hf:owner/repo/file"):
        resolve_model(ref)


class Hub(BaseHTTPRequestHandler):
    """What the hub answers for one repository, at `main` and at the revision `v1`."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {
        "small.gguf": GGUF,
        "sub/part-00001-of-00002.gguf": GGUF,
        "sub/part-00002-of-00002.gguf": b"GGUF2",
    }

    def answer(self, body: bool) -> None:
        for revision in ("main", "v1"):
            prefix = f"/owner/repo/resolve/{revision}/"
            if self.path.startswith(prefix) and self.path[len(prefix) :] in self.files:
                self.send_file(self.files[self.path[len(prefix) :]] + revision.encode(), body)
                return
        known = self.path.startswith("/owner/repo/resolve/")
        kind = ("EntryNotFound" if "/main/" in self.path else "RevisionNotFound") if known else "RepoNotFound"
        if self.path.startswith("/gated/"):
            kind = "GatedRepo"
        self.send_response(403 if kind == "GatedRepo" else 404)
        self.send_header("X-Error-Code", kind)
        self.send_header("X-Error-Message", kind)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_file(self, data: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0123456789" * 4)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Broken:
    """Takes every connection and closes it at once; counts them."""

    def __init__(self) -> None:
        self.asked = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            taken, _ = self._socket.accept()
            with taken:
                if not taken.recv(4):
                    return
            self.asked += 1

    def __enter__(self) -> Broken:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        socket.create_connection(self._socket.getsockname()).close()
        self._thread.join()
        self._socket.close()


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(endpoint: str, home: Path, ref: str, *, progress: bool = True, **environment: str) -> tuple[str, str]:
    """Resolve in a process of its own (the hub's library reads the environment once): outcome and stderr."""
    program = (
        "import sys, time\n"
        # the library would try six times, with 23 seconds between
        "time.sleep = lambda seconds: sys.exit('it waits for another try')\n"
        "from membank_llama.core.errors import MembankError\n"
        "from membank_llama.gguf.references import resolve_model\n"
        "try:\n"
        f"    sys.stdout.write(str(resolve_model(sys.argv[1], progress={progress})))\n"
        "except MembankError as error:\n"
        "    sys.stdout.write(f'{type(error).__name__}: {error}')\n"
    )
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))},
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", program, ref],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_download_from_the_hub(hub: str, tmp_path: Path) -> None:
    # the library shows no bar where there is no terminal, unless told so
    path, bar = ask(hub, tmp_path, "hf:owner/repo/small.gguf", TQDM_POSITION="-1")
    assert Path(path).name == "small.gguf"
    assert Path(path).read_bytes() == GGUF + b"main"
    assert "100%" in bar
    again, _ = ask("http://127.0.0.1:9", tmp_path, "hf:owner/repo/small.gguf", HF_HUB_OFFLINE="1")
    assert again == path, "offline, from the cache"


def test_a_download_of_a_revision_in_parts_without_a_bar(hub: str, tmp_path: Path) -> None:
    path, bar = ask(hub, tmp_path, "hf:owner/repo/sub/part-00001-of-00002.gguf@v1", progress=False, TQDM_POSITION="-1")
    assert Path(path).read_bytes() == GGUF + b"v1"
    assert Path(path).with_name("part-00002-of-00002.gguf").read_bytes() == b"GGUF2v1"
    assert "100%" not in bar


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("hf:owner/repo/large.gguf", "ModelNotFoundError: owner/repo has no such file"),
        ("hf:owner/repo/small.gguf@v9", "ModelNotFoundError: owner/repo has no such revision"),
        ("hf:owner/other/small.gguf", "ModelNotFoundError: the hub knows no repository owner/other"),
        ("hf:gated/repo/small.gguf", "ModelError: gated/repo asks for its terms"),
        ("hf:owner/-bad-/small.gguf", "ModelNotFoundError: 'hf:owner/-bad-/small.gguf' is no reference"),
    ],
)
def test_what_the_hub_does_not_have(hub: str, tmp_path: Path, ref: str, expected: str) -> None:
    outcome, _ = ask(hub, tmp_path, ref)
    assert outcome.startswith(expected)
    assert not list(tmp_path.rglob("*.gguf"))


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    outcome, _ = ask("http://127.0.0.1:9", tmp_path, "hf:owner/repo/small.gguf")
    assert outcome.startswith("ModelError: ")
    assert "the hub cannot be reached" in outcome
    assert "HF_ENDPOINT" in outcome and "give its path" in outcome
    offline, _ = ask("http://127.0.0.1:9", tmp_path, "hf:owner/repo/small.gguf", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in offline


def test_a_hub_that_breaks_off_is_asked_once_and_the_cache_serves(hub: str, tmp_path: Path) -> None:
    path, _ = ask(hub, tmp_path, "hf:owner/repo/small.gguf")
    with Broken() as broken:
        outcome, _ = ask(broken.address, tmp_path, "hf:owner/repo/sub/part-00001-of-00002.gguf")
        assert "the hub cannot be reached" in outcome
        assert broken.asked == 1
        assert ask(broken.address, tmp_path, "hf:owner/repo/small.gguf")[0] == path
        assert broken.asked == 2
