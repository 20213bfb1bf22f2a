"""Half characters, huge numbers, answers without end, replies that repeat the block: memory and the chat go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.growth import grows_with_the_square
from support.proxies import Running, engine_of, proxied, user

from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN, HEADER
from membank_llama.server.asgi import outward
from membank_llama.server.proxy import reply_reader
from membank_llama.server.proxy.client_request import ChatReply
from membank_llama.server.proxy.reply_reader import ReplyReader, reply_of

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
HALF = "cut \ud83d here"


class Fixed:
    """An upstream that says what a test wants, and keeps what it was asked."""

    def __init__(self, *said: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.said = list(said)
        self.headers = headers
        self.seen: list[tuple[dict[str, str], bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.seen.append(({k.decode(): v.decode() for k, v in scope["headers"]}, body))
        said = self.said.pop(0) if scope["path"] == "/api/chat" and self.said else "Noted."
        answer = json.dumps({"message": {"role": "assistant", "content": said}, "done": True}).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode()), *self.headers]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    async def close(self) -> None:
        return


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_half_an_emoji_anywhere_in_the_history(running: Running, path: str) -> None:
    running.say(FACT)
    for old in (HALF, "\ude00 turned \ud83d round"):
        history = [user(old), {"role": "assistant", "content": f"ok {HALF}"}, user(f"{QUESTION}")]
        for _ in range(2):
            # json.dumps spells the half as an escape, as such clients do
            body = {"model": "recall-tiny", "messages": history, "stream": False}
            response = running.client.post(path, content=json.dumps(body))
            assert response.status_code == 200
            assert response.headers["x-membank"] == "on"
    assert "cut \ufffd here" in running.texts()
    assert not [text for text in running.texts() if "\ud83d" in text]


def test_half_an_emoji_in_bytes_and_in_utf_16(running: Running) -> None:
    running.say(FACT)
    body = json.dumps({"model": "recall-tiny", "messages": [user("X"), user(QUESTION)], "stream": False})
    raw = body.replace("X", HALF)
    for sent in (raw.encode("utf-8", "surrogatepass"), raw.encode("utf-16-le", "surrogatepass")):
        response = running.client.post("/api/chat", content=sent)
        assert response.headers["x-membank"] == "on"
        asked = running.client.post("/membank/recall", content=sent)
        assert asked.json()["memories"] == 1
    learned = running.client.post("/membank/learn", content=json.dumps({"messages": [user(f"A {HALF} fact.")]}))
    assert learned.json() == {"queued": 1}
    assert "A cut \ufffd here fact." in running.texts()


def test_halves_of_a_reply_are_made_one(tmp_path: Path) -> None:
    assert reply_of("/api/chat", b"".join(_pieces("a \ud83d", "\ude00 b", "\ud83d"))).text == "a \U0001f600 b\ufffd"
    with proxied(tmp_path, Fixed(f"It is {HALF}.")) as running:
        assert running.chat(user("What is it?")).status_code == 200
        assert running.texts() == ["What is it?", "It is cut \ufffd here."]
        assert running.memory.ingest_worker.failed == 0


@pytest.mark.parametrize("number", ["9" * 4000, "9" * 20, "-1", "0", "4294967296", "1e400", "NaN", '"4096"', "true"])
def test_numbers_that_no_context_has(tmp_path: Path, number: str) -> None:
    with proxied(tmp_path, Fixed()) as running:
        running.bank.ingest(FACT)
        raw = json.dumps({"model": "m", "messages": [user(QUESTION)], "stream": False, "options": {"num_ctx": 12345}})
        response = running.client.post("/api/chat", content=raw.replace("12345", number))
        assert response.headers["x-membank"] == "on"
        raw = json.dumps({"model": "m", "messages": [user(QUESTION)], "max_tokens": 12345})
        response = running.client.post("/v1/chat/completions", content=raw.replace("12345", number))
        assert response.headers["x-membank"] == "on"


@pytest.mark.parametrize("cut", [False, True])
def test_a_reply_that_repeats_the_block(tmp_path: Path, cut: bool) -> None:
    echo = f"Sure: {BLOCK_OPEN}\n{HEADER}\n- 2024-01-01, user: {FACT}\n"
    echo += "" if cut else f"{BLOCK_CLOSE}\n\nThat is all."
    kept = "Sure:" if cut else "Sure: That is all."
    with proxied(tmp_path, Fixed(echo)) as running:
        running.bank.ingest(FACT)
        asked = user(f"Repeat it all: {QUESTION}")
        answer = running.chat(asked).json()["message"]
        assert answer["content"] == echo
        assert running.texts()[1:] == [asked["content"], kept]
        # sent again with the history, the turn is known
        running.chat(asked, answer, user("Thank you."))
        assert running.texts()[1:] == [
            asked["content"],
            "Sure:" if cut else "Sure: That is all.",
            "Thank you.",
            "Noted.",
        ]


def test_a_persons_own_marks_are_kept(running: Running) -> None:
    texts = [
        f"keep {BLOCK_OPEN}Notes from earlier days: my PIN is 4711{BLOCK_CLOSE} this",
        f"what does {BLOCK_OPEN}\n{HEADER[:40]} mean",
        f"and {BLOCK_OPEN} alone, or {BLOCK_CLOSE}?",
    ]
    for text in texts:
        running.say(text)
    assert [text for text in running.texts() if BLOCK_OPEN in text] == texts


# -- answers, however long


def _pieces(*said: str) -> list[bytes]:
    rows = [{"message": {"content": text}, "done": False} for text in said]
    return [json.dumps(row).encode() + b"\n" for row in [*rows, {"message": {"content": ""}, "done": True}]]


def test_an_answer_is_read_however_it_is_cut() -> None:
    raw = b"".join(_pieces("My ", "dear ", "Watson"))
    for size in (1, 2, 7, 50, 10_000):
        reader = ReplyReader("/api/chat")
        for start in range(0, len(raw), size):
            reader.feed(raw[start : start + size])
        assert reader.over
        assert reader.reply().text == "My dear Watson"
        assert reader.reply().whole
    spread = json.dumps({"message": {"content": "yes"}, "done": True}, indent=2).encode()
    assert reply_of("/api/chat", spread).text == "yes"
    events = b'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    assert reply_of("/v1/chat/completions", events) == ChatReply("hi", True)


def test_an_answer_without_end_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_reader, "MOST_CHARACTERS", 1000)
    monkeypatch.setattr(reply_reader, "MOST_LINE", 5000)
    reader = ReplyReader("/api/chat")
    for piece in _pieces(*["word " * 20] * 500):
        reader.feed(piece)
    assert len(reader.reply().text) == 1000
    reader = ReplyReader("/api/chat")
    for _ in range(1000):
        reader.feed(b"x" * 1000)
    assert sum(map(len, reader._rest)) <= 5000
    reader.feed(b"\n" + b"".join(_pieces("after it")))
    assert reader.reply().text == "after it"
    reader = ReplyReader("/api/chat")
    reader.feed(b"{\n" + b'"a": 1,\n' * 100_000)
    assert sum(map(len, reader._spread or ())) <= 5000
    assert reader.reply().text == ""


def test_a_long_line_costs_its_length_once() -> None:
    def fed(pieces: int) -> None:
        reader = ReplyReader("/api/chat")
        for _ in range(pieces):
            reader.feed(b'"done": true ' * 10)
        reader.reply()

    assert not grows_with_the_square(fed, 20_000)


# -- what belongs to one hop


def test_headers_that_connection_names_go_no_further(tmp_path: Path) -> None:
    behind = Fixed(headers=((b"connection", b"x-inner"), (b"x-inner", b"1"), (b"x-outer", b"2")))
    with proxied(tmp_path, behind) as running:
        lines = {"Connection": "keep-alive, X-Hop", "X-Hop": "1", "X-Kept": "2"}
        response = running.chat(user("Hello."), headers=lines)
    seen = behind.seen[0][0]
    assert "x-hop" not in seen
    assert seen["x-kept"] == "2"
    assert "x-inner" not in response.headers
    assert response.headers["x-outer"] == "2"


def test_no_path_of_this_machine_is_told(running: Running, tmp_path: Path) -> None:
    told = [
        running.client.get("/membank/status").text,
        running.client.post("/api/show", json={"model": "recall-tiny"}).text,
        running.client.request("DELETE", "/api/delete", json={"model": "recall-tiny"}).text,
        running.client.post("/api/chat", json={"model": "none", "messages": [user("x")]}).text,
    ]
    digest = httpx.post(f"{running.upstream}/api/blobs/sha256:{'0' * 64}", content=b"x").text
    for answer in [*told, digest]:
        assert str(tmp_path) not in answer
        assert "/models/" not in answer


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/home/ana/models/x.gguf ends early", "x.gguf ends early"),
        ("the manifest /a/b/c cannot be read: No such file", "the manifest c cannot be read: No such file"),
        ("C:\\Users\\ana\\x.gguf is none", "x.gguf is none"),
        ("give hf:owner/repo/file.gguf or a/b/c", "give hf:owner/repo/file.gguf or a/b/c"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("2 / 3 and/or 4", "2 / 3 and/or 4"),
    ],
)
def test_files_are_told_by_name(said: str, told: str) -> None:
    assert outward(ValueError(said)) == told


def test_a_model_file_that_is_damaged_tells_no_path(tmp_path: Path, recall_tiny: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(recall_tiny.read_bytes())
    engine = engine_of(tmp_path, broken)
    broken.write_bytes(recall_tiny.read_bytes()[:5000])
    with proxied(tmp_path, engine) as running:
        for path, body in (
            ("/api/show", {"model": "broken"}),
            ("/api/chat", {"model": "broken", "messages": [user("x")]}),
            ("/v1/chat/completions", {"model": "broken", "messages": [user("x")]}),
            ("/api/embed", {"model": "broken", "input": "x"}),
        ):
            answer = running.client.post(path, json=body)
            assert answer.status_code >= 400
            assert str(tmp_path) not in answer.text, path
