"""What the proxy knows of a llama-server behind it: that it is one, its contexts, its tokens, its embedding model."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import httpx
import pytest
from support.llama_server import serving
from support.proxies import user
from support.serve_process import free_port, started
from test_told_and_asked import FACT, stored

from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.adapters.openai_client import OpenAIAdapter
from membank_llama.core.errors import ModelError, ModelNotFoundError
from membank_llama.memory.bank import MemBank
from membank_llama.server.proxy.remote_vocabulary import RemoteVocabulary
from membank_llama.server.proxy.tokenizers import EstimatedTokenizer
from membank_llama.server.proxy.upstream_server import UpstreamServer

TEXTS = ("My sister Ana lives in Porto.", "", "Grüße aus Köln 🦊", "a<|im_end|>b", "x" * 3000)


def test_recognised_with_its_context_and_its_file(smollm2_server: str, smollm2_gguf: Path) -> None:
    server = UpstreamServer(smollm2_server)
    kind = server.recognise()
    assert kind is not None and kind.name == "llama-server"
    assert str(server) == f"{kind} at {smollm2_server}"
    assert server.context_of("anything") is None
    assert server.file_of("anything") == smollm2_gguf
    assert server.context_of("anything") == 2048
    server.close()


def test_tokens_are_those_of_the_file(smollm2_server: str, smollm2_gguf: Path) -> None:
    server, exact = UpstreamServer(smollm2_server), FileVocabulary(smollm2_gguf)
    server.recognise()
    assert server.tokenizes
    assert server.counts("smollm2", TEXTS) == [exact.count(text) for text in TEXTS]
    remote = RemoteVocabulary(server, "smollm2").with_context(512, EstimatedTokenizer(512))
    assert [remote.count(text) for text in TEXTS] == [exact.count(text) for text in TEXTS]
    assert remote.n_ctx == 512
    assert remote.is_clean(FACT)
    # what is a token to this model it says itself, be it on no list
    unlisted = RemoteVocabulary(server, "smollm2").with_context(512, EstimatedTokenizer(512, ()))
    assert unlisted.is_clean(FACT) and not unlisted.is_clean("<repo_name>") and not exact.is_clean("<repo_name>")
    exact.close()
    server.close()
    # nobody there any more: what was counted is known, the rest is estimated
    again = RemoteVocabulary(UpstreamServer("http://127.0.0.1:9"), "smollm2").with_context(512, EstimatedTokenizer(512))
    assert again.count("x" * 30) == EstimatedTokenizer(512).count("x" * 30) == 10


def test_one_that_comes_up_later_is_noticed(
    tmp_path: Path, binary: Path, smollm2_gguf: Path, recall_tiny: Path
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    body = {"model": "x", "messages": [user(FACT)], "max_tokens": 4}
    with started(tmp_path, "--upstream", address, "--encoder", recall_tiny) as (_, client):
        refused = client.post("/v1/chat/completions", json=body)
        assert refused.status_code == 502
        assert refused.json()["error"]["message"].startswith(f"could not connect to {address}")
        assert client.get("/membank/status").json()["upstream"] == f"nothing that is known at {address}"
        with serving(binary, tmp_path, "--model", smollm2_gguf, "--ctx-size", 512, "--parallel", 1, port=port):
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            until = time.monotonic() + 60
            while not (said := client.get("/membank/status").json()["upstream"]).startswith("llama-server"):
                assert time.monotonic() < until, said
                time.sleep(0.2)
        gone = client.post("/v1/chat/completions", json=body)
        assert gone.json()["error"]["message"].startswith(f"could not connect to llama-server at {address}")
        assert stored(client) >= 1


def test_a_router_is_asked_for_each_model(tmp_path: Path, binary: Path, smollm2_gguf: Path, recall_tiny: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "smollm2.gguf").symlink_to(smollm2_gguf)
    shutil.copy(recall_tiny, models / "tiny.gguf")
    with (
        serving(binary, tmp_path, "--models-dir", models, "--ctx-size", 768, "--parallel", 1) as url,
        started(tmp_path, "--upstream", url, "--encoder", recall_tiny) as (_, client),
    ):
        status = client.get("/membank/status").json()["upstream"]
        assert status.startswith("llama-server") and status.endswith(f"(router) at {url}")
        server = UpstreamServer(url)
        server.look("tiny")
        # it is not loaded for the asking
        assert server.context_of("tiny") is None
        body = {"model": "tiny", "messages": [user(FACT)], "max_tokens": 4}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        server.look("tiny")
        assert server.context_of("tiny") == 768
        assert server.context_of("smollm2") is None
        assert server.file_of("tiny") == models / "tiny.gguf"
        assert server.counts("tiny", ["Porto"]) is not None
        server.close()


def test_its_embedding_model_encodes(tmp_path: Path, binary: Path, minilm_gguf: Path, smollm2_server: str) -> None:
    long = "The boiler was serviced in March. " * 200
    with serving(binary, tmp_path, "--model", minilm_gguf, "--embeddings", "--parallel", 1) as url:
        with OpenAIAdapter(url) as adapter, MemBank(adapter, tmp_path / "bank") as bank:
            assert adapter.hidden_dim == 384
            bank.ingest(FACT)
            bank.ingest("The boiler was serviced in March.")
            bank.ingest(long)
            assert bank.recall("In which town does Ana live?", 1)[0].text == FACT
            # a text that is longer than it takes, by its beginning
            assert adapter.encode("boiler " * 4000).shape == (384,)
            made = adapter.model_id()
        with pytest.raises(ModelNotFoundError, match="no model nobody"):
            OpenAIAdapter(url, "nobody")
    # the same wherever it is served from
    with serving(binary, tmp_path, "--model", minilm_gguf, "--embeddings", "--ctx-size", 256) as url:
        with OpenAIAdapter(url) as adapter:
            assert adapter.model_id() == made
        arguments = ("--upstream", smollm2_server, "--encoder", url, "--bank", tmp_path / "bank")
        with started(tmp_path, *arguments) as (_, client):
            status = client.get("/membank/status").json()
            assert status["encoder_id"] == made
            assert "through llama-server" in status["encoder"]
            assert status["memories"] == 3
    with pytest.raises(ModelError, match="--embeddings"):
        OpenAIAdapter(smollm2_server)


def test_its_embedding_model_is_found_and_waited_for(tmp_path: Path, binary: Path, minilm_gguf: Path) -> None:
    port = free_port()
    arguments = ("--model", minilm_gguf, "--embeddings", "--alias", "all-minilm")
    url = f"http://127.0.0.1:{port}"
    with (
        serving(binary, tmp_path, *arguments, port=port),
        started(tmp_path, "--upstream", url, "--deadline", 30_000) as (_, client),
    ):
        assert client.get("/membank/status").json()["encoder"] == "all-minilm (through llama-server)"
        tell(client, FACT)
        assert stored(client) == 1
    with started(tmp_path, "--upstream", url, "--deadline", 30_000) as (_, client):
        asked = {"model": "", "messages": [user("In which town does Ana live?")]}
        assert client.post("/membank/recall", json=asked).json()["state"] == "degraded"
        tell(client, "The boiler was serviced in March.")
        with serving(binary, tmp_path, *arguments, port=port):
            assert stored(client) == 2
            until = time.monotonic() + 60
            while (found := client.post("/membank/recall", json=asked).json())["state"] != "on":
                assert time.monotonic() < until, found
                time.sleep(0.2)
            assert FACT in found["messages"][0]["content"]
    assert "all-minilm (through llama-server) is waited for" in (tmp_path / "serve.log").read_text(encoding="utf-8")


def tell(client: httpx.Client, text: str) -> None:
    assert client.post("/membank/learn", json={"model": "", "messages": [user(text)]}).json() == {"queued": 1}
