"""What Ollama keeps: the lines typed into `ollama run`, and the chats of its app, a SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from membank_llama.core.types import NewMemory
from membank_llama.store.foreign_tables import has_tables, read_table

from .import_report import ATTACHED, SYSTEM, THINKING, TOOLS, UNREADABLE, ImportReport
from .imported_conversation import MODEL, PERSON, ImportedConversation, ImportedMessage
from .told_times import told_at

OLLAMA = "ollama"
_TABLES = {
    "chats": ("id", "title", "created_at"),
    "messages": ("id", "chat_id", "role", "content", "created_at"),
}
_LEFT_OUT = {"system": SYSTEM, "tool": TOOLS}


def is_ollama_database(path: Path) -> bool:
    """Whether a file is the database of Ollama's app."""
    return has_tables(path, _TABLES)


def read_ollama_database(path: Path, report: ImportReport) -> Iterator[ImportedConversation]:
    """The chats of the app; its times are UTC where they name no zone."""
    said: dict[Any, list[ImportedMessage]] = {}
    titles = {row["id"]: str(row["title"] or "") for row in read_table(path, "chats", _TABLES["chats"])}
    for row in read_table(path, "messages", (*_TABLES["messages"], "thinking")):
        where = titles.get(row["chat_id"], "") or str(row["chat_id"])
        role, text = row["role"], row["content"]
        if role not in (PERSON, MODEL) or not isinstance(text, str):
            report.leave_out(_LEFT_OUT.get(role, UNREADABLE), where)
            continue
        if row.get("thinking"):
            report.leave_out(THINKING, where)
        if text.strip():
            message = ImportedMessage(text.strip(), role, told_at(row["created_at"], report, where))
            said.setdefault(row["chat_id"], []).append(message)
    for _ in read_table(path, "attachments", ("id",)):
        report.leave_out(ATTACHED, path.name)
    for row in read_table(path, "chats", _TABLES["chats"]):
        began = told_at(row["created_at"], report, titles[row["id"]])
        yield ImportedConversation(str(row["id"]), titles[row["id"]], tuple(said.get(row["id"], ())), began)


def is_prompt_history(path: Path) -> bool:
    """Whether a file is where `ollama run` keeps what was typed: such lines have no shape of their own."""
    return path.name == "history" and not path.suffix


def read_prompt_history(text: str, when: float | None, report: ImportReport) -> Iterator[NewMemory]:
    """What was typed, a line each; neither times nor replies are kept there."""
    for line in text.splitlines():
        prompt = line.strip()
        if prompt.startswith("/") and " " not in prompt.partition(" ")[0]:
            report.leave_out("commands of the program", prompt)
        elif prompt:
            yield NewMemory(prompt, role=PERSON, source=OLLAMA, created_at=when)
