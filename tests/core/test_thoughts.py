"""Thoughts in every way of writing them: left out of a reply, told apart as they stream, and tags that are words."""

from __future__ import annotations

import pytest

from membank_llama.core.thoughts import (
    BARE_CHANNELS,
    HARMONY,
    TAGS,
    THINK,
    ThoughtStream,
    ThoughtTag,
    begins_thought,
    is_quoted_so_far,
    tag_of,
    without_thoughts,
)

GUESS, SAID = "They might live in Reykjavik.", "Garage 12."
CHANNELS = f"<|channel|>analysis<|message|>{GUESS}<|end|><|start|>assistant<|channel|>final<|message|>{SAID}"


@pytest.mark.parametrize("tag", TAGS, ids=lambda tag: tag.opening)
@pytest.mark.parametrize(
    "form",
    [
        "{open}{guess}{close}{said}",
        "{open}\n{guess}\n\nSo 12.\n{close}\n\n{said}",
        "\n {open} {guess} {close} {said}",
        "{open}{guess}{close}\n{open}\n{guess}\n{close}\n{said}",
        "{open}{close}{said}",
        "{guess}\n{close}\n\n{said}",
        "{guess}{close}{said}",
        "{guess}{close}\n{open}more{close}{said}",
        "{open}\nThe person writes `{close}` here.\n{close}\n{said}",
        '{open}\nA tag "{close}", and code:\n```\n{close}\n```\n{close}\n{said}',
        "{open}\nCode that never ends:\n```\n{guess}\n{close}\n{said}",
        "The prompt speaks of `{open}`.\n{close}\n{said}",
    ],
)
def test_a_thought_is_left_out(tag: ThoughtTag, form: str) -> None:
    reply = form.format(open=tag.opening, close=tag.closing, guess=GUESS, said=SAID)
    assert without_thoughts(reply) == SAID


@pytest.mark.parametrize("tag", TAGS, ids=lambda tag: tag.opening)
def test_what_broke_off_within_a_thought_says_nothing(tag: ThoughtTag) -> None:
    for reply in (f"{tag.opening}{GUESS}", f"{tag.opening}a{tag.closing}{tag.opening}\n{GUESS}", tag.opening):
        assert without_thoughts(reply) == ""
    assert without_thoughts(GUESS, begun=True) == ""
    assert without_thoughts(f"{GUESS}{tag.closing}{SAID}", begun=True) == SAID


@pytest.mark.parametrize(
    "reply",
    [
        "Reasoning models write a <think> tag before they answer. Garage 12.",
        "Write this:\n```xml\n<think>\n  hello\n</think>\n```\nGarage 12.",
        "Write this:\n<think>\n  hello\n</think>\nGarage 12.",
        "```\n<thinking>\n```\nGarage 12.",
        "As in `<think>x</think>`: garage 12.",
        "`</think>` is how a thought ends. Garage 12.",
        'The tag "</think>" ends it. Garage 12.',
        "End a thought with </think>, then say: garage 12.",
        "It ends with </think>",
        "Put it between <reasoning> and </reasoning> tags.",
        "<think> and </think> are the tags. Garage 12.",
        "Mistral uses [THINK] and [/THINK] for it.",
        "“◁/think▷” is how Kimi ends one.",
        "An `<|channel|>analysis<|message|>` stands ahead of it.",
        "An analysis of the final assistantfinal word.",
        "analysisResult holds the garage.",
        "a < b and b > a",
        "",
    ],
)
def test_a_tag_that_is_spoken_of_is_text(reply: str) -> None:
    assert without_thoughts(reply) == reply
    stream = ThoughtStream()
    if not reply.startswith("<think>"):
        pieces = [stream.push(letter) for letter in reply]
        assert "".join(words for _, words in [*pieces, stream.end()]) == reply


def test_a_thought_between_paragraphs_is_left_out() -> None:
    assert without_thoughts(f"Let me see.\n\n<think>\n{GUESS}\n</think>\n\n{SAID}") == f"Let me see.\n\n{SAID}"
    assert without_thoughts(f"Garage 12.\n<think>\n{GUESS}") == SAID
    assert without_thoughts("Garage 12.\n<think> is a tag.") == "Garage 12.\n<think> is a tag."


def test_channels() -> None:
    assert without_thoughts(CHANNELS) == without_thoughts(f"{CHANNELS}<|return|>") == SAID
    assert without_thoughts(f"<|start|>assistant{CHANNELS}") == SAID
    assert without_thoughts("<|channel|>analysis<|message|>broke off") == ""
    # where control tokens are not shown
    assert without_thoughts(f"analysis{GUESS}assistantfinal{SAID}") == SAID
    assert without_thoughts("analysisWe need to think") == ""


@pytest.mark.parametrize(
    ("template", "tag"),
    [
        (None, None),
        ("{{ messages }}", None),
        ("{% if '</think>' in content %}{% endif %}", THINK),
        ("{% if enable_thinking %}{% endif %}", THINK),
        ("{{ '[THINK]' }}", TAGS[1]),
        ("{% set begin = '<seed:think>' %}", TAGS[3]),
        ("<|start|>assistant<|channel|>analysis<|message|>", HARMONY),
        ("{{ '<thought>' }}", ThoughtTag("<thought>", "</thought>")),
        ("{{ '◁/think▷' }}", ThoughtTag("◁think▷", "◁/think▷")),
    ],
)
def test_a_template_says_how_its_model_thinks(template: str | None, tag: ThoughtTag | None) -> None:
    assert tag_of(template) == tag


@pytest.mark.parametrize("tag", [*TAGS, HARMONY], ids=lambda tag: tag.opening)
def test_a_prompt_that_ends_within_a_thought(tag: ThoughtTag) -> None:
    assert begins_thought(f"<|im_start|>assistant\n{tag.opening}\n")
    assert begins_thought(f"<|Assistant|>{tag.opening}")
    assert not begins_thought(f"What is {tag.opening}")
    assert not begins_thought(f"{tag.opening}\n\n{tag.closing}\n\n")
    assert not begins_thought("<|im_start|>assistant\n")


def streamed(text: str, size: int, **given: object) -> tuple[str, str]:
    stream = ThoughtStream(**given)  # type: ignore[arg-type]
    told = [stream.push(text[at : at + size]) for at in range(0, len(text), size)]
    told.append(stream.end())
    return "".join(thought for thought, _ in told), "".join(words for _, words in told)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize("tag", TAGS, ids=lambda tag: tag.opening)
def test_a_stream_is_told_apart_however_it_is_cut(tag: ThoughtTag, size: int) -> None:
    reply = f" \n{tag.opening}{GUESS}{tag.closing}\n\n{SAID} And <{tag.opening}>."
    assert streamed(reply, size) == (GUESS, f"{SAID} And <{tag.opening}>.")
    assert streamed(f"{GUESS}{tag.closing}{SAID}", size, begun=True, tag=tag) == (GUESS, SAID)
    two = f"{tag.opening}a{tag.closing}{tag.opening}b `{tag.closing}` c{tag.closing}{SAID}"
    assert streamed(two, size) == (f"ab `{tag.closing}` c", SAID)
    assert streamed(f"{tag.opening}{GUESS}{tag.closing[:3]}", size) == (f"{GUESS}{tag.closing[:3]}", "")
    assert streamed(f"  {tag.opening[:3]} is no tag", size) == ("", f"  {tag.opening[:3]} is no tag")
    assert streamed(f"  {tag.opening[:2]}", size) == ("", f"  {tag.opening[:2]}")


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_channels_are_told_apart_as_they_stream(size: int) -> None:
    assert streamed(CHANNELS, size) == (GUESS, SAID)
    bare = f"{BARE_CHANNELS.opening}{GUESS}{BARE_CHANNELS.closing}{SAID}"
    assert streamed(bare, size, tag=HARMONY) == (GUESS, SAID)
    assert streamed(bare, size) == ("", bare)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("a `", True), ("`a`", False), ('say "', True), ('"a"', False), ("don't '", True), ("dogs'", False), ("“", True)],
)
def test_what_comes_next_may_be_quoted(text: str, quoted: bool) -> None:
    assert is_quoted_so_far(text) is quoted
