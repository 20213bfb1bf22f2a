"""How a conversation is laid out for a chat template that does not take it as it is.

Templates want turns to alternate, know no system message or only one at the head, no result of a tool, no text in
parts. What a template takes is left alone; otherwise the messages are merged until it does, each layout giving up more
of their form than the one before, and none of their text. A template may also leave a message out in silence: whoever
asks says of which messages that counts as a refusal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

TemplateMessage = Mapping[str, Any]
T = TypeVar("T")

BETWEEN = "\n\n"
"""What stands between two messages that are made one."""
NOTHING_SAID = "…"
"""The turn of a person who said nothing yet, where the assistant opens the conversation."""
_RESULTS = ("tool", "function")
_NEVER_LOST = ("system", "developer", *_RESULTS)


def first_accepted(
    messages: Sequence[TemplateMessage],
    render: Callable[[list[TemplateMessage]], T],
    prompt_of: Callable[[T], str],
    failures: tuple[type[Exception], ...],
    must_show: Callable[[TemplateMessage], bool],
) -> T:
    """What a template makes of the first layout that it takes; where it takes none, of the first it does not refuse.

    Args:
        render: runs the template.
        prompt_of: the prompt in what that gives.
        failures: how a template refuses messages.
        must_show: of a message, whether its text has to be in the prompt.

    Raises:
        Exception: the first failure, where every layout is refused.
    """
    refused: list[Exception] = []
    made: list[T] = []
    for layout in layouts(messages):
        try:
            result = render(layout)
        except failures as exc:
            refused.append(exc)
            continue
        if _is_shown(prompt_of(result), layout, must_show):
            return result
        made.append(result)
    if not made:
        raise refused[0]
    return made[0]


def layouts(messages: Sequence[TemplateMessage]) -> Iterator[list[TemplateMessage]]:
    """The messages as they are, then what a template may want instead; none of these twice."""
    seen: list[list[TemplateMessage]] = []
    for layout in _layouts(list(messages)):
        for some in _argument_forms(layout):
            if some not in seen:
                seen.append(some)
                yield some


def _layouts(messages: list[TemplateMessage]) -> Iterator[list[TemplateMessage]]:
    yield messages
    if not messages:
        return
    plain = [_plain(message) for message in messages]
    yield plain
    for some in (plain, _without_tools(plain)):
        for merged in (_merged(some), _merged(_one_system(some)), _merged(_without_system(some))):
            yield merged
            yield _opened(merged)


def _plain(message: TemplateMessage) -> TemplateMessage:
    """With its text as a string, and a role that templates know."""
    content, role = message.get("content"), message.get("role")
    made = {**message, "role": "system" if role == "developer" else role}
    if content is None:
        made["content"] = ""
    elif not isinstance(content, str) and all(part.get("type") == "text" for part in _parts(content)):
        made["content"] = "\n".join(content_texts(content))
    return made


def _parts(content: Any) -> list[Mapping[str, Any]]:
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, Sequence) else []


def _merged(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """Messages of one role that follow each other made one, and without those that say nothing."""
    made: list[TemplateMessage] = []
    for place, message in enumerate(messages):
        last = place == len(messages) - 1
        if not message["content"] and not message.get("tool_calls") and message["role"] not in _RESULTS and not last:
            continue
        if made and _may_join(made[-1], message):
            made[-1] = _joined(made[-1], message)
        else:
            made.append(message)
    return made


def _may_join(first: TemplateMessage, second: TemplateMessage) -> bool:
    texts = isinstance(first["content"], str) and isinstance(second["content"], str)
    return texts and first["role"] == second["role"] and first["role"] not in _RESULTS


def _joined(first: TemplateMessage, second: TemplateMessage) -> TemplateMessage:
    said = BETWEEN.join(text for text in (first["content"], second["content"]) if text)
    made = {**first, "content": said}
    calls = [*(first.get("tool_calls") or ()), *(second.get("tool_calls") or ())]
    return {**made, "tool_calls": calls} if calls else made


def _one_system(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """All that the system says at the head."""
    system = [message for message in messages if message["role"] == "system"]
    return [*system, *(message for message in messages if message["role"] != "system")]


def _without_system(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """What the system says in the words of the person, where it stands: merged, the head of what she says next."""
    return [{**message, "role": "user"} if message["role"] == "system" else message for message in messages]


def _opened(messages: list[TemplateMessage]) -> list[TemplateMessage]:
    """With a turn of the person's ahead of the assistant that opens the conversation."""
    first = next((place for place, message in enumerate(messages) if message["role"] != "system"), 0)
    if messages[first]["role"] != "assistant":
        return messages
    return [*messages[:first], {"role": "user", "content": NOTHING_SAID}, *messages[first:]]


def _without_tools(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """Calls in the words of the assistant, and what the tools gave in those of the person."""
    return [_in_words(message) for message in messages]


def _in_words(message: TemplateMessage) -> TemplateMessage:
    if message["role"] in _RESULTS:
        given = "\n".join(content_texts(message["content"]))
        return {"role": "user", "content": f"<tool_response>\n{given}\n</tool_response>"}
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call.get("function") or {}
        told = {"name": function.get("name"), "arguments": _as_object(function.get("arguments"))}
        calls.append(f"<tool_call>{_as_text(told)}</tool_call>")
    made = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**made, "content": "\n".join([*filter(None, content_texts(message["content"])), *calls])}


def _argument_forms(messages: list[TemplateMessage]) -> Iterator[list[TemplateMessage]]:
    """The messages, then with the arguments of calls as text, and as objects."""
    yield messages
    if any(message.get("tool_calls") for message in messages):
        for form in (_as_text, _as_object):
            yield [_with_arguments(message, form) for message in messages]


def _with_arguments(message: TemplateMessage, form: Callable[[Any], Any]) -> TemplateMessage:
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": form(call["function"].get("arguments"))}}
        if isinstance(call.get("function"), Mapping)
        else call
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _as_object(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def content_texts(content: Any) -> list[str]:
    """The texts in a content: a string, or the parts of a list."""
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in _parts(content) if isinstance(part.get("text"), str)]


def of_system_or_tool(message: TemplateMessage) -> bool:
    """Whether it is of a kind that templates leave out in silence."""
    return message.get("role") in _NEVER_LOST


def _is_shown(prompt: str, messages: Sequence[TemplateMessage], must_show: Callable[[TemplateMessage], bool]) -> bool:
    """Whether what must not be lost stands in the prompt, and then no list of parts as Python writes it."""
    marked = [message for message in messages if must_show(message)]
    if marked and any(not isinstance(m.get("content"), str | None) and str(m["content"]) in prompt for m in messages):
        return False
    at = 0
    for message in marked:
        for text in content_texts(message.get("content")):
            said = text.strip()
            # mostly in order, so that a long history is read once
            found = prompt.find(said, at)
            if found < 0 and said not in prompt and json.dumps(said, ensure_ascii=False)[1:-1] not in prompt:
                return False
            at = max(at, found)
    return True
