"""What a person wrote, and what a client put around it."""

from __future__ import annotations

from typing import Any

import pytest

from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN, HEADER
from membank_llama.server.proxy.client_request import said_by_all
from membank_llama.server.proxy.person_text import person_text, said_in

SAID = "My cat Tom is afraid of the hoover."
REMINDER = "<system-reminder>\nThe files have changed. My dog is Rex.\n</system-reminder>"


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        f"{REMINDER}\n{{}}",
        f"{{}}\n{REMINDER}",
        "<environment_context>\n<cwd>/home</cwd>\n</environment_context>\n\n{}",
        "<task>\n{}\n</task>\n<environment_details>\n# Time\nnoon\n</environment_details>",
        '### Task:\nBe brief.\n\n<context>\n<source id="1">A page.</source>\n</context>\n\n{}',
        "### Aufgabe:\nAntworte.\n<context>\nEine Seite.\n</context>\n\n<user_query>\n{}\n</user_query>\n",
        "**Generate Response to User Query**\n<context>\nA page.\n</context>\n**Step 2**\nQuery: {}\n**Step 3**\nEnd.",
        "# Context from my IDE setup:\n\n## Open tabs:\n- a.py\n\n## My request for Codex:\n{}",
        "```src/main.py (1-20)\nx = 1\n```\n{}",
        "[@main.py](file:///home/main.py) {}\n<context>\nAttached:\n<files>\n```main.py\nx\n```\n</files>\n</context>",
        "{}\n\n<!-- SYSTEM CONTEXT (NOT PART OF USER QUERY) -->\n<files>\na\n</files>\n<!-- END SYSTEM CONTEXT -->",
        "[attempt_completion] Result:\n\nThe user has provided feedback:\n<feedback>\n{}\n</feedback>",
        f"{BLOCK_OPEN}\n{HEADER}\n- 2026-01-01, user: A dog.\n{BLOCK_CLOSE}\n\n{{}}",
    ],
)
def test_the_words_alone(around: str) -> None:
    assert person_text(around.format(SAID)).replace("main.py ", "") == SAID


@pytest.mark.parametrize(
    "text",
    [
        REMINDER,
        "# AGENTS.md instructions for /home\n\n<INSTRUCTIONS>\nBe brief.\n</INSTRUCTIONS>",
        "[read_file for 'a.py'] Result:\nx = 1",
        "Continue if you have next steps, or stop and ask for clarification if you are unsure how to proceed.",
        "I have *added these files to the chat* so you can go ahead and edit them.\n\na.py\n```\nx\n```",
        "This session is being continued from a previous conversation that ran out of context. …",
    ],
)
def test_messages_that_nobody_wrote(text: str) -> None:
    assert person_text(text) == ""
    assert said_in({"role": "user", "content": text})["role"] in ("context", "tool")


@pytest.mark.parametrize(
    "text",
    [
        "What does <details> do in HTML?\n\n<details>\n<summary>a</summary>\n</details>",
        "What is a <task>x</task> tag?",
        "I put <context>my own words</context> into prompts.",
        "```python\nprint(1)\n```\nWhy does this fail?",
        "Title: a book I like\nQuestion of the day: none",
        "<p>My page</p>",
        "- milk\n- [ ] eggs",
        "a < b and c > d",
    ],
)
def test_what_a_person_writes_is_left_whole(text: str) -> None:
    assert person_text(text) == text


def test_the_part_that_the_words_begin_in() -> None:
    content = [{"type": "text", "text": REMINDER}, {"type": "image"}, {"type": "text", "text": SAID}]
    said = said_in({"role": "user", "content": content})
    assert (said["role"], said["content"], said["part"]) == ("user", SAID, 2)


def test_made_up_turns_of_a_client_are_nobodys() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Change area() to use math.pi"},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "I switched to a new code base. Please don't consider the above files."},
        {"role": "assistant", "content": "Ok."},
        {"role": "user", "content": SAID},
        {"role": "assistant", "content": "Poor Tom."},
    ]
    assert [one["content"] for one in said_by_all(messages) if one["role"] in ("user", "assistant")] == [
        SAID,
        "Poor Tom.",
    ]


def test_results_of_tools_under_the_users_name() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": f"<task>\n{SAID}\n</task>"},
        {"role": "assistant", "content": "<read_file>\n<path>a</path>\n</read_file>"},
        {"role": "user", "content": "[read_file for 'a'] Result:\nx"},
    ]
    said = said_by_all(messages)
    assert [one["role"] for one in said] == ["user", "assistant", "tool"]
    assert said[1]["tool_calls"]


def test_instructions_that_a_client_repeats_behind_the_words() -> None:
    # aider, in its "whole" format: what stands in the system message stands behind the words once more
    reminder = "To change a file you MUST return all of it, in this form:\n\npath/name.js\n```\n// all\n```\n\n" * 2
    system = {"role": "system", "content": f"Act as a developer.\n\n{reminder}"}
    words = f"{SAID}\n\nShe is five."
    told = said_by_all([system, {"role": "user", "content": f"{words}\n\n{reminder}"}])
    assert told[-1]["content"] == words
    alone = said_by_all([{"role": "user", "content": f"{words}\n\n{reminder}"}])
    assert "MUST return" in alone[-1]["content"]
    # a few words that the instructions have too are the person's
    few = said_by_all(
        [{"role": "system", "content": "Act.\n\nReply in English."}, user(f"{SAID}\n\nReply in English.")]
    )
    assert few[-1]["content"] == f"{SAID}\n\nReply in English."
    # and what is nothing else is not taken for nothing
    assert said_by_all([system, user(reminder)])[-1]["content"].strip() == reminder.strip()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
