"""Two chats that go on with the same conversation: neither loses what was said in it to the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.banks import DIM

from membank_llama import Llama, MockAdapter, open_shared
from membank_llama.cli.chat_session import ChatSession, ReplyOptions
from membank_llama.cli.terminal_chat import Chat
from membank_llama.memory.transcript_file import ChatTranscript

FIRST, ONE, OTHER = "Ana lives in Porto.", "The lock's code is 4719.", "The ferry leaves at seven."


def never() -> bool:
    return False


def nowhere(piece: str) -> None:
    pass


def said(chat: Any) -> list[str]:
    return [message["content"] for message in chat.messages if message["role"] == "user"]


@contextmanager
def chatting(model: Path, bank: Path) -> Iterator[ChatSession]:
    with open_shared(MockAdapter(hidden_dim=DIM), bank) as opened:
        llm = Llama(str(model), memory=opened, n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
        try:
            yield ChatSession(llm, ReplyOptions(temperature=0.0, max_tokens=8))
        finally:
            llm.close()


@pytest.fixture
def two(tmp_path: Path, stories_chatml_gguf: Path) -> Iterator[tuple[ChatSession, ChatSession]]:
    """Two chats that both go on with what was said in the first; another process holds the bank of one of them."""
    with (
        chatting(stories_chatml_gguf, tmp_path / "bank") as one,
        chatting(stories_chatml_gguf, one.memory.bank.path) as b,
    ):
        one.ask(FIRST, nowhere, never)
        b.go_on(b.memory.bank.chats.find("default"))
        yield one, b


@pytest.mark.parametrize("holder_first", [True, False])
def test_the_one_that_comes_later_is_a_conversation_of_its_own(
    two: tuple[ChatSession, ChatSession], holder_first: bool
) -> None:
    one, other = two if holder_first else two[::-1]
    name = one.memory.conversation
    assert not one.ask(ONE, nowhere, never).parted
    assert other.ask(OTHER, nowhere, never).parted
    assert not other.ask("And a story?", nowhere, never).parted
    assert not one.ask("And a poem?", nowhere, never).parted
    chats = one.memory.bank.chats
    assert one.memory.conversation == name != other.memory.conversation
    assert said(chats.find("default", name)) == [FIRST, ONE, "And a poem?"]
    assert said(chats.find("default", other.memory.conversation)) == [FIRST, OTHER, "And a story?"]
    other.memory.flush()
    told = {memory.text: memory.conversation for memory in one.memory.bank.memories()}
    assert told[OTHER] == other.memory.conversation
    assert told[ONE] == name


def test_both_speak_at_once(two: tuple[ChatSession, ChatSession]) -> None:
    one, other = two
    replies = []

    def meanwhile(piece: str) -> None:
        if not replies:
            replies.append(other.ask(OTHER, nowhere, never))

    assert one.ask(ONE, meanwhile, never).parted
    assert not replies[0].parted
    chats = one.memory.bank.chats
    assert [said(chat) for chat in chats.newest("default")] == [[FIRST, ONE], [FIRST, OTHER]]
    assert ONE in {one.memory.bank.get(memory_id).text for memory_id in one.last_ids()}


def test_what_is_forgotten_parts_nobody(two: tuple[ChatSession, ChatSession]) -> None:
    one, other = two
    one.ask(ONE, nowhere, never)
    one.memory.flush()
    (lock,) = (memory.id for memory in other.memory.bank.memories() if memory.text == ONE)
    other.memory.bank.forget(lock)
    assert not one.ask("And a story?", nowhere, never).parted
    assert said(one.memory.bank.chats.find("default", one.memory.conversation)) == [FIRST, "And a story?"]


def test_it_is_said_and_each_is_gone_on_with_by_its_name(
    two: tuple[ChatSession, ChatSession], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = two
    one.ask(ONE, nowhere, never)
    lines = iter([OTHER, "And a story?"])
    monkeypatch.setattr(Chat, "_lines", lambda chat: lines)
    Chat(other, other.memory.bank.path).run()
    shown = " ".join(capsys.readouterr().err.split())
    name = other.memory.conversation
    assert shown.count(f"another chat goes on with this conversation; this one is {name} now") == 1
    assert "go on with this chat: membank chat --resume" in shown
    monkeypatch.setattr(Chat, "_lines", lambda chat: iter(()))
    Chat(one, one.memory.bank.path).run()
    assert f"go on with this chat: membank chat --conversation {one.memory.conversation}" in capsys.readouterr().err


def test_the_very_same_is_kept_again(two: tuple[ChatSession, ChatSession]) -> None:
    """As one does whose holder was killed after it had kept the chat and before it could say so."""
    chats = two[1].memory.bank.chats
    before = chats.find("default")
    after = ChatTranscript(**{**vars(before), "used": before.used + 1})
    assert chats.save(after, before.used)
    assert chats.save(after, before.used)
    assert not chats.save(ChatTranscript(**{**vars(before), "used": before.used + 2}), before.used)
    assert chats.used(before.name) == after.used
