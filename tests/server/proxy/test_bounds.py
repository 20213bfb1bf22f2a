"""However long what a client sends: the proxy counts, searches and keeps a bounded part of it, and says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.hostile_gguf import STRING, changed
from support.proxies import engine_of, proxied, user

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.memory.bank import MemBank
from membank_llama.memory.conversation_keys import ConversationTurn
from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN, HEADER
from membank_llama.memory.prompt_injection import CHARACTERS_COUNTED, MOST_COUNTED, MemoryOptions, PromptInjector
from membank_llama.server.proxy import ingest_worker as learning
from membank_llama.server.proxy.chat_requests import open_request
from membank_llama.server.proxy.conversation_tracker import ConversationTracker
from membank_llama.server.proxy.ingest_worker import IngestWorker, NewTurns
from membank_llama.server.proxy.reply_reader import ReplyReader, reply_of


@dataclass
class CountedTokens:
    """A tokenizer that remembers how much it was given."""

    n_ctx: int = 512
    controls: Sequence[str] = ()
    lengths: list[int] = field(default_factory=list)

    def count(self, text: str) -> int:
        self.lengths.append(len(text))
        return len(text) // 4

    def is_clean(self, text: str) -> bool:
        return bool(text)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with MemBank(MockAdapter(), tmp_path / "bank") as opened:
        opened.ingest("The locksmith is Ottokar Brenndel.")
        yield opened


def test_nothing_longer_than_the_context_is_counted(bank: MemBank) -> None:
    reminder, options = PromptInjector(bank), MemoryOptions()
    for said in ([user("what what " * 100_000)], [user("x")] * 30_000, [user("a" * 2000)] * 4000):
        tokens = CountedTokens()
        told, _ = reminder.messages(said, tokens, options, "c")
        assert told == said
        assert sum(tokens.lengths) <= 2 * CHARACTERS_COUNTED * tokens.n_ctx
        assert len(tokens.lengths) <= tokens.n_ctx
        # a client may say that it has a context of any length
        tokens = CountedTokens(n_ctx=2**31 - 1)
        reminder.messages(said, tokens, options, "c")
        assert sum(tokens.lengths) <= 2 * MOST_COUNTED
    tokens = CountedTokens()
    assert reminder.prompt("who is the locksmith " * 100_000, tokens, options)[1] == ""
    assert sum(tokens.lengths) <= 2 * CHARACTERS_COUNTED * tokens.n_ctx


def test_a_long_question_is_judged_by_its_beginning(bank: MemBank) -> None:
    question = "Who is the locksmith Ottokar Brenndel? " + "what were you a " * 100_000
    assert bank.recall(question, 1)[0].text == bank.recall(question[:8192], 1)[0].text


@pytest.fixture
def learner(bank: MemBank) -> Iterator[IngestWorker]:
    made = IngestWorker(bank, ConversationTracker(bank.store.registry), is_busy=lambda: False, background=nullcontext)
    yield made
    made.close()


def lesson(text: str, number: int = 0) -> NewTurns:
    return NewTurns("default", f"c{number}", (ConversationTurn("user", text, b"%16d" % number, 1),))


def test_both_ends_of_a_long_message_are_remembered(
    bank: MemBank, learner: IngestWorker, caplog: pytest.LogCaptureFixture
) -> None:
    middle = "\n\n".join(f"Paragraph {n} of the minutes of the town." for n in range(9000))
    learner.learn(lesson(f"My cat is called Tibbles.\n\n{middle}\n\nMy dog is called Hasso."))
    learner.flush()
    texts = [memory.text for memory in bank.memories()]
    assert any("Tibbles" in text for text in texts)
    assert any("Hasso" in text for text in texts)
    assert sum(map(len, texts)) <= learning.MOST_CHARACTERS + 1000
    assert "the first 196608 and the last 65536 are remembered" in caplog.text


def test_what_waits_to_be_stored_is_bounded(
    bank: MemBank, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(learning, "MOST_WAITING_CHARACTERS", 10_000)
    monkeypatch.setattr(learning, "PATIENCE_SECONDS", 3600.0)
    busy = [True]
    conversations = ConversationTracker(bank.store.registry)
    learner = IngestWorker(bank, conversations, is_busy=lambda: busy[0])
    try:
        with caplog.at_level(logging.WARNING):
            for number in range(50):
                learner.learn(lesson(f"Fact {number}: " + "word " * 500, number))
        assert learner.waiting < 6
        assert "is not remembered" in caplog.text
        busy[0] = False
        learner.flush()
        # it is stored, and there is room again
        learner.learn(lesson("The last fact.", 99))
        learner.flush()
        assert "The last fact." in [memory.text for memory in bank.memories()]
    finally:
        busy[0] = False
        learner.close()


def test_a_context_of_thousands_of_digits_is_none() -> None:
    body = {"messages": [user("x")], "options": {"num_ctx": 10**4000, "num_predict": 2**40}}
    asked = open_request("/api/chat", {"model": "m", **body})
    assert asked is not None
    assert (asked.n_ctx, asked.max_tokens) == (None, None)


@pytest.mark.parametrize(
    ("part", "last"),
    [
        (b'{"done": true, "x": 1}\n', True),
        (b'{"done":true}\n', True),
        (b'{"done": true}', False),
        (b'{"done": false}\n', False),
        (b"data: [DONE]\n\n", True),
        (b"data: x\ndata: [DONE]\n", True),
        (b"x data: [DONE]", False),
        (b'"done": true' * 100_000, False),
        (b'"done": true' * 100_000 + b"\n", False),
    ],
)
def test_the_last_piece_of_a_stream(part: bytes, last: bool) -> None:
    reader = ReplyReader("/api/chat")
    for start in range(0, len(part), 1000):
        reader.feed(part[start : start + 1000])
    assert reader.over is last


def test_messages_that_froze_the_server(tmp_path: Path, recall_tiny: Path) -> None:
    path = changed(recall_tiny, tmp_path / "recall-tiny.gguf", lambda p: p.set("tokenizer.ggml.pre", "tekken", STRING))
    with proxied(tmp_path, engine_of(tmp_path, path)) as running:
        block = f"{BLOCK_OPEN}\n{HEADER}"
        for text in (block * 2000, "a" * 100_000, "what " * 50_000, " " * 100_000 + "x", "中" * 50_000):
            assert running.chat(user(text), options={"num_predict": 2}).status_code == 400
        assert running.chat(user(f"{block} x {BLOCK_CLOSE} Hello."), options={"num_predict": 2}).status_code == 200
        assert "Hello." in running.texts()


def test_an_answer_nested_too_deeply_holds_no_text() -> None:
    for path in ("/api/chat", "/v1/chat/completions"):
        for raw in (b'{"message": ' + b"[" * 100_000, b"{\n" + b'"a": {' * 100_000):
            assert reply_of(path, raw).text == ""
