"""Conversations of every shape before templates that are particular: each is taken, and nothing said is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from membank_llama.core.message_layouts import NOTHING_SAID, first_accepted, layouts, of_system_or_tool

ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}"
)
SAY = "[{{ message['role'] }}]{{ message['content'] | trim }}"
TEMPLATES = {
    "no system, turns alternate (Gemma 2)": (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        f"{{% for message in messages %}}{ALTERNATE}{SAY}{{% endfor %}}"
    ),
    "system at the head alone, turns alternate (Gemma 3)": (
        "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}"
        "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
        f"{{% for message in turns %}}{ALTERNATE}{{{{ first if loop.first }}}}{SAY}{{% endfor %}}"
    ),
    "others are left out in silence": (
        "{% for message in messages %}{% if message['role'] == 'user' %}[user]{{ message['content'] }}"
        "{% elif message['role'] == 'assistant' %}[assistant]{{ message['content'] }}{% endif %}{% endfor %}"
    ),
    "system at the head alone, a late one in silence (Llama 2)": (
        "{% if messages[0]['role'] == 'system' %}<<{{ messages[0]['content'] }}>>{% endif %}"
        "{% for message in messages %}{% if message['role'] == 'user' %}[user]{{ message['content'] }}"
        "{% elif message['role'] == 'assistant' %}[assistant]{{ message['content'] }}{% endif %}{% endfor %}"
    ),
    "a late system message is refused (Mistral)": (
        "{% for message in messages %}{% if message['role'] == 'system' and not loop.first %}"
        "{{ raise_exception('system only at the head') }}{% endif %}"
        "{% if message['role'] not in ['user', 'assistant', 'system'] %}{{ raise_exception('role') }}{% endif %}"
        f"{SAY}{{% endfor %}}"
    ),
    "text alone": "{% for message in messages %}{{ '[' + message['role'] + ']' + message['content'] }}{% endfor %}",
    "everything": f"{{% for message in messages %}}{SAY}{{% endfor %}}",
}
CALL = {"id": "0", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Oslo"}'}}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any, *calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls)} if calls else {})}


def tool(text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "0", "content": text}


TALKS: dict[str, list[dict[str, Any]]] = {
    "one question": [user("U1")],
    "a system message": [system("S1"), user("U1")],
    "only a system message": [system("S1")],
    "two system messages": [system("S1"), system("S2"), user("U1")],
    "a late system message": [user("U1"), assistant("A1"), system("S1"), user("U2")],
    "one at the head and one in the middle": [system("S1"), user("U1"), assistant("A1"), system("S2"), user("U2")],
    "a system message at the end": [user("U1"), system("S1")],
    "a developer": [{"role": "developer", "content": "S1"}, user("U1")],
    "a developer after the system": [system("S1"), {"role": "developer", "content": "S2"}, user("U1")],
    "two questions": [user("U1"), user("U2")],
    "three questions": [user("U1"), user("U2"), user("U3")],
    "two answers": [user("U1"), assistant("A1"), assistant("A2"), user("U2")],
    "an answer first": [assistant("A1"), user("U1")],
    "a system message, an answer first": [system("S1"), assistant("A1"), user("U1")],
    "an empty answer": [user("U1"), assistant(""), user("U2")],
    "an empty question": [user("U1"), assistant("A1"), user(""), assistant("A2"), user("U2")],
    "null for an answer": [user("U1"), assistant(None), user("U2")],
    "a tool": [user("U1"), assistant("", CALL), tool("T1")],
    "a tool, null beside the call": [user("U1"), assistant(None, CALL), tool("T1")],
    "two tools": [user("U1"), assistant("A1", CALL, CALL), tool("T1"), tool("T2")],
    "a tool and more": [system("S1"), user("U1"), assistant(None, CALL), tool("T1"), assistant("A1"), user("U2")],
    "text in parts": [user([{"type": "text", "text": "U1"}, {"type": "text", "text": "U2"}])],
    "system text in parts": [system("S1"), {"role": "system", "content": [{"type": "text", "text": "S2"}]}, user("U1")],
}


def refuse(message: str) -> None:
    raise TemplateError(message)


def rendered(source: str, messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[Mapping[str, Any]]]:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    template, tried = environment.from_string(source), []

    def render(layout: list[Mapping[str, Any]]) -> str:
        tried.append(layout)
        return template.render(messages=layout)

    def must_show(message: Mapping[str, Any]) -> bool:
        return of_system_or_tool(message) or not isinstance(message["content"], str)

    return first_accepted(messages, render, str, (TemplateError, TypeError, ValueError), must_show), tried[-1]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("talk", TALKS)
def test_every_conversation_is_taken_and_nothing_of_it_is_lost(name: str, talk: str) -> None:
    before = repr(TALKS[talk])
    prompt, _ = rendered(TEMPLATES[name], TALKS[talk])
    said = [word for word in ("S1", "S2", "U1", "U2", "U3", "A1", "A2", "T1", "T2") if word in before]
    assert all(prompt.count(word) == 1 for word in said), prompt
    assert "'type'" not in prompt, prompt
    assert repr(TALKS[talk]) == before


@pytest.mark.parametrize("talk", TALKS)
def test_what_is_taken_is_given_as_it_came(talk: str) -> None:
    plain = [one for one in TALKS[talk] if isinstance(one["content"], str)]
    assert rendered(TEMPLATES["everything"], plain)[1] == plain


@pytest.mark.parametrize(
    ("name", "talk", "prompt"),
    [
        ("no system, turns alternate (Gemma 2)", "two system messages", "[user]S1\n\nS2\n\nU1"),
        ("no system, turns alternate (Gemma 2)", "a late system message", "[user]U1[assistant]A1[user]S1\n\nU2"),
        ("no system, turns alternate (Gemma 2)", "an answer first", f"[user]{NOTHING_SAID}[assistant]A1[user]U1"),
        ("no system, turns alternate (Gemma 2)", "a system message, an answer first", "[user]S1[assistant]A1[user]U1"),
        ("no system, turns alternate (Gemma 2)", "an empty answer", "[user]U1[assistant][user]U2"),
        (
            "system at the head alone, turns alternate (Gemma 3)",
            "one at the head and one in the middle",
            "S1\n\nS2\n\n[user]U1[assistant]A1[user]U2",
        ),
        ("others are left out in silence", "a system message at the end", "[user]U1\n\nS1"),
        (
            "no system, turns alternate (Gemma 2)",
            "a tool, null beside the call",
            '[user]U1[assistant]<tool_call>{"name": "weather", "arguments": {"town": "Oslo"}}</tool_call>'
            "[user]<tool_response>\nT1\n</tool_response>",
        ),
        ("a late system message is refused (Mistral)", "two questions", "[user]U1[user]U2"),
    ],
)
def test_how_they_are_merged(name: str, talk: str, prompt: str) -> None:
    assert rendered(TEMPLATES[name], TALKS[talk])[0] == prompt


def test_arguments_are_given_as_text_or_as_objects() -> None:
    talk = [user("U1"), assistant("", CALL)]
    given = (
        "{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.arguments['town'] }}{% endfor %}{% endfor %}"
    )
    source = given.replace("{{", "{% if c.function.arguments is string %}{{ raise_exception('text') }}{% endif %}{{")
    assert rendered(source, talk)[0] == "Oslo"


def test_what_has_to_be_there_is_not_left_out_in_silence() -> None:
    talk = [user([{"type": "text", "text": "BLOCK"}, {"type": "text", "text": "U1"}])]

    def strings_alone(messages: list[Mapping[str, Any]]) -> str:
        return "".join(message["content"] for message in messages if isinstance(message["content"], str))

    def as_python(messages: list[Mapping[str, Any]]) -> str:
        return "".join(str(message["content"]) for message in messages)

    assert first_accepted(talk, strings_alone, str, (), lambda message: False) == ""
    assert first_accepted(talk, as_python, str, (), lambda message: False).startswith("[{")
    for render in (strings_alone, as_python):
        assert first_accepted(talk, render, str, (), lambda message: True) == "BLOCK\nU1"


def test_the_first_refusal_is_told_and_no_layout_is_tried_twice() -> None:
    tried: list[Any] = []

    def never(messages: list[Mapping[str, Any]]) -> str:
        tried.append(messages)
        raise ValueError(f"refused {len(tried)}")

    with pytest.raises(ValueError, match="refused 1"):
        first_accepted(TALKS["a tool and more"], never, str, (ValueError,), of_system_or_tool)
    assert all(tried.count(layout) == 1 for layout in tried) and len(tried) > 5
    assert list(layouts([])) == [[]]
