"""A turn is known again by its key, whatever clients change on the way; keys that banks hold stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.banks import open_bank

from membank_llama.memory.conversation_keys import ConversationKeys, start_key, text_of, without_echo, without_thinking
from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN, HEADER
from membank_llama.memory.prompt_injection import MemoryOptions, PromptInjector
from membank_llama.server.proxy.tokenizers import EstimatedTokenizer

SALT = bytes(range(16))
BLOCK = f"{BLOCK_OPEN}\n{HEADER}\n- 2025-01-31, user: Ana.\n{BLOCK_CLOSE}\n\n"


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


TALK = [
    said("system", "Be kind."),
    said("user", "My  sister Ana\nlives in Porto."),
    said("assistant", "<think>hm</think>Noted."),
    said("tool", "7"),
    said("user", [{"type": "text", "text": "And Bén?"}]),
]


def keys(messages: list[dict[str, Any]], namespace: str = "work", salt: bytes = SALT) -> list[str]:
    return [turn.key.hex() for turn in ConversationKeys.of(messages, namespace, salt=salt).turns]


def test_keys_that_banks_hold_stay_valid() -> None:
    assert keys(TALK) == [
        "cff0da78fe27cae966d37bd6a7de6ffb",
        "470ae744c7d0368be1fd2c81c3fccb36",
        "e59e0d00c19b0aafd9a42b26d01a2ce7",
    ]
    assert start_key(SALT, "work", b"[1,2]").hex() == "d8a75e9baad6d949264931d87a6aab58"


def test_what_clients_change_changes_no_key() -> None:
    changed = [
        said("system", "It is Tuesday."),
        said("user", f"{BLOCK}My sister Ana lives in Porto. "),
        said("assistant", "Noted."),
        said("user", "And Bén?"),
    ]
    assert keys(changed) == keys(TALK)


def test_every_word_namespace_and_salt_counts() -> None:
    assert keys(TALK, "home") != keys(TALK) != keys(TALK, salt=b"")
    other = [*TALK[:2], said("assistant", "Oh."), TALK[4]]
    assert keys(other)[0] == keys(TALK)[0]
    assert not set(keys(other)[1:]) & set(keys(TALK))


def test_the_next_request_holds_the_reply() -> None:
    found = ConversationKeys.of(TALK[:2], "work", salt=SALT)
    assert found.reply("Noted.").key.hex() == keys(TALK)[1]
    assert found.reply("Noted.").depth == 2
    assert (found.at(1), found.at(0), found.at(None)) == (found.turns[0], None, None)


def test_a_block_is_put_back_into_the_turn_that_it_stood_in(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest("My sister Ana lives in Porto.")
        injector, options, tokens = PromptInjector(bank), MemoryOptions(), EstimatedTokenizer(4096)
        question = said("user", "Where does my sister Ana live?")
        first = injector.messages([said("system", "Be kind."), question], tokens, options, "c")[0][-1]
        assert "Porto" in text_of(first["content"])
        more = [said("assistant", "In Porto."), said("user", "Tell me a joke.")]
        # a client may say another day in its system message, and leave out thoughts
        for system in ("Be kind.", "It is Tuesday."):
            told, _ = injector.messages([said("system", system), question, *more], tokens, options, "c")
            assert told[1] == first
        told, _ = injector.messages([first, *more], tokens, options, "c")
        assert told[0] == first, "a message that brings its block along gets no other one"


# -- thoughts


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("<think>They might live in Reykjavik.</think>\n\nGarage 12.", "Garage 12."),
        ("  <thinking>a</thinking><reasoning>b</reasoning> Garage 12.", "Garage 12."),
        ("[THINK]a[/THINK]Garage 12.", "Garage 12."),
        ("◁think▷a◁/think▷Garage 12.", "Garage 12."),
        ("<seed:think>a</seed:think>Garage 12.", "Garage 12."),
        ("begun by its template</think>Garage 12.", "Garage 12."),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>Garage 12.", "Garage 12."),
        ("<|channel|>analysis<|message|>broke off", ""),
        ("<think>broke off", ""),
        ("Write a <think> tag. Garage 12.", "Write a <think> tag. Garage 12."),
        ("As in `<think>x</think>`: garage 12.", "As in `<think>x</think>`: garage 12."),
        ("<think>a</think>End it with </think>.", "End it with </think>."),
        ("", ""),
    ],
)
def test_what_is_thought_aloud_is_no_part_of_a_reply(reply: str, said: str) -> None:
    assert without_thinking(reply) == said


def test_a_reply_that_goes_on_writing_the_block_is_known_again() -> None:
    echo = "Bardolino.\n- 2026-11-26 (today), I said: My mule is called Bardolino.\n</memory>"
    asked = ConversationKeys.of([said("user", "What is my mule called?")], "default")
    later = ConversationKeys.of([said("user", "What is my mule called?"), said("assistant", echo)], "default")
    assert asked.reply(without_echo(echo)).key == later.turns[-1].key
    assert later.turns[-1].text == "Bardolino."
