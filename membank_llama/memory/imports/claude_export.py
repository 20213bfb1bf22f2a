"""Claude's `conversations.json`: each conversation with its `chat_messages`, of a `human` or the `assistant`.

A message has the text that was shown, and newer exports its blocks beside it, of which those of text are taken. Where
messages name the one that they follow, only the branch that was shown last is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from .import_report import ATTACHED, BRANCHES, THINKING, TOOLS, UNREADABLE, ImportReport
from .imported_conversation import (
    MODEL,
    PERSON,
    ImportedConversation,
    ImportedMessage,
    entries_read,
    list_field,
    messages_read,
    text_field,
)
from .message_tree import shown_branch
from .told_times import told_at

_ROLES = {"human": PERSON, "user": PERSON, "assistant": MODEL}
_REASONS = {"thinking": THINKING, "redacted_thinking": THINKING}
_PLACEHOLDER = re.compile(r"```\s{0,4}This block is not supported on your current device yet\.\s{0,4}```")
"""What stands in a text for a block that is none, as a call of a tool."""


def is_claude(entry: Any) -> bool:
    """Whether an entry is a conversation of Claude's."""
    return isinstance(entry, dict) and isinstance(entry.get("chat_messages"), list)


def read_claude(entries: Sequence[Any], name: str, report: ImportReport) -> Iterator[ImportedConversation]:
    """Conversations of an export."""
    for entry in entries_read(entries, is_claude, name, report):
        title, key = text_field(entry, "name", "title"), text_field(entry, "uuid", "id")
        began = told_at(entry.get("created_at"), report, title or key)
        said = _shown(entry, title or key, report)
        messages = (_message(message, title or key, report) for message in said)
        yield ImportedConversation(key, title, messages_read(messages), began)


def _shown(entry: dict[str, Any], where: str, report: ImportReport) -> list[Any]:
    messages = entry["chat_messages"]
    nodes = {one["uuid"]: one for one in messages if isinstance(one, dict) and isinstance(one.get("uuid"), str)}
    linked = [one for one in nodes.values() if isinstance(one.get("parent_message_uuid"), str)]
    if len(nodes) < len(messages) or len(linked) < len(messages):
        # one that names no other stands where it stands
        return list(messages)
    order = {key: place for place, key in enumerate(nodes)}
    branch = shown_branch(
        nodes,
        entry.get("current_leaf_message_uuid"),
        lambda node: node.get("parent_message_uuid"),
        lambda node: order[node["uuid"]],
    )
    report.leave_out(BRANCHES, where, len(messages) - len(branch))
    return branch


def _message(message: Any, where: str, report: ImportReport) -> ImportedMessage | None:
    role = _ROLES.get(text_field(message, "sender", "role"))
    if role is None:
        report.leave_out(UNREADABLE, where)
        return None
    report.leave_out(ATTACHED, where, len(list_field(message, "attachments")) + len(list_field(message, "files")))
    text = _text(message, where, report)
    return ImportedMessage(text, role, told_at(message.get("created_at"), report, where)) if text else None


def _text(message: dict[str, Any], where: str, report: ImportReport) -> str:
    said = []
    for block in list_field(message, "content"):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            said.append(text_field(block, "text"))
        elif isinstance(kind, str):
            report.leave_out(_REASONS.get(kind, TOOLS if "tool" in kind else ATTACHED), where)
    text = "\n\n".join(one for one in said if one) or text_field(message, "text", "content")
    return _PLACEHOLDER.sub("", text).strip()
