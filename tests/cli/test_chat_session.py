"""Turns of a chat on a real model: they stay within the context, can be stopped, and can be taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from support.banks import open_bank
from support.hostile_gguf import STRING, changed

from membank_llama.cli.chat_session import ChatSession, ReplyOptions
from membank_llama.core.errors import InvalidInputError, ModelError
from membank_llama.memory.bank import MemBank
from membank_llama.memory.llama_with_memory import Llama


def never() -> bool:
    return False


def nowhere(piece: str) -> None:
    pass


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        yield opened


@pytest.fixture
def llm(tiny_gguf: Path, bank: MemBank) -> Iterator[Any]:
    model = Llama(str(tiny_gguf), memory=bank, n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False, seed=3)
    yield model
    model.close()


def test_a_turn_streams_remembers_and_says_what_came_back(llm: Any, bank: MemBank) -> None:
    bank.ingest("The wifi password is heron-blue.")
    talk = ChatSession(llm, ReplyOptions(temperature=0.0, max_tokens=6))
    pieces: list[str] = []
    reply = talk.ask("What is the wifi password?", pieces.append, never)
    assert "".join(pieces) == reply.text
    assert reply.ended == "length"
    assert reply.recalled is not None
    assert reply.recalled.injected == (1,)
    assert "heron-blue" in reply.recalled.block
    talk.memory.flush()
    said = [memory for memory in bank.memories() if memory.conversation == talk.memory.conversation]
    assert [memory.role for memory in said][:1] == ["user"]
    assert said[0].text == "What is the wifi password?"


def test_a_reply_that_was_stopped_is_shown_and_not_remembered(llm: Any, bank: MemBank) -> None:
    talk = ChatSession(llm, ReplyOptions(temperature=1.5, max_tokens=200, seed=1))
    pieces: list[str] = []
    reply = talk.ask("Tell me a long story.", pieces.append, lambda: len("".join(pieces)) > 8)
    assert reply.ended == "stopped"
    assert 8 < len(reply.text) < 200
    assert talk.messages[-1] == {"role": "assistant", "content": reply.text}
    talk.memory.flush()
    said = [memory for memory in bank.memories() if memory.conversation == talk.memory.conversation]
    assert [(memory.role, memory.text) for memory in said] == [("user", "Tell me a long story.")]
    # and the model can go on
    assert talk.ask("Go on.", nowhere, lambda: True).ended in ("stopped", "stop")


def test_the_oldest_turns_leave_the_context_and_not_the_bank(llm: Any, bank: MemBank) -> None:
    talk = ChatSession(llm, ReplyOptions(temperature=0.0, max_tokens=4, system="Be brief."))
    dropped = 0
    for number in range(8):
        text = f"Fact number {number}: " + "the river is long and the lamp is bright. " * 3
        dropped += talk.ask(text, nowhere, never).dropped_turns
    assert dropped > 0
    assert talk.messages[0] == {"role": "system", "content": "Be brief."}
    assert talk.messages[1]["role"] == "user"
    roles = [message["role"] for message in talk.messages[1:]]
    assert roles == ["user", "assistant"] * (len(roles) // 2)
    talk.memory.flush()
    told = [memory for memory in bank.memories() if memory.role == "user"]
    assert len(told) == 8
    assert {memory.conversation for memory in told} == {talk.memory.conversation}


def test_a_message_that_never_fits_is_refused_and_taken_back(llm: Any, bank: MemBank) -> None:
    talk = ChatSession(llm, ReplyOptions(max_tokens=4))
    talk.ask("hello", nowhere, never)
    before = list(talk.messages)
    with pytest.raises(InvalidInputError, match="does not fit"):
        talk.ask("walnut " * 900, nowhere, never)
    assert talk.messages == before
    talk.memory.flush()
    assert not any("walnut" in memory.text for memory in bank.memories())
    assert talk.ask("still there?", nowhere, never).ended in ("length", "stop")


def test_what_the_model_refuses_is_an_error_of_our_own_and_taken_back(llm: Any) -> None:
    def refuse(**_: Any) -> Any:
        raise ValueError("System role not supported")

    talk = ChatSession(llm, ReplyOptions(max_tokens=4))
    llm.chat_handler = refuse
    with pytest.raises(ModelError, match="System role not supported"):
        talk.ask("hello", nowhere, never)
    llm.chat_handler = None
    assert talk.messages == []
    assert talk.ask("hello", nowhere, never).ended in ("length", "stop")


def test_the_last_turn_can_be_forgotten_everywhere(llm: Any, bank: MemBank) -> None:
    talk = ChatSession(llm, ReplyOptions(temperature=1.0, max_tokens=8, seed=2))
    talk.ask("The first thing.", nowhere, never)
    talk.ask("The secret thing.", nowhere, never)
    ids = talk.last_ids()
    texts = [bank.get(memory_id).text for memory_id in ids]
    assert texts[0] == "The secret thing."
    bank.forget(ids)
    for text in texts:
        talk.unsay(text)
    assert not any("secret" in message["content"] for message in talk.messages)
    assert any("first" in message["content"] for message in talk.messages)
    assert talk.last_ids() == []


def test_another_conversation_begins_without_what_was_said(llm: Any, bank: MemBank) -> None:
    talk = ChatSession(llm, ReplyOptions(max_tokens=4, system="Be brief."))
    first = talk.memory.conversation
    talk.ask("Hello.", nowhere, never)
    talk.start_anew()
    assert talk.memory.conversation != first
    assert talk.messages == [{"role": "system", "content": "Be brief."}]
    assert ChatSession(llm).max_tokens == 256


def test_without_a_memory_it_is_a_plain_chat(tiny_gguf: Path) -> None:
    plain = llama_cpp.Llama(str(tiny_gguf), n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False)
    try:
        reply = ChatSession(plain, ReplyOptions(max_tokens=4)).ask("Hello.", nowhere, never)
    finally:
        plain.close()
    assert reply.recalled is None


# -- thoughts

BEGUN = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]<think>\n"


@contextmanager
def saying(script: str, path: Path, bank: MemBank) -> Iterator[Any]:
    """A model that says this, and no more."""
    grammar = llama_cpp.LlamaGrammar.from_string(f"root ::= {json.dumps(script)}", verbose=False)

    class Saying(Llama):
        def create_chat_completion(self, *args: Any, **kwargs: Any) -> Any:
            return super().create_chat_completion(*args, grammar=grammar, **kwargs)

    model = Saying(str(path), memory=bank, n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
    try:
        yield model
    finally:
        model.close()


@pytest.mark.parametrize(
    ("template", "script", "thought", "said"),
    [
        (None, "<think>They live in Oslo.</think>Garage 12.", "They live in Oslo.", "Garage 12."),
        (None, "[THINK]They live in Oslo.[/THINK]Garage 12.", "They live in Oslo.", "Garage 12."),
        (None, "Write <think> in it.", "", "Write <think> in it."),
        (BEGUN, "They live in Oslo.</think>Garage 12.", "They live in Oslo.", "Garage 12."),
        (BEGUN, "They live in Oslo.", "They live in Oslo.", ""),
        (None, "<think>They live in Oslo.", "They live in Oslo.", ""),
    ],
)
def test_a_thought_is_shown_apart_and_neither_kept_nor_remembered(
    tmp_path: Path, tiny_gguf: Path, bank: MemBank, template: str | None, script: str, thought: str, said: str
) -> None:
    path = tiny_gguf
    if template is not None:
        path = changed(path, tmp_path / "b.gguf", lambda p: p.set("tokenizer.chat_template", template, STRING))
    with saying(script, path, bank) as llm:
        talk = ChatSession(llm, ReplyOptions(temperature=0.0, max_tokens=200))
        pieces: list[str] = []
        thoughts: list[str] = []
        reply = talk.ask("Which garage is mine?", pieces.append, never, thoughts.append)
        talk.memory.flush()
    assert ("".join(thoughts), "".join(pieces), reply.text) == (thought, said, said)
    kept = [message["content"] for message in talk.messages]
    assert kept == (["Which garage is mine?", said] if said else [])
    told = [memory.text for memory in bank.memories()]
    assert told == (["Which garage is mine?", said] if said else ["Which garage is mine?"])
