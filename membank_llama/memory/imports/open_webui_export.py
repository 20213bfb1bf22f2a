"""Open WebUI's export of chats: `chat` with a list of messages, or with a tree of them and the id of the last.

What a model thought or called stands in the text of its reply as a folded block, and is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from membank_llama.memory.conversation_keys import text_of

from .import_report import ATTACHED, BRANCHES, SYSTEM, THINKING, TOOLS, UNREADABLE, ImportReport
from .imported_conversation import (
    MODEL,
    PERSON,
    ImportedConversation,
    ImportedMessage,
    dict_field,
    entries_read,
    list_field,
    text_field,
    time_field,
)
from .message_tree import shown_branch
from .told_times import told_at

_FOLD = re.compile(r"<details\b[^<>]{0,400}>?|</details>")
_MACHINE = re.compile(r'type="(reasoning|tool_calls|code_interpreter)"')
_LEFT_OUT = {"system": SYSTEM, "tool": TOOLS}


def is_open_webui(entry: Any) -> bool:
    """Whether an entry is a chat of Open WebUI's, with what is known of it around it or without."""
    chat = _chat(entry)
    return bool(dict_field(dict_field(chat, "history"), "messages")) or bool(
        isinstance(entry, dict) and isinstance(entry.get("chat"), dict) and isinstance(chat.get("messages"), list)
    )


def _chat(entry: Any) -> dict[str, Any]:
    found = dict_field(entry, "chat")
    return found or (entry if isinstance(entry, dict) else {})


def read_open_webui(entries: Sequence[Any], name: str, report: ImportReport) -> Iterator[ImportedConversation]:
    """Chats of an export."""
    for entry in entries_read(entries, is_open_webui, name, report):
        chat = _chat(entry)
        title = text_field(entry, "title") or text_field(chat, "title")
        key = text_field(entry, "id") or text_field(chat, "id")
        began = entry.get("created_at") or chat.get("timestamp")
        messages = read_messages(_shown(chat, title or key, report), title or key, report)
        yield ImportedConversation(key, title, tuple(messages), told_at(began, report, title or key))


def _shown(chat: dict[str, Any], where: str, report: ImportReport) -> list[Any]:
    history = dict_field(chat, "history")
    nodes = dict_field(history, "messages")
    if not nodes:
        return list_field(chat, "messages")
    branch = shown_branch(nodes, history.get("currentId"), _parent, _time)
    report.leave_out(BRANCHES, where, len(nodes) - len(branch))
    return branch


def _parent(node: Any) -> Any:
    return node.get("parentId") if isinstance(node, dict) else None


def _time(node: Any) -> Any:
    return node.get("timestamp") if isinstance(node, dict) else None


def read_messages(messages: Sequence[Any], where: str, report: ImportReport) -> Iterator[ImportedMessage]:
    """Messages with a `role` and a `content`, as most programs write them."""
    for message in messages:
        role = text_field(message, "role")
        if role not in (PERSON, MODEL):
            report.leave_out(_LEFT_OUT.get(role, UNREADABLE), where)
            continue
        content = message.get("content")
        others = [part for part in content if not text_of([part])] if isinstance(content, list) else []
        report.leave_out(ATTACHED, where, len(others) + len(list_field(message, "files")))
        text = _unfolded(text_of(content), where, report) if role == MODEL else text_of(content)
        if text.strip():
            yield ImportedMessage(text.strip(), role, told_at(time_field(message), report, where))


def _unfolded(text: str, where: str, report: ImportReport) -> str:
    """A reply without its folded blocks; what broke off within one says nothing."""
    kept, end, depth = [], 0, 0
    for mark in _FOLD.finditer(text):
        closes = mark[0].startswith("</")
        if depth:
            depth += -1 if closes else 1
            end = mark.end()
        elif not closes and (kind := _MACHINE.search(mark[0])):
            kept.append(text[end : mark.start()])
            report.leave_out(THINKING if kind[1] == "reasoning" else TOOLS, where)
            depth = 1
    return "".join(kept if depth else [*kept, text[end:]]) if kept else text
