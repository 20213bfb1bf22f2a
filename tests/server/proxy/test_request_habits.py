"""Requests that a client makes for itself, told by their form, and by what it asks beside them in any language."""

from __future__ import annotations

import json
from typing import Any

import pytest

from membank_llama.server.proxy.auxiliary_requests import is_auxiliary, is_marked
from membank_llama.server.proxy.chat_requests import open_request
from membank_llama.server.proxy.client_request import ChatReply, ChatRequest
from membank_llama.server.proxy.request_habits import RequestHabits

SAID = "Meine Katze Tom hat Angst vor dem Staubsauger."
TOOLS = [{"type": "function", "function": {"name": f"tool{n}", "parameters": {}}} for n in range(5)]
MAIN = "You are a careful agent. " * 400
AGENT, OTHER = "an-agent/1.0", "a-chat/2.0"


def request(
    *messages: tuple[str, str], system: str = "", path: str = "/v1/chat/completions", **more: Any
) -> ChatRequest:
    listed = [{"role": "system", "content": system}] if system else []
    listed += [{"role": role, "content": text} for role, text in messages]
    opened = open_request(path, {"model": "m", "messages": listed, **more})
    assert opened is not None
    return opened


def asked(habits: RequestHabits, made: ChatRequest, reply: ChatReply | None = None, client: str = AGENT) -> bool:
    aside = habits.is_aside(made, "default", client)
    if not aside:
        habits.answered(made, "default", client, reply or ChatReply("Gut zu wissen, danke.", True))
    return aside


def test_a_request_without_tools_of_a_client_that_brings_them_always() -> None:
    habits = RequestHabits()
    assert not asked(habits, request(("user", SAID), system=MAIN, tools=TOOLS))
    assert asked(habits, request(("user", "Noch etwas"), system="Rate, was als nächstes kommt, kurz."))
    assert not asked(habits, request(("user", "Noch etwas"), system="Sei nett."), client=OTHER)


def test_a_client_whose_chats_go_on_without_tools_is_no_agent() -> None:
    habits = RequestHabits()
    assert not asked(habits, request(("user", SAID), system=MAIN, tools=TOOLS))
    assert not asked(habits, request(("user", "a b c"), ("assistant", "d"), ("user", "e f g"), system="Sei nett."))
    assert not asked(habits, request(("user", "Noch etwas"), system="Sei nett."))


@pytest.mark.parametrize("given", [f"Erfinde eine Überschrift, die passt.\n\n{SAID}\n\nGut zu wissen, danke."])
def test_a_text_about_a_turn_and_its_answer(given: str) -> None:
    habits = RequestHabits()
    assert not asked(habits, request(("user", SAID)))
    assert asked(habits, request(("user", given)))


def test_a_person_who_repeats_herself_is_no_client() -> None:
    habits = RequestHabits()
    for text in (SAID, SAID, f"{SAID} Was tun?", f"Ich sage es nochmal: {SAID}"):
        assert not asked(habits, request(("user", text)))


def test_a_sub_agent_is_given_what_a_model_wrote() -> None:
    habits = RequestHabits()
    order = "Durchsuche das Verzeichnis nach Rezepten und fasse sie zusammen."
    call = ChatReply("", True, None, (json.dumps({"description": "suchen", "prompt": order}),))
    assert not asked(habits, request(("user", SAID), system=MAIN, tools=TOOLS), call)
    assert asked(habits, request(("user", order), system=MAIN, tools=TOOLS))
    goes_on = request(("user", order), ("assistant", "Ich suche."), ("user", "weiter"), system=MAIN, tools=TOOLS)
    # it was held to be a sub-agent's; that somebody speaks on in it says otherwise
    assert not asked(habits, goes_on)


def test_other_instructions_and_other_tools_in_the_middle_of_a_conversation() -> None:
    habits = RequestHabits()
    history = (("user", SAID), ("assistant", "Gut zu wissen."))
    assert not asked(habits, request(("user", SAID), system=MAIN, tools=TOOLS))
    assert not asked(habits, request(*history, ("user", "Und mein Hund?"), system=MAIN, tools=TOOLS))
    assert asked(habits, request(*history, ("user", "Fasse alles zusammen."), system="Du fasst zusammen."))
    assert not asked(habits, request(*history, ("user", "Und mein Hund?"), system=MAIN, tools=TOOLS[:3]))


def test_a_tool_that_is_given_the_persons_own_words() -> None:
    habits = RequestHabits()
    call = ChatReply("", True, None, (json.dumps({"query": SAID}),))
    assert not asked(habits, request(("user", SAID), system=MAIN, tools=TOOLS), call)
    again = request(("user", SAID), ("assistant", "Ich suche."), ("user", "Und?"), system=MAIN, tools=TOOLS)
    assert not asked(habits, again)
    assert not asked(habits, request(("user", SAID), system=MAIN, tools=TOOLS))


def test_instructions_that_change_with_every_request() -> None:
    habits = RequestHabits()
    history = (("user", SAID), ("assistant", "Gut zu wissen."))
    assert not asked(habits, request(("user", SAID), system=f"x-billing: a1\n{MAIN}", tools=TOOLS))
    made = request(*history, ("user", "Und mein Hund?"), system=f"x-billing: b2\n{MAIN}", tools=TOOLS[3:])
    assert not asked(habits, made)
    assert not asked(habits, request(*history, ("user", "Und mein Hund?"), system=f"Es ist 12:01. {MAIN}", tools=TOOLS))


def test_what_is_gone_on_from_was_a_persons() -> None:
    habits = RequestHabits()
    title = "Give me a title for the chat of my two heroes in 5 words only"
    assert asked(habits, request(("user", title)))
    for text in ("And another?", "A third one?"):
        assert not asked(habits, request(("user", title), ("assistant", "Duel"), ("user", text)))


@pytest.mark.parametrize(
    "made",
    [
        request(("user", "quota"), max_tokens=1),
        request(("user", "Generate a title for this conversation:"), ("user", SAID), max_tokens=32_000),
        request(("user", "Nenne das Thema.\n\nNutzer: Hallo\nKI: Guten Tag")),
        request(("user", f"### Aufgabe:\nFolgefragen.\n<chat_history>\nUSER: {SAID}\n</chat_history>" + "x" * 700)),
        request(("user", "x" * 900 + f"\n<chat_history>\nUSER: {SAID}\nASSISTANT: ja\n</chat_history>")),
        request(("user", SAID), system="Generate a short title for this chat. Answer as JSON."),
        request(("user", "この会話を五語以内の題名で要約してください。句読点なし。")),
        request(("user", SAID), ("assistant", "Gut."), ("user", "Gib dieser Unterhaltung einen Titel, nur 3 Wörter.")),
        request(("user", SAID), ("assistant", "Gut."), ("system", "Resume la conversación en 200 palabras.")),
        request(("user", "def area(r):\n    <|fim_suffix|>\n")),
    ],
)
def test_by_its_form_alone(made: ChatRequest) -> None:
    assert is_auxiliary(made)


@pytest.mark.parametrize(
    "made",
    [
        request(("user", "Write a title for my novel about Tom.")),
        request(("user", "Summarize the conversation I had with my boss: she wants the report on Friday.")),
        request(("user", SAID), ("assistant", "Gut."), ("user", "Can you summarize our conversation?")),
        request(("user", "What is my cat's name?"), max_tokens=60),
        request(("user", "Name and city of my sister as JSON"), format={"properties": {"city": {}}}, path="/api/chat"),
        request(("user", SAID), system=MAIN, tools=TOOLS, max_tokens=32_000),
        request(("user", "You are my sister's favourite singer. Sing!")),
        request(("user", "Translate this to French: my cat sleeps.")),
        request(("user", "The user manual of my car is lost.")),
    ],
)
def test_a_person_may_ask_for_such_things(made: ChatRequest) -> None:
    assert not is_auxiliary(made)


def test_claude_codes_own_words_and_those_of_its_sub_agents() -> None:
    # as version 2.1.197 sends them: instructions of fewer than 6,000 characters, and a mark where a sub-agent asks
    billing = "x-anthropic-billing-header: cc_version=2.1.197.0a3; cc_entrypoint=sdk-cli;{}\n"
    system = f"{billing}You are a Claude agent, built on Anthropic's Claude Agent SDK.\n{MAIN[:3000]}"
    client = "claude-cli/2.1.197 (external, sdk-cli)"
    assert not is_auxiliary(request(("user", SAID), system=system.format(""), tools=TOOLS), client)
    assert is_auxiliary(request(("user", SAID), system=system.format(" cc_is_subagent=true;"), tools=TOOLS), client)


@pytest.mark.parametrize("name", [b"x-claude-code-agent-id", b"x-openai-subagent"])
def test_a_client_that_says_that_nobody_asks(name: bytes) -> None:
    assert is_marked({"type": "http", "headers": [(name, b"a4a8")]})
    assert not is_marked({"type": "http", "headers": [(b"x-app", b"cli")]})
