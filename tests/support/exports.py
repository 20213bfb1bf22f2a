"""Exports of other programs in miniature, with the fields that theirs have."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from membank_llama.core.types import NewMemory
from membank_llama.memory.imports.export_kinds import FoundExport, read_document
from membank_llama.memory.imports.import_plan import Findings, ImportPlan, plan_import
from membank_llama.memory.imports.import_report import ImportReport

BEGAN = 1_735_000_000.0
"""24 December 2024."""
NOW = 1_760_000_000.0


def gpt_message(role: str, *parts: Any, at: float | None = None, **more: Any) -> dict[str, Any]:
    content = {"content_type": more.pop("kind", "text"), "parts": list(parts)}
    return {"id": "m", "author": {"role": role}, "create_time": at, "content": content, "metadata": {}, **more}


def gpt_chat(
    messages: Sequence[dict[str, Any] | None], *, title: str | None = "Boats", key: str = "68c1-0001", **more: Any
) -> dict[str, Any]:
    """A conversation in which every message follows the one before."""
    mapping = {
        f"n{place}": {
            "id": f"n{place}",
            "message": message,
            "parent": f"n{place - 1}" if place else None,
            "children": [f"n{place + 1}"] if place + 1 < len(messages) else [],
        }
        for place, message in enumerate(messages)
    }
    chat = {"title": title, "create_time": BEGAN, "conversation_id": key, "mapping": mapping}
    return {**chat, "current_node": f"n{len(messages) - 1}", **more}


def claude_chat(messages: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    chat = {"uuid": "c1", "name": "Boats", "created_at": "2025-01-02T03:04:05.123456Z", "chat_messages": list(messages)}
    return {**chat, **more}


def claude_message(sender: str, text: str, **more: Any) -> dict[str, Any]:
    return {"uuid": text, "sender": sender, "text": text, "created_at": "2025-01-02T03:04:06Z", **more}


def ollama_database(path: Path) -> Path:
    """Tables as Ollama's app makes them, as far as they are read."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            """
            CREATE TABLE chats (id TEXT PRIMARY KEY, title TEXT NOT NULL DEFAULT '', created_at TIMESTAMP NOT NULL);
            CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, chat_id TEXT NOT NULL, role TEXT NOT NULL,
                content TEXT NOT NULL DEFAULT '', thinking TEXT NOT NULL DEFAULT '', created_at TIMESTAMP NOT NULL);
            CREATE TABLE attachments (id INTEGER PRIMARY KEY, message_id INTEGER, filename TEXT, data BLOB);
            INSERT INTO chats VALUES ('o1', 'Boats', '2025-08-01 12:00:00');
            INSERT INTO messages (chat_id, role, content, thinking, created_at) VALUES
                ('o1', 'user', 'My canoe is green.', '', '2025-08-01 12:00:00.123456789+02:00'),
                ('o1', 'assistant', 'A green canoe it is.', 'Let me think', '2025-08-01 10:00:02'),
                ('o1', 'tool', 'result', '', '2025-08-01 10:00:02'),
                ('o1', 'user', '', '', '2025-08-01 10:00:02');
            INSERT INTO attachments VALUES (1, 1, 'boat.png', x'00');
            """
        )
    return path


def found(document: Any, name: str = "conversations.json") -> tuple[FoundExport, ImportReport]:
    report = ImportReport(NOW)
    export = read_document(json.loads(json.dumps(document)), name, report)
    assert export is not None
    return export, report


def planned(document: Any, name: str = "conversations.json", **options: Any) -> ImportPlan:
    export, report = found(document, name)
    return plan_import(Findings(name, (export,), report), **options)


def said(memories: Sequence[NewMemory]) -> list[tuple[str, str]]:
    return [(memory.role, memory.text) for memory in memories]
