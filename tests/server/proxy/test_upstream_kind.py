"""Which program is behind an address, and what it tells: by the answers that each of them gives, over real sockets.

llama.cpp's own llama-server is asked in tests/servers; here are the others, and what is wrong with any.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from membank_llama.adapters.openai_client import OpenAIAdapter
from membank_llama.core.errors import EncodingError, ModelError
from membank_llama.server.proxy import upstream_server
from membank_llama.server.proxy.remote_vocabulary import MOST_REQUESTS, RemoteVocabulary
from membank_llama.server.proxy.tokenizers import ContextLengths, EstimatedTokenizer, Tokenizers
from membank_llama.server.proxy.upstream import Upstream
from membank_llama.server.proxy.upstream_kind import UpstreamKind, unreached
from membank_llama.server.proxy.upstream_server import UpstreamServer

LM_STUDIO = {
    "object": "list",
    "data": [
        {
            "id": "qwen3-4b",
            "type": "llm",
            "state": "loaded",
            "max_context_length": 32768,
            "loaded_context_length": 6144,
        },
        {"id": "text-embedding-nomic", "type": "embeddings", "state": "not-loaded", "max_context_length": 2048},
    ],
}
ROUTER = {
    "role": "router",
    "default_generation_settings": {"n_ctx": 0},
    "build_info": "b9000-abc",
    "model_path": "none",
}
CHILD = {"default_generation_settings": {"n_ctx": 3000}, "model_path": "/no/such.gguf", "build_info": "b9000-abc"}
LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


class Answers:
    """What a server says by path, and what it was asked; a status other than 200 comes with the answer."""

    def __init__(self, says: dict[str, Any], otherwise: tuple[int, Any], name: str = "test") -> None:
        self.says, self.otherwise, self.name = says, otherwise, name
        self.asked: list[str] = []

    def of(self, path: str) -> tuple[int, Any]:
        self.asked.append(path)
        found = self.says.get(path, self.otherwise)
        return found if isinstance(found, tuple) else (200, found)


@contextmanager
def serving(answers: Answers) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = answers.name, ""

        def do_GET(self) -> None:
            status, said = answers.of(self.path)
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def version_string(self) -> str:
            return answers.name

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


NOT_FOUND = (404, {"error": "not found"})
# LM Studio says 200 to everything
UNEXPECTED = (200, {"error": "Unexpected endpoint or method."})

KINDS = [
    (Answers({"/api/version": {"version": "0.32.0"}}, NOT_FOUND), "Ollama 0.32.0"),
    (Answers({"/props": CHILD}, NOT_FOUND), "llama-server b9000"),
    (Answers({"/props": ROUTER}, NOT_FOUND), "llama-server b9000 (router)"),
    (Answers({"/props": (503, LOADING)}, NOT_FOUND, "llama.cpp"), "llama-server"),
    (Answers({"/api/v0/models": LM_STUDIO}, UNEXPECTED), "LM Studio"),
    (Answers({"/v1/models": {"data": [{"id": "m", "max_model_len": 8000}]}}, NOT_FOUND), "OpenAI-compatible server"),
    (Answers({}, NOT_FOUND), None),
    (Answers({}, UNEXPECTED), None),
    (Answers({}, (200, b"<html>")), None),
    (Answers({"/v1/models": {"data": ["m", 7]}, "/props": [1]}, NOT_FOUND), None),
]


@pytest.mark.parametrize(("answers", "name"), KINDS, ids=lambda value: value if isinstance(value, str) else "-")
def test_recognised_by_what_it_says(answers: Answers, name: str | None) -> None:
    with serving(answers) as url:
        server = UpstreamServer(url)
        kind = server.recognise()
        assert (None if kind is None else str(kind)) == name
        assert str(server) == f"{name or 'nothing that is known'} at {url}"
        server.close()
        # after that nothing is asked, and nothing raised
        server.look()
        assert server.context_of("m") is None


@pytest.mark.parametrize(
    ("answers", "contexts"),
    [
        (Answers({"/api/version": {"version": "1"},
                  "/api/ps": {"models": [{"model": "a:latest", "context_length": 9000}, {"name": "b"}, 7]}}, NOT_FOUND),
         {"a": 9000, "a:latest": 9000, "b": None}),
        (Answers({"/props": CHILD}, NOT_FOUND), {"whatever": 3000, "": 3000}),
        (Answers({"/props": ROUTER, "/props?model=a%2Fb&autoload=false": CHILD}, NOT_FOUND), {"a/b": 3000, "c": None}),
        (Answers({"/api/v0/models": LM_STUDIO}, UNEXPECTED), {"qwen3-4b": 6144, "text-embedding-nomic": None}),
        (Answers({"/v1/models": {"data": [{"id": "m", "max_model_len": 8000}, {"id": "n", "max_model_len": "x"}]}},
                 NOT_FOUND), {"m": 8000, "n": None}),
    ],
    ids=["Ollama", "llama-server", "router", "LM Studio", "vLLM"],
)  # fmt: skip
def test_contexts_come_from_where_each_tells_them(answers: Answers, contexts: dict[str, int | None]) -> None:
    with serving(answers) as url:
        server = UpstreamServer(url)
        for model in contexts:
            server.look(model)
        assert {model: server.context_of(model) for model in contexts} == contexts
        # a file that is not on this machine is none
        assert server.file_of("a/b") is None
        server.close()


def test_a_context_is_known_before_the_first_answer() -> None:
    with serving(Answers({"/props": CHILD}, NOT_FOUND)) as url:
        upstream = Upstream(url)
        assert ContextLengths(upstream).of("m") is None
        upstream.server.look()
        assert ContextLengths(upstream).of("m") == 3000
        asyncio.run(upstream.close())


def test_another_one_in_its_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_server, "AGAIN_SECONDS", 0.0)
    answers = Answers({"/props": (503, LOADING)}, NOT_FOUND, "llama.cpp")
    with serving(answers) as url:
        server = UpstreamServer(url)
        server.recognise()
        assert not server.is_known
        # its model is loaded now
        answers.says = {"/props": CHILD}
        server.look("m")
        assert server.is_known and server.kind == UpstreamKind("llama-server", "b9000")
        assert server.context_of("m") == 3000
        asked = len(answers.asked)
        server.recognise()
        assert len(answers.asked) == asked
        server.lost()
        answers.says = {"/api/version": {"version": "0.32.0"}}
        server.look("m")
        assert str(server.kind) == "Ollama 0.32.0"
        # what the other one said holds no more
        assert server.context_of("m") is None
        server.close()


def test_what_cannot_be_reached_is_called_by_its_name() -> None:
    assert unreached(UpstreamKind("LM Studio"), "http://h", 1).endswith(
        "is it running? Start it with: lms server start"
    )
    assert "could not connect to Ollama at http://h" in unreached(None, "http://h", 11434)
    assert "could not connect to llama-server at http://h" in unreached(None, "http://h", 8080)
    assert unreached(None, "http://h", 5).startswith("could not connect to http://h; is the server running there?")


# -- tokens


class Counter:
    """Counts characters, until it is switched off."""

    def __init__(self) -> None:
        self.generation, self.asked, self.is_there = 1, 0, True

    def counts(self, model: str, texts: Any, *, controls: bool = False) -> list[int] | None:
        self.asked += 1
        return [len(text) for text in texts] if self.is_there else None


def test_counts_are_kept_until_another_server_comes() -> None:
    counter = Counter()
    vocabulary = RemoteVocabulary(counter, "m")
    tokens = vocabulary.with_context(100, EstimatedTokenizer(100))
    assert [tokens.count("abcd") for _ in range(3)] == [4, 4, 4]
    assert counter.asked == 1
    counter.generation += 1
    assert tokens.count("abcd") == 4
    assert counter.asked == 2


def test_one_recall_asks_no_more_than_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter()
    monkeypatch.setattr("membank_llama.server.proxy.remote_vocabulary.MOST_SECONDS", 1000.0)
    vocabulary = RemoteVocabulary(counter, "m")
    tokens = vocabulary.with_context(100, EstimatedTokenizer(100))
    texts = [f"text {number:05}" for number in range(MOST_REQUESTS + 5)]
    assert [tokens.count(text) for text in texts] == [10] * MOST_REQUESTS + [4] * 5
    assert counter.asked == MOST_REQUESTS
    # the next recall goes on from there
    assert vocabulary.with_context(100, EstimatedTokenizer(100)).count(texts[-1]) == 10
    counter.is_there = False
    silent = vocabulary.with_context(100, EstimatedTokenizer(100))
    asked = counter.asked
    assert silent.count("never seen") == silent.count("never told") == 4
    assert silent.is_clean("plain")
    assert counter.asked == asked + 1


def test_a_model_is_looked_for_again_after_a_while(recall_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("membank_llama.server.proxy.tokenizers.FRESH_SECONDS", 0.0)
    found: list[Any] = [RemoteVocabulary(Counter(), "m"), recall_tiny]
    tokenizers = Tokenizers(lambda name: found.pop(0) if len(found) > 1 else found[0])
    for expected in ("_Asking", "_WithContext"):
        for _ in range(500):
            if type(tokenizers.get("m", 64)).__name__ == expected:
                break
            threading.Event().wait(0.02)
        assert type(tokenizers.get("m", 64)).__name__ == expected
    tokenizers.close()


# -- vectors


def rows(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((501, {"error": {"message": "no embeddings here"}}), "no embeddings here"),
        ((503, {"error": "loading; the context is not there yet"}), "loading"),
        (rows(), "gave no vectors"),
        (rows([]), "gave no vectors"),
        ({"data": [{"embedding": "AAAA"}]}, "gave no vectors"),
        (b"no JSON", "does not answer as it should"),
    ],
)
def test_what_gives_no_vectors_is_no_encoder(answer: Any, said: str) -> None:
    with (
        serving(Answers({"/v1/models": {"data": [{"id": "m"}]}, "/v1/embeddings": answer}, NOT_FOUND)) as url,
        pytest.raises(ModelError, match=said),
    ):
        OpenAIAdapter(url)


def test_an_embedding_model_is_known_by_its_name_or_kind() -> None:
    listed = [{"id": "qwen3-4b"}, {"id": "text-embedding-nomic"}]
    answers = Answers({"/v1/models": {"data": listed}, "/v1/embeddings": rows([3.0, 4.0])}, NOT_FOUND)
    with serving(answers) as url, OpenAIAdapter(f"{url}/v1", server="LM Studio") as adapter:
        assert adapter.name == "text-embedding-nomic (through LM Studio)"
        assert adapter.source == f"{url}#text-embedding-nomic"
        assert adapter.encode("x").tolist() == pytest.approx([0.6, 0.8])
        with pytest.raises(EncodingError):
            # one row for two texts
            adapter.encode_batch(["a", "b"])
        same = OpenAIAdapter(url, "text-embedding-nomic")
        other = OpenAIAdapter(url, "qwen3-4b")
        assert same.model_id() == adapter.model_id() != other.model_id()
        same.close()
        other.close()
    answers.says["/v1/models"] = {"data": [{"id": "a"}, {"id": "b"}]}
    with serving(answers) as url, pytest.raises(ModelError, match="has no embedding model; there are: a, b"):
        OpenAIAdapter(url)
