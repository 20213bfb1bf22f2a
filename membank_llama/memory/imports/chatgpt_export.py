"""ChatGPT's `conversations.json`: each conversation a tree of messages under `mapping`, of which `current_node` names
the last that was shown.

Of a message the parts that are text are taken, and the words of what was spoken. Left out are system messages, what
passed between the model and its tools, thoughts, and the custom instructions that stand ahead of every conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from .import_report import ATTACHED, BRANCHES, HIDDEN, SYSTEM, THINKING, TOOLS, UNREADABLE, ImportReport
from .imported_conversation import (
    MODEL,
    PERSON,
    ImportedConversation,
    ImportedMessage,
    dict_field,
    entries_read,
    list_field,
    messages_read,
    text_field,
)
from .message_tree import shown_branch
from .told_times import told_at

_REASONS = {
    "thoughts": THINKING,
    "reasoning_recap": THINKING,
    "user_editable_context": "custom instructions",
    "model_editable_context": "custom instructions",
    "execution_output": TOOLS,
    "code": TOOLS,
}
_SPOKEN = "audio_transcription"
_MARK = re.compile(
    "\ue200([a-z_]*)\ue202?([^\ue200\ue201]*)\ue201|[\ue200-\ue202]|【\\d{1,4}(?::\\d{1,4})?†[^【】]{0,200}】"
)
"""What the page shows as a link: a source, or a name in the text with what it is, behind a kind."""


def is_chatgpt(entry: Any) -> bool:
    """Whether an entry is a conversation of ChatGPT's."""
    return isinstance(entry, dict) and isinstance(entry.get("mapping"), dict)


def read_chatgpt(entries: Sequence[Any], name: str, report: ImportReport) -> Iterator[ImportedConversation]:
    """Conversations of an export."""
    for entry in entries_read(entries, is_chatgpt, name, report):
        title = text_field(entry, "title")
        key = text_field(entry, "conversation_id", "id")
        began = told_at(entry.get("create_time"), report, title or key)
        nodes = entry["mapping"]
        branch = shown_branch(nodes, entry.get("current_node"), _parent, _time)
        report.leave_out(BRANCHES, title, sum(map(_says, nodes.values())) - sum(map(_says, branch)))
        messages = (_message(node.get("message"), title or key, report) for node in branch if isinstance(node, dict))
        yield ImportedConversation(key, title, messages_read(messages), began)


def _parent(node: Any) -> Any:
    return node.get("parent") if isinstance(node, dict) else None


def _time(node: Any) -> Any:
    return dict_field(node, "message").get("create_time")


def _says(node: Any) -> bool:
    message = dict_field(node, "message")
    parts = list_field(dict_field(message, "content"), "parts")
    said = any(isinstance(part, str) and part.strip() for part in parts)
    return said and dict_field(message, "author").get("role") in (PERSON, MODEL)


def _message(message: Any, where: str, report: ImportReport) -> ImportedMessage | None:
    if not isinstance(message, dict):
        # the root of the tree
        return None
    content, role = dict_field(message, "content"), dict_field(message, "author").get("role")
    reason = _reason(message, content, role)
    if reason is not None:
        if _has_something(content):
            report.leave_out(reason, where)
        return None
    text = _text(content, where, report)
    if not text:
        return None
    return ImportedMessage(text, str(role), told_at(message.get("create_time"), report, where))


def _reason(message: dict[str, Any], content: dict[str, Any], role: Any) -> str | None:
    """Why a message is left out; None where it is not."""
    kind = content.get("content_type", "text")
    if isinstance(kind, str) and kind in _REASONS:
        return _REASONS[kind]
    if role == "system":
        return SYSTEM
    if role == "tool" or message.get("recipient") not in (None, "all", "assistant"):
        return TOOLS
    if role not in (PERSON, MODEL):
        return UNREADABLE
    if dict_field(message, "metadata").get("is_visually_hidden_from_conversation") is True:
        return HIDDEN
    return None if kind in ("text", "multimodal_text") else f"messages of the kind {str(kind)[:40]!r}"


def _has_something(content: dict[str, Any]) -> bool:
    return any(list_field(content, "parts")) or any(value for key, value in content.items() if key != "content_type")


def _text(content: dict[str, Any], where: str, report: ImportReport) -> str:
    said = []
    for part in list_field(content, "parts"):
        if isinstance(part, str):
            said.append(part)
        elif isinstance(part, dict) and part.get("content_type") == _SPOKEN and isinstance(part.get("text"), str):
            said.append(part["text"])
        elif part:
            report.leave_out(ATTACHED, where)
    return _MARK.sub(_shown_of, "\n".join(one for one in said if one.strip())).strip()


def _shown_of(mark: re.Match[str]) -> str:
    """The words of a mark that are a part of the sentence: of `entity["city", "Porto", …]` the name, of a link its
    text."""
    if mark[1] == "entity":
        with suppress(ValueError, RecursionError):
            said = json.loads(mark[2])
            return said[1] if isinstance(said, list) and len(said) > 1 and isinstance(said[1], str) else ""
    return mark[2].partition("\ue202")[0] if mark[1] == "url" else ""
