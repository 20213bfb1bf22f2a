"""What was said goes into the bank, also where that fails at first; what is given up is said."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.proxies import user

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Vector
from membank_llama.memory.bank import MemBank
from membank_llama.server.proxy import ingest_worker as module
from membank_llama.server.proxy.conversation_tracker import ConversationTracker
from membank_llama.server.proxy.ingest_worker import IngestWorker, NewTurns


class Moody(MockAdapter):
    """An encoder that fails while it is told to."""

    error: Exception | None = None

    def encode(self, text: str) -> Vector:
        if self.error is not None and "lamp" in text:
            raise self.error
        return super().encode(text)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with MemBank(Moody(), tmp_path / "bank") as bank:
        yield bank


@pytest.fixture
def conversations(bank: MemBank) -> ConversationTracker:
    return ConversationTracker(bank.store.registry)


@pytest.fixture
def learner(
    bank: MemBank, conversations: ConversationTracker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[IngestWorker]:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    learner = IngestWorker(bank, conversations, is_busy=lambda: False)
    yield learner
    learner.close()


def lesson(conversations: ConversationTracker, text: str) -> NewTurns:
    recognised = conversations.recognise("default", [user(text)])
    return NewTurns("default", recognised.conversation, recognised.fresh)


def texts(bank: MemBank) -> list[str]:
    return [memory.text for memory in bank.memories()]


def eventually(holds: object) -> None:
    deadline = time.monotonic() + 30
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("error", [RuntimeError("llama_decode failed"), MemoryError(), KeyError("x")])
def test_what_fails_is_tried_again(
    bank: MemBank,
    conversations: ConversationTracker,
    learner: IngestWorker,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    bank.adapter.error = error  # type: ignore[union-attr]
    with caplog.at_level(logging.ERROR, "membank_llama"):
        learner.learn(lesson(conversations, "The lamp is green."))
        learner.learn(lesson(conversations, "The door is red."))
        learner.flush()
    assert texts(bank) == ["The door is red."], "a bad one takes no other with it"
    assert learner.waiting == 1 and learner.failed == 0
    assert "tried again" in caplog.text
    assert conversations.recognise("default", [user("The lamp is green.")]).fresh == (), "it is on its way"
    bank.adapter.error = None  # type: ignore[union-attr]
    eventually(lambda: learner.waiting == 0)
    assert texts(bank) == ["The door is red.", "The lamp is green."]
    kept = {memory.text: memory.created_at for memory in bank.memories()}
    assert kept["The lamp is green."] <= kept["The door is red."], "it was said first"


def test_what_fails_again_and_again_is_given_up_and_new_when_it_comes_again(
    bank: MemBank, conversations: ConversationTracker, learner: IngestWorker, caplog: pytest.LogCaptureFixture
) -> None:
    bank.adapter.error = RuntimeError("llama_decode failed")  # type: ignore[union-attr]
    with caplog.at_level(logging.ERROR, "membank_llama"):
        learner.learn(lesson(conversations, "The lamp is green."))
        eventually(lambda: learner.failed == 1)
    assert "1 turns of proxy-" in caplog.text and "are not remembered: llama_decode failed" in caplog.text
    assert learner.waiting == 0
    bank.adapter.error = None  # type: ignore[union-attr]
    again = lesson(conversations, "The lamp is green.")
    assert again.turns
    learner.learn(again)
    learner.flush()
    assert texts(bank) == ["The lamp is green."]


def test_what_would_be_refused_every_time_is_given_up_at_once(
    bank: MemBank, conversations: ConversationTracker, learner: IngestWorker
) -> None:
    bank.adapter.error = InvalidInputError("no")  # type: ignore[union-attr]
    learner.learn(lesson(conversations, "The lamp is green."))
    learner.flush()
    assert (learner.failed, learner.waiting) == (1, 0)


def test_closing_tries_once_more_and_says_what_is_lost(
    bank: MemBank, conversations: ConversationTracker, caplog: pytest.LogCaptureFixture
) -> None:
    learner = IngestWorker(bank, conversations, is_busy=lambda: False)
    bank.adapter.error = RuntimeError("llama_decode failed")  # type: ignore[union-attr]
    learner.learn(lesson(conversations, "The lamp is green."))
    learner.flush()
    learner.learn(lesson(conversations, "The lamp is on."))
    with caplog.at_level(logging.ERROR, "membank_llama"):
        learner.close()
    assert learner.failed == 2
    assert caplog.text.count("are not remembered") == 2
