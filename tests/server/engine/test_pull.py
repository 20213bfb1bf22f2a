"""What a pull may not: reach into a private network, follow where it is led, fill memory or disk, tell what it saw."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.engines import running

from membank_llama.server.asgi import WireError
from membank_llama.server.engine.library import downloads, model_store, network_policy
from membank_llama.server.engine.library.network_policy import is_public

SECRET = "AWS_SECRET=abcd1234"
BLOB = b"GGUF" + b"\0" * 200_000
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
TYPE = "application/vnd.ollama.image.model"


def manifest(digest: str = DIGEST, size: int = len(BLOB), count: int = 1) -> bytes:
    layer = {"mediaType": TYPE, "digest": digest, "size": size}
    return json.dumps({"schemaVersion": 2, "layers": [layer] * count}).encode()


class Hostile(BaseHTTPRequestHandler):
    """A registry whose answers depend on the name of the model."""

    seen: list[str]
    inner: str

    def do_GET(self) -> None:
        self.seen.append(self.path)
        _, _, _, model, kind, _ = self.path.split("/")
        getattr(self, f"{model}_{kind}", self.whole)()

    def whole(self) -> None:
        self.told(manifest() if "/manifests/" in self.path else BLOB)

    def told(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def secret_manifests(self) -> None:
        self.told(SECRET.encode(), 403)

    def prose_manifests(self) -> None:
        self.told(SECRET.encode())

    def led_manifests(self) -> None:
        self.told(b"", 302, Location=f"{self.inner}/latest/meta-data")

    def scheme_manifests(self) -> None:
        self.told(b"", 302, Location="file:///etc/passwd")

    def loop_manifests(self) -> None:
        self.told(b"", 302, Location=self.path)

    def bomb_manifests(self) -> None:
        self.told(gzip.compress(b"\0" * (64 << 20)), Content_Encoding="gzip")

    def long_manifests(self) -> None:
        self.endless(b" " * (1 << 16))

    def many_manifests(self) -> None:
        self.told(manifest(count=5000))

    def huge_manifests(self) -> None:
        self.told(manifest(size=10**15))

    def negative_manifests(self) -> None:
        self.told(manifest(size=-1))

    def more_manifests(self) -> None:
        self.told(manifest(size=100_000))

    def more_blobs(self) -> None:
        self.endless(b"\0" * (1 << 16))

    def less_manifests(self) -> None:
        self.told(manifest(size=len(BLOB) + 1))

    def packed_blobs(self) -> None:
        self.told(gzip.compress(BLOB), Content_Encoding="gzip")

    def wrong_blobs(self) -> None:
        self.told(b"x" * len(BLOB))

    def slow_blobs(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BLOB)))
        self.end_headers()
        for start in range(0, len(BLOB), 20_000):
            time.sleep(0.05)
            self.wfile.write(BLOB[start : start + 20_000])

    def endless(self, piece: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(2000):
                self.wfile.write(piece)
        except OSError:
            pass

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def registry(inner: str = "") -> Iterator[tuple[str, list[str]]]:
    """A registry's address, and the paths it was asked for."""
    seen: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Hostile,), {"seen": seen, "inner": inner}))
    # closing waits for what is being answered
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def pull(client: httpx.Client, host: str, model: str) -> httpx.Response:
    return client.post("/api/pull", json={"model": f"{host}/x/{model}", "insecure": True, "stream": False})


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
     "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
     "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"],
)  # fmt: skip
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "104.16.0.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


def test_a_private_network_is_not_asked(tmp_path: Path) -> None:
    with registry() as (host, seen), running(tmp_path) as (_, client):
        port = host.partition(":")[2]
        names = [host, f"localhost:{port}", f"0x7f.1:{port}", f"2130706433:{port}", f"127.1:{port}", "no.such.invalid"]
        answers = [pull(client, name, "secret") for name in names]
        assert {answer.status_code for answer in answers} == {403}
        assert seen == []
        # an open port, a closed one and a name that is none tell nothing of each other
        closed = pull(client, "127.0.0.1:9", "secret").json()["error"]
        assert closed.replace("127.0.0.1:9", host).split(";")[1:] == answers[0].json()["error"].split(";")[1:]
    assert left(tmp_path) == []


def test_a_private_registry_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry() as (host, seen), running(tmp_path) as (_, client):
        monkeypatch.setenv(network_policy.PRIVATE, f"other.example, {host}")
        assert pull(client, host, "toy").json() == {"status": "success"}
        assert len(seen) == 2
        assert pull(client, f"localhost:{host.partition(':')[2]}", "toy").status_code == 403
    assert f"sha256-{DIGEST[7:]}" in left(tmp_path)


@pytest.mark.parametrize("host", ["a:b", "a:99999", "a:1:2", "-", "a_b:1x"])
def test_hosts_that_are_none(tmp_path: Path, host: str) -> None:
    with running(tmp_path) as (_, client):
        answer = pull(client, host, "toy")
    assert 400 <= answer.status_code < 500


REFUSED = {
    "secret": "403", "prose": "sent is none", "led": "leads elsewhere", "scheme": "leads elsewhere",
    "loop": "in circles", "bomb": "compressed", "long": "far too large", "many": "far too many", "huge": "make room",
    "more": "more than it said", "less": "broke off", "packed": "compressed", "wrong": "digest mismatch",
    "negative": "no parts",
}  # fmt: skip


@pytest.mark.parametrize(("model", "said"), REFUSED.items(), ids=REFUSED)
def test_what_a_hostile_registry_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, said: str) -> None:
    with registry() as (inner, asked), registry(f"http://{inner}") as (host, _), running(tmp_path) as (_, client):
        monkeypatch.setenv(network_policy.PRIVATE, f"{host},{inner}")
        answer = pull(client, host, model)
        error = answer.json()["error"]
        assert answer.status_code >= 500
        assert said in error
        assert SECRET not in error
        assert asked == []
        # what may be gone on with is kept, nothing else
        assert len(left(tmp_path)) == (1 if model == "less" else 0)
        assert client.get("/api/tags").json()["models"] == []


def test_what_speaks_no_http_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener, running(tmp_path) as (_, client):
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        host = f"127.0.0.1:{listener.getsockname()[1]}"

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2 banner\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=greet)
        thread.start()
        monkeypatch.setenv(network_policy.PRIVATE, host)
        answer = pull(client, host, "toy")
        thread.join(30)
    assert answer.status_code == 502
    assert "banner" not in answer.text
    assert "OpenSSH" not in answer.text


def test_two_pulls_of_one_model_share_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry() as (host, seen), running(tmp_path) as (_, client):
        monkeypatch.setenv(network_policy.PRIVATE, host)
        answers: list[httpx.Response] = []
        threads = [threading.Thread(target=lambda: answers.append(pull(client, host, "slow"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [answer.json() for answer in answers] == [{"status": "success"}] * 4
        assert len([path for path in seen if "/blobs/" in path]) == 1
        assert [name for name in left(tmp_path) if "partial" in name] == []


def test_another_process_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry() as (host, _), running(tmp_path) as (_, client):
        monkeypatch.setenv(network_policy.PRIVATE, host)
        monkeypatch.setattr(downloads.FileLock, "acquire", _held)
        answer = pull(client, host, "toy")
    assert answer.status_code == 409
    assert "another process" in answer.json()["error"]


def _held(*_: Any, **__: Any) -> None:
    raise downloads.Timeout("held")


def test_a_pull_that_is_given_up_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry() as (host, seen), running(tmp_path) as (engine, client):
        monkeypatch.setenv(network_policy.PRIVATE, host)
        body = {"model": f"{host}/x/slow", "insecure": True}
        with client.stream("POST", "/api/pull", json=body) as stream:
            for line in stream.iter_lines():
                if json.loads(line).get("completed"):
                    break
        deadline = time.monotonic() + 20
        while engine._service.downloads._running and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not engine._service.downloads._running
        assert pull(client, host, "slow").json() == {"status": "success"}
        assert len([path for path in seen if "/blobs/" in path]) == 2


def test_a_disk_is_never_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "KEPT_FREE", 1 << 60)
    with registry() as (host, seen), running(tmp_path) as (_, client):
        monkeypatch.setenv(network_policy.PRIVATE, host)
        assert pull(client, host, "toy").status_code == 507
        assert len(seen) == 1
        uploaded = client.post(f"/api/blobs/{DIGEST}", content=BLOB)
        assert uploaded.status_code == 507
    assert left(tmp_path) == []


def test_old_beginnings_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name, age in (("sha256-a.partial", 15 * 86_400), ("sha256-b.partial", 60)):
        (blobs / name).write_bytes(b"x")
        os.utime(blobs / name, (time.time() - age,) * 2)
    with registry() as (host, _), running(tmp_path) as (_, client):
        monkeypatch.setenv(network_policy.PRIVATE, host)
        assert pull(client, host, "toy").json() == {"status": "success"}
    assert [name for name in left(blobs) if name.endswith(".partial")] == ["sha256-b.partial"]


def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the one connected to: a name may lead elsewhere a moment later."""
    looked: list[str] = []

    def known_once(name: str, port: int) -> list[str]:
        looked.append(name)
        return ["127.0.0.1"]

    async def go(port: str) -> tuple[int, bytes]:
        url = f"http://rebound.example:{port}/v2/x/toy/manifests/a"
        with pytest.raises(WireError) as refused:
            async with network_policy.asked(url, {}):
                pass
        assert refused.value.status == 403
        monkeypatch.setenv(network_policy.PRIVATE, f"rebound.example:{port}")
        async with network_policy.asked(url, {}) as response:
            return response.status_code, await response.aread()

    monkeypatch.setattr(network_policy, "_resolved", known_once)
    with registry() as (host, _):
        assert asyncio.run(go(host.partition(":")[2])) == (200, manifest())
    assert looked == ["rebound.example"] * 2


def test_names_that_nobody_answers_for_hold_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()

    def never(name: str, port: int) -> list[str]:
        held.wait(120)
        return []

    monkeypatch.setattr(network_policy, "_resolved", never)
    monkeypatch.setattr(network_policy, "LOOKUP_SECONDS", 120.0)
    with running(tmp_path) as (_, client), ThreadPoolExecutor(20) as pool:
        url = f"{client.base_url}/api/pull"
        body = {"model": "slow.example/x/y", "stream": False}
        asked = [pool.submit(httpx.post, url, json=body, timeout=60) for _ in range(20)]
        try:
            assert client.get("/api/tags").status_code == 200
            assert client.post("/api/show", json={"model": "none"}).status_code == 404
            assert not any(answer.done() for answer in asked)
        finally:
            held.set()
        assert {answer.result().status_code for answer in asked} == {403}


def test_so_many_at_once_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MOST_RUNNING", 0)
    with registry() as (host, _), running(tmp_path) as (_, client):
        monkeypatch.setenv(network_policy.PRIVATE, host)
        assert pull(client, host, "toy").status_code == 503
