"""Plain lists of messages with `role` and `content`, alone or under `messages`, as scripts and small programs keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .import_report import UNREADABLE, ImportReport
from .imported_conversation import ImportedConversation, list_field, text_field, time_field
from .open_webui_export import read_messages
from .told_times import told_at


def is_message_list(entry: Any) -> bool:
    """Whether an entry is a conversation written as a list of messages."""
    messages = entry if isinstance(entry, list) else list_field(entry, "messages")
    return bool(messages) and all(isinstance(one, dict) and {"role", "content"} <= one.keys() for one in messages)


def read_message_lists(entries: Sequence[Any], name: str, report: ImportReport) -> Iterator[ImportedConversation]:
    """Conversations, of which one without a title is called as its file."""
    for number, entry in enumerate(entries, start=1):
        if not is_message_list(entry):
            report.leave_out(UNREADABLE, name)
            continue
        messages = entry if isinstance(entry, list) else entry["messages"]
        title = text_field(entry, "title", "name") or (name if len(entries) == 1 else f"{name} {number}")
        key = text_field(entry, "id", "uuid") or title
        said = tuple(read_messages(messages, title, report))
        yield ImportedConversation(key, title, said, told_at(time_field(entry), report, title))
