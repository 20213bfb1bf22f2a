"""LM Studio's `conversations/*.conversation.json`: of every message the versions, and which of them is shown.

A reply is made of steps, some of which are thoughts or calls. The format is LM Studio's own and written down nowhere:
this is what its files of 2024 to 2026 hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from .import_report import ATTACHED, BRANCHES, SYSTEM, THINKING, TOOLS, UNREADABLE, ImportReport
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
from .told_times import told_at

_SUFFIX = ".conversation.json"
_STEP = re.compile(r"(\d{13})-")
"""The identifier of a step begins with its time in milliseconds."""


def is_lm_studio(entry: Any) -> bool:
    """Whether an entry is a conversation of LM Studio's."""
    messages = list_field(entry, "messages")
    begun = bool(messages) or (isinstance(entry, dict) and {"messages", "createdAt"} <= entry.keys())
    return begun and all(isinstance(one, dict) and isinstance(one.get("versions"), list) for one in messages)


def read_lm_studio(entries: Sequence[Any], name: str, report: ImportReport) -> Iterator[ImportedConversation]:
    """The conversation in a file."""
    for entry in entries_read(entries, is_lm_studio, name, report):
        key = text_field(entry, "id") or name.rpartition("/")[2].removesuffix(_SUFFIX).removesuffix(".json")
        title = text_field(entry, "name", "title")
        began = told_at(entry.get("createdAt"), report, title or key)
        messages = (_message(message, title or key, report) for message in entry["messages"])
        yield ImportedConversation(key, title, messages_read(messages), began)


def _message(message: dict[str, Any], where: str, report: ImportReport) -> ImportedMessage | None:
    versions = [one for one in message["versions"] if isinstance(one, dict)]
    if not versions:
        return None
    place = message.get("currentlySelected")
    chosen = versions[place if type(place) is int and 0 <= place < len(versions) else -1]
    report.leave_out(BRANCHES, where, len(versions) - 1)
    role = text_field(chosen, "role")
    if role not in (PERSON, MODEL):
        report.leave_out(SYSTEM if role == "system" else TOOLS if role == "tool" else UNREADABLE, where)
        return None
    steps = [step for step in list_field(chosen, "steps") if isinstance(step, dict)]
    said = _said(list_field(chosen, "content"), where, report) or [
        text for step in steps if _is_answer(step, where, report)
        for text in _said(list_field(step, "content"), where, report)
    ]  # fmt: skip
    text = "\n".join(said).strip()
    return ImportedMessage(text, role, _time(steps, where, report)) if text else None


def _is_answer(step: dict[str, Any], where: str, report: ImportReport) -> bool:
    """Whether a step is a part of the reply."""
    if step.get("type", "contentBlock") != "contentBlock":
        if step.get("type") not in ("debugInfoBlock", "status"):
            report.leave_out(TOOLS, where)
        return False
    if dict_field(step, "style").get("type") == "thinking":
        report.leave_out(THINKING, where)
        return False
    return True


def _said(parts: Sequence[Any], where: str, report: ImportReport) -> list[str]:
    said = []
    for part in parts:
        text, kind = text_field(part, "text"), text_field(part, "type")
        if kind == "text" and text:
            said.append(text)
        elif kind not in ("", "text"):
            report.leave_out(TOOLS if "tool" in kind.lower() else ATTACHED, where)
    return said


def _time(steps: Sequence[dict[str, Any]], where: str, report: ImportReport) -> float | None:
    for step in steps:
        found = _STEP.match(text_field(step, "stepIdentifier"))
        if found:
            return told_at(int(found[1]), report, where)
    return None
