"""`membank serve` as people start it: a process of its own, signals, and what it says at its start."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.asgi_server import serve
from support.proxies import GREEDY, engine_of, user
from support.serve_process import environment, started

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.adapters.ollama_client import OllamaAdapter
from membank_llama.cli.commands.serve import _finder
from membank_llama.core.errors import ModelError, ModelNotFoundError
from membank_llama.memory.bank import MemBank
from membank_llama.server.engine.library.model_store import ModelStore

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"


def say(client: httpx.Client, text: str) -> httpx.Response:
    body = {"model": "recall-tiny", "messages": [user(text)], "stream": False, "options": GREEDY}
    return client.post("/api/chat", json=body)


def test_a_graceful_stop_loses_no_memory(tmp_path: Path, recall_tiny: Path) -> None:
    with started(tmp_path, "--model", recall_tiny) as (process, client):
        for number in range(12):
            assert say(client, f"The code of locker {number} is {7000 + number}.").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with MemBank(None, tmp_path / "bank") as bank:
        texts = {memory.text for memory in bank.memories()}
    assert {f"The code of locker {number} is {7000 + number}." for number in range(12)} <= texts


def test_told_killed_started_again_and_asked(tmp_path: Path, recall_tiny: Path) -> None:
    with started(tmp_path, "--model", recall_tiny) as (process, client):
        assert say(client, FACT).status_code == 200
        while client.get("/membank/status").json()["waiting_to_be_stored"]:
            time.sleep(0.02)
        process.kill()
        process.wait(30)
    with started(tmp_path, "--model", recall_tiny) as (_, client):
        answer = say(client, QUESTION)
        assert answer.json()["message"]["content"] == "Your sister lives in Porto."
        status = client.get("/membank/status").json()
    assert status["engine"] == "llama.cpp"
    assert status["encoder"] == "recall-tiny"
    said = (tmp_path / "serve.log").read_text(encoding="utf-8")
    assert re.search(r"clients use\s+http://127\.0\.0\.1:\d+", said)
    assert re.search(r"encoder\s+recall-tiny", said)


def test_in_front_of_another_with_logs_for_machines(tmp_path: Path, recall_tiny: Path) -> None:
    with (
        serve(engine_of(tmp_path, recall_tiny)) as upstream,
        started(tmp_path, "--upstream", upstream, "--log-format", "json") as (_, client),
    ):
        assert say(client, FACT).headers["x-membank"] == "none"
        while client.get("/membank/status").json()["waiting_to_be_stored"]:
            time.sleep(0.02)
        assert say(client, QUESTION).headers["x-membank"] == "on"
        status: dict[str, Any] = client.get("/membank/status").json()
    # neither a GGUF nor an embedding model at hand: words alone, and it says so
    assert status["encoder"] == "words alone"
    lines = [line for line in (tmp_path / "serve.log").read_text().splitlines() if line.startswith("{")]
    records = [json.loads(line) for line in lines]
    assert any("POST /api/chat 200" in record["message"] for record in records)
    assert all(record.keys() >= {"time", "level", "message"} for record in records)


def test_the_log_cannot_be_forged(tmp_path: Path, recall_tiny: Path) -> None:
    with started(tmp_path, "--model", recall_tiny) as (_, client):
        client.get("/x%0A12:00:00%20INFO%20forged%20%1b%5B31mred")
        client.post("/api/chat", json={"model": "a\n12:00:00 INFO forged", "messages": [user("Hello.")]})
    lines = (tmp_path / "serve.log").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.startswith("12:00:00 INFO forged")]
    assert [line for line in lines if r"/x\n12:00:00 INFO forged \x1b[31mred" in line]
    assert not any("\x1b" in line for line in lines)


def test_a_clients_name_is_no_path(tmp_path: Path, recall_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, *_, **__: asked.append(repo))
    (tmp_path / "near.gguf").write_bytes(recall_tiny.read_bytes())
    os.mkfifo(tmp_path / "pipe.gguf")
    store = ModelStore(tmp_path / "ollama")
    store.write("known", [store.adopt(recall_tiny)], store.put("config", b"{}"))
    find = _finder(object())
    for name in (str(recall_tiny), "near.gguf", "./near.gguf", "~/near.gguf", "pipe.gguf", "hf:a/b/c.gguf", "hf:a/b",
                 "../ollama/known", "/etc/passwd", "", "known/../known", "a/b/c/d", "a\0b"):  # fmt: skip
        assert find(name) is None, name
    assert asked == []
    assert find("KNOWN") == find("known:latest") == store.blob(store.adopt(recall_tiny).digest)


def test_without_memory(tmp_path: Path, recall_tiny: Path) -> None:
    with started(tmp_path, "--model", recall_tiny, "--no-memory") as (_, client):
        assert "x-membank" not in say(client, FACT).headers
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "no/such.gguf"], "there is no file"),
        (["--models", "no-such-folder"], "is no folder"),
        (["--upstream", "127.0.0.1:11434"], "is no address"),
        (["--upstream", "http://127.0.0.1:1", "--models", "."], "not both"),
        (["--tokens", "no-such-file"], "cannot be read"),
        (["--log-format", "xml"], "text or json"),
    ],
)
def test_what_cannot_be_started(tmp_path: Path, arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "membank_llama", "serve", "--bank", str(tmp_path / "bank"), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(tmp_path), cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode in (1, 2)
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "bank").exists()


def test_a_port_that_is_taken(tmp_path: Path, recall_tiny: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "membank_llama", "serve", "--port", str(port), "--model", str(recall_tiny)]
        done = subprocess.run(
            [*command, "--bank", str(tmp_path / "bank")],
            capture_output=True,
            text=True,
            env=environment(tmp_path),
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    # in one line, and nobody is told to come
    assert f"127.0.0.1:{port} cannot be listened on" in done.stderr and "--port" in done.stderr
    assert "clients use" not in done.stderr and "[Errno" not in done.stderr


# -- encoders without a file


def test_an_embedding_model_of_the_upstream(tmp_path: Path, minilm_gguf: Path, recall_tiny: Path) -> None:
    with (
        serve(engine_of(tmp_path, minilm_gguf, recall_tiny, max_loaded=2)) as url,
        OllamaAdapter(url) as adapter,
        MemBank(adapter, tmp_path / "bank") as bank,
    ):
        assert adapter.hidden_dim == 384
        bank.ingest(FACT)
        bank.ingest("The boiler was serviced in March.")
        assert bank.recall("In which town is Ana's home?", 1)[0].text == FACT
        with pytest.raises(ModelNotFoundError):
            OllamaAdapter(url, "no-such-model")
        with pytest.raises(ModelError):
            OllamaAdapter(url, "recall-tiny")
    with pytest.raises(ModelError, match="does not answer"):
        OllamaAdapter("http://127.0.0.1:9")


def test_words_alone(tmp_path: Path) -> None:
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        bank.ingest(FACT)
        bank.ingest("The boiler was serviced in March.")
        assert bank.recall(QUESTION, 1)[0].text == FACT
        assert bank.model.id.startswith("words-1-")
