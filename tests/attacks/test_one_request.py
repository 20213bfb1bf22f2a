"""One request of a stranger: it neither ends the server, nor freezes it for others, nor fills the memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.besieged import Siege, besieged, said
from support.hostile_files import CHANGES
from support.hostile_gguf import changed

from membank_llama.memory.prompt_block import BLOCK_OPEN, HEADER

MEGABYTE = 1 << 20
FULL = 7 * MEGABYTE
"""Nearly the largest body that is taken."""
BLOCK = f"{BLOCK_OPEN}\n{HEADER}"


def spaced(messages: list[dict[str, str]]) -> bytes:
    """A body whose keys are not found by looking for what stands behind them."""
    return json.dumps({"model": "recall-tiny", "messages": messages}, separators=(",", " : ")).encode()


A = {"$ref": "#/$defs/a"}
TWO_WAYS = {"anyOf": [{"type": "array", "items": A}, {"type": "array", "items": A}]}
AMBIGUOUS = {"$defs": {"a": TWO_WAYS}, "type": "object", "properties": {"x": A}, "required": ["x"]}

TEXTS = {
    "one word": lambda size: "a" * size,
    "digits": lambda size: "1" * size,
    "spaces": lambda size: "x" + " " * size,
    "line breaks": lambda size: "x" + "\n" * (size // 2),
    "punctuation": lambda size: "!" * size,
    "chinese": lambda size: "中" * (size // 3),
    "accents alone": lambda size: "\u0301" * (size // 2),
    "emoji": lambda size: "\U0001f600" * (size // 4),
    "words": lambda size: "word " * (size // 5),
    "letters and an emoji": lambda size: "a b " * (size // 4) + "\U0001f600",
    "openings of blocks": lambda size: BLOCK * (size // len(BLOCK)),
    "what what": lambda size: "what " * (size // 5),
    "you said": lambda size: "did you " * (size // 8),
    "control tokens": lambda size: "<|im_start|>" * (size // 12),
    "thoughts": lambda size: "<think>" * (size // 7),
    "done": lambda size: '"done": true' * (size // 16),
    "infill": lambda size: "<|fim_" * (size // 6),
}
BODIES: dict[str, Callable[[], Any]] = {
    "150,000 messages": lambda: {"messages": [said("m", ("user", "assistant")[n % 2]) for n in range(150_001)]},
    "150,000 messages, written otherwise": lambda: spaced([said("m")] * 150_001),
    "49,000 messages": lambda: {"messages": [said("m", ("user", "assistant")[n % 2]) for n in range(49_001)]},
    "49,000 messages of the system": lambda: {"messages": [said("m", "system")] * 49_000},
    "20,000 calls and results": lambda: {
        "messages": [
            said("x"),
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}] * 19_000},
            *[{"role": "tool", "content": "r"}] * 19_000,
        ]
    },
    "a prompt of digits as keep_alive": lambda: {"messages": [said("x")], "keep_alive": "1" * FULL},
    "empty lists": lambda: {"messages": [said("x")], "options": {"stop": [[]] * 2_000_000}},
    "short strings": lambda: {"messages": [said("x")], "options": {"stop": ["ab"] * 1_000_000}},
    "short keys": lambda: {"messages": [said("x")], "options": {f"{n:x}": 0 for n in range(600_000)}},
    "a context of numbers": lambda: {"messages": [said("x")], "context": [7] * 2_000_000},
    "an endless num_ctx": lambda: {"messages": [said("x")], "options": {"num_ctx": 2_000_000_000}},
    "stops": lambda: {"messages": [said("x")], "options": {"stop": [f"x{n}" for n in range(100_000)]}},
    "deep": lambda: ('{"model": "recall-tiny", "messages": ' + "[" * 3_000_000).encode(),
    "parts of a content": lambda: {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 150_000}]
    },
}


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory, recall_tiny: Path) -> Iterator[Siege]:
    with besieged(tmp_path_factory.mktemp("siege"), "--model", str(recall_tiny)) as server:
        assert server.chat(said("Hello.")) == 200
        yield server


@pytest.mark.attack
@pytest.mark.parametrize("name", TEXTS)
def test_a_long_message(siege: Siege, name: str) -> None:
    for size in (100_000, FULL):
        siege.slowest = 0.0
        with siege.watched():
            assert siege.chat(said(TEXTS[name](size))) == 400
        siege.unharmed()
    assert siege.chat(said("Hello.")) == 200


@pytest.mark.attack
@pytest.mark.parametrize("path", ["/api/generate", "/v1/completions", "/v1/chat/completions", "/membank/recall"])
@pytest.mark.parametrize("name", ["one word", "openings of blocks", "what what", "control tokens"])
def test_a_long_text_by_another_way(siege: Siege, path: str, name: str) -> None:
    text, siege.slowest = TEXTS[name](FULL // 2), 0.0
    body = {"model": "recall-tiny", "prompt": text, "messages": [said(text)], "raw": True, "max_tokens": 4}
    if path == "/v1/chat/completions":
        del body["prompt"]
    with siege.watched():
        assert siege.ask(path, body) in ((200,) if path == "/membank/recall" else (400,))
    siege.unharmed()


@pytest.mark.attack
@pytest.mark.parametrize("name", BODIES)
def test_a_body_out_of_proportion(siege: Siege, name: str) -> None:
    made, siege.slowest = BODIES[name](), 0.0
    body = made if isinstance(made, bytes) else {"model": "recall-tiny", "stream": False, **made}
    if isinstance(body, dict):
        body["options"] = {"num_predict": 2, **body.get("options", {})}
    with siege.watched():
        assert siege.ask("/api/chat", body) in (200, 400, 413, 500, 503)
    siege.unharmed()
    assert siege.chat(said("Hello.")) == 200


@pytest.mark.attack
def test_bodies_too_large_and_many_at_once(siege: Siege) -> None:
    siege.slowest = 0.0
    with siege.watched():
        assert siege.ask("/api/chat", b" " * (57 * MEGABYTE)) == 413
        text = json.dumps({"model": "recall-tiny", "messages": [said("ab " * (FULL // 3))]}).encode()
        with httpx.Client(base_url=siege.url, timeout=120) as client, ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(client.post, "/api/chat", content=text) for _ in range(12)]
            statuses = {one.result().status_code for one in asked}
    assert statuses <= {400, 503}
    siege.unharmed()
    assert siege.chat(said("Hello.")) == 200


@pytest.mark.attack
def test_a_hostile_upload(tmp_path: Path, recall_tiny: Path) -> None:
    """Uploaded, made a model, asked: an error for who asked, and everybody else is answered; at the next start too."""
    for name in ("tokens all the same", "block_count = 4294967295", "tensor of another type", "template of 2 MB"):
        data = changed(recall_tiny, tmp_path / "evil.gguf", CHANGES[name]).read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        folder = tmp_path / name
        folder.mkdir()
        for _ in range(2):
            with besieged(folder, "--model", str(recall_tiny)) as siege:
                with siege.watched():
                    siege.ask(f"/api/blobs/{digest}", data)
                    siege.ask("/api/create", {"model": "evil", "files": {"evil.gguf": digest}, "stream": False})
                    for path in ("/api/chat", "/api/embed", "/api/show", "/api/generate"):
                        body = {"model": "evil", "messages": [said("x")], "input": "x", "prompt": "x", "stream": False}
                        assert siege.ask(path, {**body, "options": {"num_predict": 2}}) in (200, 400, 404, 500)
                    assert siege.chat(said("Hello.")) == 200
                siege.unharmed()


@pytest.mark.attack
def test_long_texts_to_embed(tmp_path: Path, minilm_gguf: Path, recall_tiny: Path) -> None:
    with besieged(tmp_path, "--model", str(minilm_gguf), "--model", str(recall_tiny)) as siege:
        name = minilm_gguf.stem
        with siege.watched():
            for text in ("word " * (FULL // 5), "a" * FULL, "中" * (FULL // 3)):
                assert siege.ask("/api/embed", {"model": name, "input": text}) == 200
                assert siege.ask("/api/embed", {"model": name, "input": text, "truncate": False}) == 400
            # nobody waits for the rest of it
            assert siege.ask("/api/embed", {"model": name, "input": ["word " * 6000] * 200}, timeout=3) == -1
            assert siege.ask("/api/embed", {"model": name, "input": "a word"}, timeout=20) == 200
        siege.unharmed()


@pytest.mark.attack
@pytest.mark.parametrize("schema", [AMBIGUOUS, {"type": "string", "pattern": "^((a?){50}){39}$"}])
def test_a_format_that_takes_for_ever(siege: Siege, schema: dict[str, Any]) -> None:
    siege.slowest = 0.0
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    with siege.watched():
        for more in ({"format": schema}, {"tools": tools}):
            siege.chat(said("a"), timeout=2, options={"num_predict": 500}, **more)
            # the client has hung up: its model is free
            assert siege.chat(said("Hello."), timeout=20) == 200
    siege.unharmed()
