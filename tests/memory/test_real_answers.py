"""A real chat model answers from memory: SmolLM2-135M, its own hidden states as memory, told in one process's life and
asked in another's. Where the model cannot be had, this is skipped and says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import membank_llama
from membank_llama import MemBank

OPTIONS: dict[str, Any] = {"n_ctx": 2048, "n_threads": 1, "n_threads_batch": 1, "verbose": False}
TOLD = (
    "I bought a sailboat last month, she's called Nordlys.",
    "Do you like sailing?",
    "I'm allergic to penicillin, by the way.",
    "My car is an old red Volvo. Its licence plate is ND 48213.",
    "Please forget what I said about the weather.",
)
ASKED = (
    ("Which medicine am I allergic to?", "penicillin"),
    ("What is the licence plate of my car?", "48213"),
    ("What colour is my Volvo?", "red"),
)
NEVER_TOLD = "What is my brother called?"


def say(llm: Any, text: str) -> str:
    """The reply to a message in a chat of its own."""
    llm.memory.new_conversation()
    messages = [{"role": "user", "content": text}]
    reply: Any = llm.create_chat_completion(messages, temperature=0.0, max_tokens=32)
    return str(reply["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def told(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank that was told a life in one chat and closed."""
    path = tmp_path_factory.mktemp("life") / "bank"
    llm = membank_llama.Llama(str(smollm2_gguf), memory=path, **OPTIONS)
    for text in TOLD:
        say(llm, text)
    llm.close()
    return path


def test_it_answers_what_it_was_told_and_goes_on_doing_so(told: Path, smollm2_gguf: Path) -> None:
    for _ in range(2):
        llm = membank_llama.Llama(str(smollm2_gguf), memory=told, **OPTIONS)
        try:
            for question, answer in ASKED:
                reply = say(llm, question)
                assert llm.memory.last is not None and answer in llm.memory.last.block
                assert answer in reply, reply
        finally:
            llm.close()


def test_what_it_made_up_is_never_put_back_as_known(told: Path, smollm2_gguf: Path) -> None:
    llm = membank_llama.Llama(str(smollm2_gguf), memory=told, **OPTIONS)
    try:
        replies = {say(llm, NEVER_TOLD)}
        llm.memory.flush()
        for question in (NEVER_TOLD, "Tell me about my brother.", "What is my sailboat called?"):
            say(llm, question)
            block = llm.memory.last.block if llm.memory.last else ""
            assert not any(reply.strip() in block for reply in replies)
            assert "you answered" not in block and NEVER_TOLD not in block
    finally:
        llm.close()


def test_what_says_nothing_is_not_kept(told: Path) -> None:
    with MemBank(None, told, read_only=True) as bank:
        texts = [memory.text for memory in bank.memories()]
    assert TOLD[0] in texts and TOLD[4] not in texts
