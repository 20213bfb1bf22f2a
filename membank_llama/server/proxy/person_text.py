"""What in a user message a person wrote, and what a client put around it.

Agents and interfaces send much under the user's name: reminders, the state of an editor, the text of attached files,
results of tools, a template around the question. Only the person's own words are recalled by and remembered. What is
known as a client's is told by its form: sections with tags that such programs use, files in fences that name them, a
template with a context in it. Whatever else a message holds is taken to be the person's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from membank_llama.memory.prompt_block import strip_block

MOST_CHARACTERS = 1024 * 1024
"""Of a message that is taken apart; of what is longer all is taken to be the person's."""

_MOST_COMPARED, _MOST_PARAGRAPHS, _LEAST_REPEATED = 32 * 1024, 64, 120
"""Characters of a message that is compared with the instructions, how many of its paragraphs are, and characters of
what is held to be a repetition."""

_ASKED = re.compile(
    r"<(user_query|user_message|user-message|userRequest|user_request|user_input|user-input|task|feedback|answer)>\n?"
)
"""Tags around the person's words."""
_NOT_SAID = re.compile(
    r"<([A-Z]+(?:_[A-Z]+){1,4}|skill|file|bash-[a-z]+|info-msg|(?:[a-z]+[_-]){1,4}(?:context|environment|reminder"
    r"|instructions?|details|workspace|editor|attachments?|files?"
    r"|selection|cursor|rules|skills?|stdout|stderr|caveat|info|documents?|state|history|contents?|name|message|args"
    r"|date|memories|tools?|diagnostics|symbols?|threads?|data|spec|tabs?|blocks?|commands?|action|notification|results?)"
    r"|context|attachments?|environment|caveat|INSTRUCTIONS|selectedText|currentFile|cursorRules"
    r"|(?:environment|reminder|workspace|editor|repo|user|project|task|attached)(?:Info|Instructions|Context|Details))"
    r"(?: [^<>\n]{0,400})?>"
)
"""The opening tag of a section that a client writes; it counts at the beginning of a line."""
_FENCE = re.compile(r"^(`{3,}|~{3,})[^\n`]{0,40}?[^\s`]*[\w-][./\\][\w./\\ -]*[^\n`]{0,80}\n", re.MULTILINE)
"""The head of a fence that names a file."""
_INDENT = 80
_HEADED = re.compile(r"\A\s*(?:#|\*\*|You are|Use the |Answer )")
_TEMPLATE = re.compile(
    r"\A\s*(?:#|\*\*)[^\n]{0,200}\n|\A\s*(?:Please )?(?:answer|respond|use)\b[^\n]{0,200}\b(?:context|reference"
    r"|provided)",
    re.IGNORECASE,
)
_RESULT = re.compile(r"\A\s*\[[a-z][\w-]{2,40}(?: for '[^'\n]{0,4000}')?\] Result:")
"""How the result of a tool begins where clients send it as a user's message."""
_TAIL = re.compile(r"\n(?:<!-- SYSTEM CONTEXT|# \*[^*\n]{3,60}\* Rules:|# task_progress\b)")
"""What is put behind the words, to the end of the message."""
_HEAD = re.compile(r"\A\s*(?:Use the following (?:file|code|context)[^\n]{0,60} as context:|# task_progress\b[^\n]*)\n")
_QUESTION = re.compile(
    r"^(?:#{1,4} |\*\*)?(?:My (?:question|request)(?: is| for [\w ]{1,20})?"
    r"|User (?:query|question|input|request)|Question|Query)(?:\*\*)?: *\n*",
    re.MULTILINE,
)
_NEXT_PART = re.compile(r"\n(?:#{1,4} |\*\*|Answer:|Please respond)")
_SWITCH = re.compile(r"\A\s*I switched to a new code base\.")
_ATTACHED = re.compile(r"\A\s*Attached document\(s\):\s*```")
_MENTION = re.compile(r"\[@([^\]\n]{1,200})\]\([a-z]{2,16}://[^)\s]{0,600}\)")
_CLIENTS = re.compile(
    r"\A\s*(?:# AGENTS\.md instructions\b|This session is being continued from a previous"
    r"|Caveat: The messages below|\[Request interrupted by user|I have \*added these files to the chat\*"
    r"|Here are summaries of some files present in my git repo|Here are some READ ONLY files|Here are the \*read-only"
    r"|I switched to a new code base\.|I am not sharing any files that you can edit"
    r"|\[(?:ERROR|Response interrupted)|No files in this chat|Another language model started to solve this problem"
    r"|The following tool was executed by the user"
    r"|Here's (?:a|the) (?:file|document) of [^\n]{1,40} that I'm going to ask you"
    r"|<explicit_instructions\b|Called the \w{1,40} tool with the following input:"
    r"|Continue working toward the active thread goal\.|Continue if you have next steps, or stop and ask"
    r"|This is (?:the )?[A-Z][\w ]{2,30}\. We are setting up the context for our chat)"
)
"""How messages begin that clients write under the user's name."""


def person_text(text: str) -> str:
    """A user message's text without what a client put around it; empty where all of it is a client's."""
    text = strip_block(text)
    if len(text) > MOST_CHARACTERS or not text:
        return text
    if _CLIENTS.match(text):
        return ""
    asked = _asked(text)
    if asked is not None:
        return asked
    if is_tool_result(text):
        return ""
    question = _QUESTION.search(text) if _TEMPLATE.match(text) else None
    if question is not None:
        end = _NEXT_PART.search(text, question.end())
        return text[question.end() : end.start() if end else len(text)].strip()
    kept = _without_files(_without_sections(text))
    tail = _TAIL.search(kept)
    kept = _MENTION.sub(r"\1", kept[: tail.start()] if tail else kept)
    head = _HEAD.match(kept)
    if head:
        kept = kept[head.end() :]
    return kept.strip() if len(kept) != len(text) else text


def without_instructions(text: str, instructions: str) -> str:
    """A user message without paragraphs at its end that stand in the instructions too: a client repeats them there."""
    if len(text) > _MOST_COMPARED:
        return text
    end = len(text)
    for _ in range(_MOST_PARAGRAPHS):
        at = text.rfind("\n\n", 0, end)
        if at < 0 or text[at:].strip() not in instructions:
            break
        end = at
    if len(text) - end < _LEAST_REPEATED or not text[:end].strip():
        return text
    return text[:end]


def is_tool_result(text: str) -> bool:
    """Whether a client sends what a tool gave back in the place of a user's words."""
    return _RESULT.match(text) is not None


def _asked(text: str) -> str | None:
    """What stands between tags for the person's words; None where there are none."""
    sections = list(_sections(text, _ASKED))
    if not sections:
        return None
    outside = text[: sections[0][0]].strip()
    if outside and not any(form.match(outside) for form in (_HEADED, _NOT_SAID, _RESULT)):
        # a person who writes of such tags writes around them
        return None
    return "\n".join(text[opened:closed].strip() for _, opened, closed, _ in sections)


def _sections(text: str, tags: re.Pattern[str]) -> Iterator[tuple[int, int, int, int]]:
    """Where each section begins, its inside begins and ends, and where it ends."""
    at, unclosed = 0, set[str]()
    while (found := tags.search(text, at)) is not None:
        at = found.end()
        name = found[1]
        if name in unclosed or not _is_line_start(text, found.start()):
            continue
        close = text.find(f"</{name}>", at)
        if close < 0:
            unclosed.add(name)
            continue
        yield found.start(), at, close, close + len(name) + 3
        at = close + len(name) + 3


def _is_line_start(text: str, at: int) -> bool:
    before = text[max(0, at - _INDENT) : at]
    return not before.rpartition("\n")[2].strip() and ("\n" in before or at <= _INDENT)


def _without_sections(text: str) -> str:
    """The text without a client's sections, and without the template around the last of them."""
    kept: list[str] = []
    at = 0
    headed = _HEADED.match(text) is not None
    for start, opened, _, end in _sections(text, _NOT_SAID):
        kept.append(text[at:start])
        at = end
        if headed and text.startswith("<context", start) and opened > start and text[end:].strip():
            # instructions, a context, and then the question
            kept = []
    return "".join(kept) + text[at:]


def _without_files(text: str) -> str:
    attached = _ATTACHED.match(text)
    if attached is not None:
        # what is attached stands ahead of the words, fence by fence
        return text[text.rfind("\n```") + 4 :]
    kept: list[str] = []
    at = 0
    while (found := _FENCE.search(text, at)) is not None:
        close = text.find(f"\n{found[1]}", found.end() - 1)
        if close < 0:
            break
        kept.append(text[at : found.start()])
        at = close + 1 + len(found[1])
    return "".join(kept) + text[at:]


def said_in(message: Mapping[str, Any], kinds: Sequence[str] = ("text",)) -> dict[str, Any]:
    """A user message as what the person said in it.

    Returns:
        Its role and its text as ``content``; ``part``: the part of a list that the words begin in. The role is ``tool``
        where the message is the result of one, ``context`` where the person says nothing in it; ``switches``: what
        came before was made up.
    """
    content = message.get("content")
    if isinstance(content, str):
        said = person_text(content)
        return {"role": _role(said, content), "content": said, "switches": _SWITCH.match(content) is not None}
    texts = {
        place: part["text"]
        for place, part in enumerate(content if isinstance(content, list) else ())
        if isinstance(part, dict) and part.get("type") in kinds and isinstance(part.get("text"), str)
    }
    asked = {place: found for place, text in texts.items() if (found := _asked(text)) is not None}
    if not asked and any(map(is_tool_result, texts.values())):
        return {"role": "tool", "content": "", "part": 0}
    parts = asked or {place: said for place, text in texts.items() if (said := person_text(text)).strip()}
    return {"role": "user" if parts else "context", "content": "\n".join(parts.values()), "part": min(parts, default=0)}


def _role(said: str, content: str) -> str:
    if said.strip() or not content.strip():
        return "user"
    return "tool" if is_tool_result(content) else "context"
